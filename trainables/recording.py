"""Records what a confirmed member's network makes of examples: statistics, features, and how its layers see them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor, nn

from losstune.trainables import features as records
from losstune.trainables import robustness, transferred
from losstune.trainables.datasets import Split
from losstune.trainables.disk import DiskError
from losstune.trainables.evaluation import as_memory_allows
from losstune.trainables.feature_statistics import FeatureStatistics, feature_statistics
from losstune.trainables.features import Examples, Features, Layers, Recording
from losstune.trainables.inputs import Inputs
from losstune.trainables.layers import Layer, gram_matrices, layers_of
from losstune.trainables.losses import parts
from losstune.trainables.losses.combine import loss_of
from losstune.trainables.margin import margin_bias
from losstune.trainables.other_data import OWN, OtherData
from losstune.trainables.robustness_recording import RobustnessRecorder
from losstune.trainables.rows import HEAD, Named
from losstune.trainables.seeds import derive
from losstune.trainables.states import evaluated, set_weights
from losstune.trainables.storage import Place
from losstune.trainables.trainer import Stack
from losstune.trainables.transferred import Transferred
from losstune.trainables.trial import Trial

NOTED = {"features": "features are", "robustness": "scores on other test sets are",
         "transfer": "features of other data are"}  # fmt: skip
REMEMBERED = 2**29  # bytes of a split's features that are kept between the two passes over them
Batches = Callable[[], Iterator[tuple[Tensor, Tensor]]]


class Recorder:
    """Records the members of a confirm, one after another, by a network of its own.

    stack: the confirm's. test: inputs of the test split. others: other data, of which prepare makes inputs. Training is
    not touched: neither its networks nor its draws.
    """

    def __init__(self, wanted: Recording, stack: Stack, test: Inputs, others: OtherData | None,
                 prepare: Callable[[Split], Inputs]):  # fmt: skip
        self.wanted, self.stack, self.device = wanted, stack, stack.device
        self.others, self.prepare = others or OtherData(), prepare
        self.inputs = {"train": stack.training, "test": test}
        # The same examples for every loss and seed, and in every study of the same data and split.
        self.full_order = {split: stratified_order(inputs.y.cpu().numpy(), derive("features", split) % 2**32)
                           for split, inputs in self.inputs.items()}  # fmt: skip
        self.order = {**self.full_order, "train": self.full_order["train"][: wanted.train_examples]}
        self._add_transfer()

    def _add_transfer(self) -> None:
        for split, order in self.full_order.items():
            self.inputs[f"{OWN}/{split}"] = self.inputs[split]
            self.order[f"{OWN}/{split}"] = order[: self.others.own_examples]
            for name, data in self.others.transfer.items():
                inputs = self.prepare(getattr(data, split))
                self.inputs[f"{name}/{split}"], self.order[f"{name}/{split}"] = inputs, np.arange(len(inputs))

    def write(self, folder: Place, name: str, loss: str, state: dict[str, Named]) -> dict[str, str]:
        """Record a member of a loss, the trial NAME of the stack, by its parameters and buffers, in a study's folder:
        in features/NAME.npz, robustness/NAME.json and transfer/NAME.npz, as far as they are wanted.

        The sha256 of each file, by its kind; not of what cannot be recorded, which the stack notes. DiskError.
        """
        wanted: dict[str, Callable[[], str]] = {}
        if self.wanted.looks_inside:
            path = folder / "features" / f"{name}.npz"
            wanted["features"] = lambda: records.write(path, self.record(loss, state))
        if self.wanted.corruptions or self.others.shifted:
            scores = folder / "robustness" / f"{name}.json"
            wanted["robustness"] = lambda: robustness.write(scores, self.robustness.measure(name, loss))
        if self.others.own_examples:
            others = folder / "transfer" / f"{name}.npz"
            wanted["transfer"] = lambda: transferred.write(others, self.transferred(state))
        return {kind: digest for kind, work in wanted.items() if (digest := self._written(kind, work)) is not None}

    def _written(self, kind: str, work: Callable[[], str]) -> str | None:
        with self._noting(f"{NOTED[kind]} not recorded"):
            return work()
        return None

    @contextlib.contextmanager
    def _noting(self, what: str) -> Iterator[None]:
        """Have the stack note what fails; DiskError."""
        try:
            yield
        except DiskError:
            raise
        except Exception as error:  # whatever a user's network raises under hooks; the member itself is sound
            self.stack.note(f"{what} ({type(error).__name__}: {' '.join(str(error).split())[:200]})")

    def follow(self, trial: Trial) -> dict[str, list[float]]:
        """What is measured of a confirmed member after the epoch that it has trained, by name, a value per member.

        Of training examples as `Features` has them, hence after the last epoch the measures of its record: those of
        `Curves`, and "margin_bias", the mean of `margin_bias`, NaN for losses whose probabilities are no softmax of
        their logits. Nothing after the epochs between, nor where it cannot be measured, which the stack notes.
        DiskError.
        """
        curves, epoch = self.wanted.curves, self.stack.epoch_of(trial.id)
        if curves is None or (epoch % curves.every and epoch < trial.epochs):
            return {}
        with self._noting("training is not followed"):
            state = evaluated(self.stack.state(trial.id)["members"][0])
            found = self._followed(trial, state["parameters"], state["buffers"])
            return {name: [float(value)] for name, value in found.items()}
        return {}

    @torch.no_grad()
    def _followed(self, trial: Trial, parameters: Named, buffers: Named) -> dict[str, float]:
        set_weights(self.network, parameters, buffers)
        classifier, loss = classifier_of(trial.loss, parameters), loss_of(trial.loss)
        head = {name: parameters[HEAD + name].to(self.device) for name in loss.parameters}

        def measure(size: int) -> dict[str, float]:
            batches = self._remembered("train", size)
            found = self.wanted.curves.measures(
                feature_statistics(batches, self.stack.network.num_classes, *classifier)
            )
            if loss.probabilities != "softmax":
                return {**found, "margin_bias": math.nan}
            total = sum(margin_bias(loss.logits(features, head, trial.hyperparameters), targets).sum().item()
                        for features, targets in batches())  # fmt: skip
            return {**found, "margin_bias": total / len(self.order["train"])}

        return as_memory_allows(self.inputs["train"], measure)

    @cached_property
    def robustness(self) -> RobustnessRecorder:
        order = self.full_order["test"][: self.wanted.corruption_examples]
        return RobustnessRecorder(self.wanted.corruptions, self.stack, self.inputs["test"], order, self.others.shifted,
                                  self.prepare)  # fmt: skip

    @torch.no_grad()
    def transferred(self, state: dict[str, Named]) -> dict[str, Transferred]:
        """Features of a member's own data and of the other data sets."""
        set_weights(self.network, state["parameters"], state["buffers"])
        found = {}
        for name, data in {OWN: None, **self.others.transfer}.items():
            kept = [as_memory_allows(self.inputs[key], partial(self._all_examples, key))
                    for key in (f"{name}/train", f"{name}/test")]  # fmt: skip
            found[name] = Transferred(*kept, "" if data is None else data.digest)
        return found

    def _all_examples(self, split: str, size: int) -> Examples:
        return self._examples(split, partial(self._features, split, size), len(self.order[split]))

    @torch.no_grad()
    def record(self, loss: str, state: dict[str, Named]) -> Features:
        """What is wanted of a member."""
        set_weights(self.network, state["parameters"], state["buffers"])
        weight, bias = classifier_of(loss, state["parameters"])
        return as_memory_allows(self.inputs["test"], partial(self._record, weight, bias))

    def _record(self, weight: Tensor | None, bias: Tensor | None, size: int) -> Features:
        batches = {split: self._remembered(split, size) for split in ("train", "test") if len(self.order[split])}
        statistics: dict[str, FeatureStatistics] = {}
        for split, own in batches.items():
            centers = torch.from_numpy(statistics["train"].class_means) if "train" in statistics else None
            classes = self.stack.network.num_classes
            statistics[split] = feature_statistics(own, classes, weight, bias, centers)
        wanted = {split: self._count(split) for split in batches}
        examples = {split: self._examples(split, batches[split], count) for split, count in wanted.items() if count}
        layers = self._layers(size) if self.wanted.layers else None
        return Features(statistics, examples, layers, None if bias is None else bias.numpy())

    def _count(self, split: str) -> int:
        known = len(self.order[split])
        return known if self.wanted.features is None else min(known, self.wanted.features)

    @cached_property
    def network(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            return self.stack.network.build()[0].to(self.device).eval()

    def _forward(self, x: Tensor) -> Tensor:
        low = self.stack.dtype is not torch.float32
        with torch.autocast(self.device.type, self.stack.dtype, enabled=low):
            return self.network(x)

    def _features(self, split: str, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Features (B, d) float32 and targets (B,) of a split, in the order in which its examples are taken."""
        inputs, order = self.inputs[split], torch.from_numpy(self.order[split])
        for indices in order.split(size):
            self.stack.moved()
            yield self._forward(inputs.at(indices)).float(), inputs.y[indices.to(self.device)]

    def _remembered(self, split: str, size: int) -> Batches:
        """The batches of a split, to be gone through more than once: computed each time where they are many."""
        compute = partial(self._features, split, size)
        if 4 * len(self.order[split]) * self.stack.in_features > REMEMBERED:
            return compute
        batches = list(compute())
        return lambda: iter(batches)

    def _examples(self, split: str, batches: Batches, count: int) -> Examples:
        found, left = [], count
        for features, targets in batches():
            found.append((features[:left].cpu().numpy(), targets[:left].cpu().numpy()))
            left -= len(found[-1][1])
            if not left:
                break
        features, targets = (np.concatenate(part) for part in zip(*found, strict=True))
        fits = np.abs(features).max(initial=0) <= np.finfo(np.float16).max
        return Examples(features.astype(np.float16) if fits else features, targets, self.order[split][:count])

    def _layers(self, size: int) -> Layers:
        indices = self.order["test"][: self.wanted.layers]

        def run() -> None:
            for own in torch.from_numpy(indices).split(size):
                self.stack.moved()
                self._forward(self.inputs["test"].at(own))

        grams, sparsity = gram_matrices(self.network, self._known_layers, run, len(indices), self.device)
        return Layers(np.array([layer.name for layer in self._known_layers]), grams, sparsity, indices)

    @cached_property
    def _known_layers(self) -> list[Layer]:
        return layers_of(self.network, self._forward, self.inputs["test"].at(torch.from_numpy(self.order["test"][:2])))


def stratified_order(targets: np.ndarray, seed: int) -> np.ndarray:
    """The indices of targets (N,) in a random order of which every beginning has the classes in proportion."""
    # Doubles of RandomState, as in splitting.py.
    keys = np.random.RandomState(seed).random_sample(len(targets))
    order, counts = np.lexsort((keys, targets)), np.bincount(targets)
    place, sorted_targets = np.empty(len(targets)), targets[order]
    first = np.cumsum(counts) - counts  # of each class in the order
    place[order] = (np.arange(len(targets)) - first[sorted_targets] + 0.5) / counts[sorted_targets]
    return np.lexsort((keys, place))


def classifier_of(loss: str, parameters: Named) -> tuple[Tensor | None, Tensor | None]:
    """Weight (K, d) and bias (K,) of a final layer that is linear; of a cosine one unit rows and no bias; else None."""
    logits, weight = loss_of(loss).head.logits, parameters.get(f"{HEAD}weight")
    logits = getattr(logits, "part", logits)  # in a combination its hyperparameters may have other names
    if logits is parts.cosine:
        return torch.nn.functional.normalize(weight, dim=1, eps=parts.tiny(weight)), None
    linear = logits in (parts.linear, parts.without_bias)
    return (weight, parameters.get(f"{HEAD}bias")) if linear else (None, None)


def bytes_per_member(wanted: Recording, stack: Stack, n_train: int, n_test: int) -> int:
    """About how large a record becomes: of features in float16, statistics and layers, of so many examples."""
    train, d = min(n_train, wanted.train_examples), stack.in_features
    kept = sum(n if wanted.features is None else min(n, wanted.features) for n in (train, n_test))
    network = stack.network.build()[0].eval()
    layers = layers_of(network, network, stack.validation.at(torch.arange(2)).cpu())
    n = min(n_test, wanted.layers)
    # Of a split's statistics what grows fastest, in float32: within-class scatter, class means; weight once.
    statistics = 4 * ((1 + (train > 0)) * (d * (d + 1) // 2 + stack.network.num_classes * d)
                      + stack.network.num_classes * d)  # fmt: skip
    return kept * (2 * d + 16) + statistics + 2 * n * (n + 1) * (len(layers) if n else 0)
