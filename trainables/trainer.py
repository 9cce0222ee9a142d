"""The only training loop: a stack of trials in, metrics per trial and epoch out. Trials join and leave at epochs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor, nn

from losstune.spaces import InputError
from losstune.trainables import backends
from losstune.trainables.architectures.networks import build_network, split_final_layer
from losstune.trainables.chunk import Chunk, Member
from losstune.trainables.inputs import Inputs, augmented
from losstune.trainables.losses.combine import check_fits, loss_of
from losstune.trainables.recipe import Recipe, cosine
from losstune.trainables.rows import HEAD, Layout, Named
from losstune.trainables.seeds import derive, generator
from losstune.trainables.trial import Trial

EVALUATION_BATCH = 1024  # examples
_MOMENTA = ("momentum", "second_momentum")  # a pass's each
Score = Callable[[np.ndarray, str, np.ndarray], dict[str, list[float]]]


@dataclass(frozen=True)
class Network:
    """What every member trains: name, the text of the user's file if any, input shape, classes, decay of norms."""

    spec: str
    input_shape: tuple[int, ...]
    num_classes: int
    decay_norm: bool = False
    source: str | None = None

    def build(self) -> tuple[nn.Module, int]:
        """A fresh backbone, to penultimate features, and their number."""
        module = build_network(self.spec, self.input_shape, self.num_classes, self.source)
        return split_final_layer(module, self.num_classes)


@dataclass(frozen=True)
class EpochResult:
    """One epoch of one trial. Lists hold a value per member; seconds: its share of the stack's time."""

    epoch: int
    train_loss: list[float]
    scores: dict[str, list[float]]
    finite: list[bool]
    seconds: float


