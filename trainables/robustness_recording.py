"""Measures a confirmed member on corrupted copies of the test set, made batch by batch, and on shifted test sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from losstune.trainables.corruptions import SEVERITIES, corrupt, white_level
from losstune.trainables.datasets import Split
from losstune.trainables.inputs import SAMPLE, Inputs
from losstune.trainables.losses.combine import loss_of
from losstune.trainables.metrics import METRICS
from losstune.trainables.other_data import ShiftedTest
from losstune.trainables.robustness import Robustness, Scores, ShiftedScores
from losstune.trainables.trainer import Stack

REMEMBERED = 2**29  # bytes of corrupted images that a lane keeps for its next member
PIECE = 256  # examples that are corrupted at a time


class Selected:
    """Some test examples, at indices (n,), as evaluation takes inputs: as they are, or corrupted."""

    def __init__(self, inputs: Inputs, indices: np.ndarray, moved: Callable[[], None],
                 corruption: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None):  # fmt: skip
        self.inputs, self.indices, self.moved, self.corruption = inputs, indices, moved, corruption
        self.remembered: Tensor | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def normalized(self, start: int, stop: int) -> Tensor:
        """The inputs (n, *shape) from start up to stop."""
        if self.remembered is not None:
            return self.inputs.evaluated(self.remembered[start:stop].to(self.inputs.device))
        return self.inputs.evaluated(self._stored(self.indices[start:stop]).to(self.inputs.device))

    def remember(self) -> None:
        """Keep the corrupted images, to be made once."""
        if self.corruption and self.remembered is None:
            self.remembered = self._stored(self.indices)

    def _stored(self, indices: np.ndarray) -> Tensor:
        found = []
        for piece in torch.from_numpy(indices).split(PIECE):
            self.moved()
            images = self.inputs.stored(piece)
            if self.corruption:
                images = torch.from_numpy(self.corruption(images.cpu().numpy(), piece.numpy()))
            found.append(images)
        return torch.cat(found)


def _corruption(name: str, severity: int, white: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    return lambda images, indices: corrupt(images, name, severity, indices, white)


class RobustnessRecorder:
    """Measures the members of a confirm. order: the test examples that are corrupted. prepare: makes inputs."""

    def __init__(self, corruptions: tuple[str, ...], stack: Stack, test: Inputs, order: np.ndarray,
                 shifted: Mapping[str, ShiftedTest], prepare: Callable[[Split], Inputs]):  # fmt: skip
        self.stack, self.y = stack, test.y.cpu().numpy()[order]
        self.clean, self.corrupted = Selected(test, order, stack.moved), {}
        if corruptions:
            known = np.unique(np.linspace(0, len(stack.training) - 1, SAMPLE).astype(np.int64))
            white = white_level(stack.training.stored(torch.from_numpy(known)).cpu().numpy())
            self.corrupted = {name: [Selected(test, order, stack.moved, _corruption(name, severity, white))
                                     for severity in SEVERITIES] for name in corruptions}  # fmt: skip
        self.shifted = {name: (prepare(own.test), own) for name, own in shifted.items()}
        conditions = len(corruptions) * len(SEVERITIES)
        self.remembers = conditions and conditions * len(order) * test.stored(torch.arange(1)).numel() <= REMEMBERED
        train = np.bincount(stack.training.y.cpu().numpy(), minlength=stack.network.num_classes)
        self.most_frequent = int(train.argmax())

    def measure(self, trial: str, loss: str) -> Robustness:
        """The scores of a member that has a trial of its own in the stack."""
        clean = self._scores(trial, loss, self.clean, self.y) if self.corrupted else None
        corrupted = {}
        for name, each in self.corrupted.items():
            for own in each if self.remembers else ():
                own.remember()
            corrupted[name] = [self._scores(trial, loss, own, self.y) for own in each]
        shifted = {name: self._shifted(trial, loss, *own) for name, own in self.shifted.items()}
        return Robustness(len(self.y) if self.corrupted else 0, clean, corrupted, shifted)

    def _shifted(self, trial: str, loss: str, inputs: Inputs, data: ShiftedTest) -> ShiftedScores:
        scores = self._scores(trial, loss, inputs, data.test.y)
        constant = float((data.test.y == self.most_frequent).mean())
        return ShiftedScores(**vars(scores), constant_accuracy=constant, digest=data.digest, examples=len(data.test))

    def _scores(self, trial: str, loss: str, inputs: Inputs | Selected, targets: np.ndarray) -> Scores:
        logits, family = self.stack.logits(trial, inputs)[0], loss_of(loss).probabilities
        return Scores(*(METRICS[name].score(logits, targets, family) for name in ("accuracy", "nll", "ece")))