class Stack:
    """Members of one network and data set, of one or many trials, trained together.

    study: the name from which all seeds derive. score: (logits (n, N, K), loss, targets (N,)) -> metrics per member.
    width: how many members there is room for; None: what the backend does best.
    """

    def __init__(
        self, study: str, network: Network, recipe: Recipe, training: Inputs, validation: Inputs, score: Score,
        device: str = "cpu", width: int | None = None,
    ):  # fmt: skip
        self.study, self.network, self.recipe = study, network, recipe
        self.training, self.validation, self.score = training, validation, score
        self.device = torch.device(device)
        backbone, self.in_features = network.build()
        self.backend = backends.choose(backbone)
        self.layout = Layout.of_backbone(backbone, network.decay_norm)
        self.layout_of = lru_cache(maxsize=None)(self._layout_of)
        self.width = width or (32 if self.backend.together else 1)
        self.members: dict[str, list[Member]] = {}
        self.chunks: list[Chunk] | None = []
        self.steps = len(training) // recipe.batch_size
        if self.steps < 1:
            raise InputError(f"recipe.batch_size: {recipe.batch_size} is more than the {len(training)} training "
                             f"examples; allowed: 1 to {len(training)}")  # fmt: skip
        self._initial = lru_cache(maxsize=64 if self.layout.width < 1e6 else 4)(self._initialize)

    def _layout_of(self, loss: str) -> Layout:
        """The layout of a loss's rows: the network, then the loss's final layer and state."""
        check_fits(loss, self.in_features, self.network.num_classes)
        head = loss_of(loss).parameters
        shapes = {HEAD + key: p.shape(self.network.num_classes, self.in_features) for key, p in head.items()}
        return self.layout.extended(shapes, {HEAD + key: p.decays and p.learned for key, p in head.items()})

    def join(self, trial: Trial, state: dict | None = None) -> None:
        """Take a trial in at this epoch boundary: from its start, or from the state that leave or state gave."""
        members, pack = [], partial(self.layout_of(trial.loss).pack, channels_last=self.backend.channels_last)
        for index, seed in enumerate(trial.seeds):
            if state is None:
                named, buffers = self._start(trial, seed)
                parameter, epoch = pack(named), 0
                momentum = torch.zeros(loss_of(trial.loss).passes, len(parameter))
            else:
                saved = state["members"][index]
                parameter, buffers, epoch = pack(saved["parameters"]), saved["buffers"], state["epoch"]
                momentum = torch.stack([pack(saved[key]) for key in _MOMENTA if key in saved])
            members.append(Member(trial, seed, epoch, parameter.to(self.device), momentum.to(self.device), buffers))
        self._keep_buffers()
        self.members[trial.id] = members
        self.chunks = None

    def leave(self, trial_id: str) -> dict:
        """Let a trial go; its state, unstacked, from which any stack can take it up exactly where it was."""
        state = self.state(trial_id)
        del self.members[trial_id]
        self.chunks = None
        return state

    def state(self, trial_id: str) -> dict:
        """A trial's state as plain data: {"epoch", "members": [{"parameters", "momentum", "buffers"}]}.

        A loss of two passes per step has a "second_momentum" too.
        """
        self._keep_buffers()
        members = []
        for m in self.members[trial_id]:
            unpack = partial(self.layout_of(m.trial.loss).unpack, channels_last=self.backend.channels_last)
            momenta = {key: unpack(row) for key, row in zip(_MOMENTA, m.momentum, strict=False)}
            members.append({"parameters": unpack(m.parameter), **momenta, "buffers": m.buffers})
        return {"epoch": self.members[trial_id][0].epoch, "members": members}

    @property
    def free(self) -> int:
        """Places for members that are free."""
        return self.width - sum(map(len, self.members.values()))

    def epoch_of(self, trial_id: str) -> int:
        return self.members[trial_id][0].epoch

    def train_epoch(self) -> dict[str, EpochResult]:
        """Train every member for an epoch and score it on validation; results by trial id."""
        started = time.perf_counter()
        losses: dict[int, Tensor] = {}
        for chunk in self._bound():
            for member, loss in zip(chunk.members, self._train(chunk), strict=True):
                losses[id(member)] = loss
        for member in (m for members in self.members.values() for m in members):
            member.epoch += 1
        scores = self._score(self.validation)
        seconds = time.perf_counter() - started
        passes = {trial_id: len(m) * loss_of(m[0].trial.loss).passes for trial_id, m in self.members.items()}
        share = {trial_id: seconds * n / sum(passes.values()) for trial_id, n in passes.items()}
        return {
            trial_id: EpochResult(
                members[0].epoch, [float(losses[id(m)]) for m in members], scores[trial_id],
                [bool(torch.isfinite(m.parameter.sum())) for m in members], share[trial_id],
            )
            for trial_id, members in self.members.items()
        }  # fmt: skip

    def logits(self, trial_id: str, inputs: Inputs) -> np.ndarray:
        """Transformed logits (members, N, K) of a trial on any inputs."""
        if self.backend.together:
            # A chunk of its own, so that what is measured does not depend on company; the others are bound anew.
            self.chunks = None
            return _evaluate(self._chunk(self.members[trial_id]), inputs)
        own = [chunk for chunk in self._bound() if chunk.members[0].trial.id == trial_id]
        return np.concatenate([_evaluate(chunk, inputs) for chunk in own])

    def _train(self, chunk: Chunk) -> Tensor:
        """One epoch of a chunk; the mean training loss of each member (n,)."""
        order, augment, noise = self._draws(chunk.members)
        progress, rates = self._schedule(chunk.members)
        total = torch.zeros(len(chunk.members), device=self.device)
        for step in range(self.steps):
            x, targets = self.training.batch(order[:, step])
            x = self.training.normalization(augmented(x, self.recipe.augmentation, augment))
            if not self.backend.together:
                # For a network's own draws, such as dropout between its layers, which use torch's global generator.
                member = chunk.members[0]
                torch.manual_seed(derive(self.study, member.trial.phase, member.seed, "network", member.epoch, step))
            total += chunk.step(x, targets, progress[step], rates[step], noise)
        return total / self.steps

    def _schedule(self, members: list[Member]) -> tuple[Tensor, Tensor]:
        """Progress and learning rate at every step of the coming epoch, each (steps, n, 1)."""
        full = self.recipe.epochs * self.steps
        # In Python's floats: a vectorized cosine may round differently at another place of the stack.
        progress = [[(m.epoch * self.steps + step) / full for m in members] for step in range(self.steps)]
        peaks = [m.trial.learning_rate for m in members]
        rates = [list(map(cosine, peaks, row)) for row in progress]
        return tuple(torch.tensor(table, device=self.device).unsqueeze(2) for table in (progress, rates))

    def _draws(self, members: list[Member]) -> tuple[Tensor, list[torch.Generator], list[torch.Generator]]:
        """Order (n, steps, B) and generators of augmentation and dropout, derived from seed and epoch alone."""
        used, size = self.steps * self.recipe.batch_size, len(self.training)
        known: dict[tuple, Tensor] = {}
        for m in members:
            key = (m.trial.phase, m.seed, m.epoch)
            if key not in known:
                draw = torch.randperm(size, generator=generator(self.study, *key[:2], "order", m.epoch))
                known[key] = draw[:used].view(self.steps, -1)
        order = torch.stack([known[(m.trial.phase, m.seed, m.epoch)] for m in members]).to(self.device)
        return order, *(
            [generator(self.study, m.trial.phase, m.seed, purpose, m.epoch) for m in members]
            for purpose in ("augmentation", "dropout")
        )

    def _score(self, inputs: Inputs) -> dict[str, dict[str, list[float]]]:
        """Metrics per trial, a value per member."""
        targets = inputs.y.cpu().numpy()
        logits: dict[int, np.ndarray] = {}
        for chunk in self._bound():
            logits |= {id(m): z for m, z in zip(chunk.members, _evaluate(chunk, inputs), strict=True)}
        return {trial_id: self.score(np.stack([logits[id(m)] for m in members]), members[0].trial.loss, targets)
                for trial_id, members in self.members.items()}  # fmt: skip

    def _bound(self) -> list[Chunk]:
        """The chunks of the members as they are now."""
        if self.chunks is None:
            members = [m for group in self.members.values() for m in group]
            if self.backend.together:
                passes = {id(m): loss_of(m.trial.loss).passes for m in members}
                parts = [[m for m in members if passes[id(m)] == n] for n in sorted(set(passes.values()))]
            else:
                parts = [[m] for m in members]
            self.chunks = [self._chunk(part) for part in parts]
        return self.chunks

    def _chunk(self, members: list[Member]) -> Chunk:
        backend = self._backend()
        if members[0].buffers:
            backend.load_buffers(members[0].buffers)
        return Chunk(members, backend, self.layout_of, self.recipe, self.device)

    def _backend(self) -> backends.Backend:
        return self.backend(self.network.build()[0].to(self.device), self.layout)

    def _keep_buffers(self) -> None:
        """Copy running statistics from the bound networks into their members."""
        for chunk in self.chunks or []:
            if not self.backend.together:
                chunk.members[0].buffers = chunk.backend.buffers()

    def _start(self, trial: Trial, seed: int) -> tuple[Named, Named]:
        """A member's parameters and buffers at the start: the same draws for every loss."""
        named, (weight, bias), buffers = self._initial(trial.phase, seed)
        head = loss_of(trial.loss).start(weight, bias, trial.hyperparameters)
        return {**named, **{HEAD + key: value for key, value in head.items()}}, buffers

    def _initialize(self, phase: str, seed: int) -> tuple[Named, tuple[Tensor, Tensor], Named]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(self.study, phase, seed, "weights"))
            backbone, in_features = self.network.build()
            final = nn.Linear(in_features, self.network.num_classes)
        named = {name: p.detach() for name, p in backbone.named_parameters()}
        buffers = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
        return named, (final.weight.detach(), final.bias.detach()), buffers


def _evaluate(chunk: Chunk, inputs: Inputs) -> np.ndarray:
    """Transformed logits (n, N, K) of a chunk's members."""
    parts = [chunk.logits(inputs.normalized(i, i + EVALUATION_BATCH)) for i in range(0, len(inputs), EVALUATION_BATCH)]
    return torch.cat(parts, 1).float().cpu().numpy()
