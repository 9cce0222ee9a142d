"""What every lane of a study needs to make its stack. Without torch, so that it can be handed on."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from losstune.trainables.augmentation import resolve
from losstune.trainables.datasets import Split
from losstune.trainables.features import Recording
from losstune.trainables.network import Network
from losstune.trainables.recipe import Recipe
from losstune.trainables.scoring import Scorer
from losstune.trainables.storage import Place

if TYPE_CHECKING:
    from losstune.trainables.backends import Choice
    from losstune.trainables.inputs import Inputs, Normalization
    from losstune.trainables.measurement import Measured
    from losstune.trainables.trainer import Stack


@dataclass(frozen=True)
class Job:
    """What every lane of a study needs. folder: the study's.

    storage: where checkpoints, predictions and weights go; None: the folder, which all machines see then.
    width: places for members; None: as many as is measured. backend: how networks are computed; None: as is measured.
    record: what is recorded of confirmed members' networks, if anything.
    patience: seconds after which a lane in which nothing moves is ended.
    """

    study: str
    network: Network
    recipe: Recipe
    scorer: Scorer
    folder: str
    device: str = "cpu"
    width: int | None = None
    backend: str | None = None
    compiled: bool = False
    confirm_on_all: bool = False
    patience: float = 600.0
    storage: Place | None = None
    record: Recording | None = None

    @property
    def files(self) -> Place:
        return self.storage or Path(self.folder)

    @property
    def own_folder(self) -> Path:
        """Where a lane may write what its own machine alone need read."""
        folder = Path(self.folder)
        return folder if folder.is_dir() else Path(tempfile.gettempdir()) / f"losstune-{os.getuid()}" / folder.name

    def kind_of(self, device: str) -> str:
        """Of what a measurement holds: a device's model, and what the study has fixed."""
        return ", ".join([device, self.backend or "auto", *(["compiled"] if self.compiled else [])])

    def measure(self, train: Split) -> Measured:
        """The backend and the width that suit this device. InputError when the fixed backend cannot run."""
        from losstune.trainables.inputs import Normalization
        from losstune.trainables.measurement import Probe

        inputs = self.inputs(train, Normalization(train.x))
        return Probe(self.network, self.recipe, inputs, self.device, self.compiled).measure(self.backend)

    def inputs(self, split: Split, normalization: Normalization) -> Inputs:
        """A split as the job's stacks take it."""
        from losstune.trainables.inputs import Inputs

        pipeline = resolve(self.recipe.augmentation, tuple(split.x.shape[1:]))
        return Inputs(split, normalization, self.device, pipeline)

    def stack(self, train: Split, validation: Split, normalization: Normalization, backend: Choice | None = None,
              width: int | None = None) -> Stack:  # fmt: skip
        """An empty stack for this job on the given data; width: what it has room for, where the job does not say."""
        from losstune.trainables.trainer import Stack

        return Stack(self.study, self.network, self.recipe, self.inputs(train, normalization),
                     self.inputs(validation, normalization), self.scorer.followed, self.device, self.width or width,
                     backend)  # fmt: skip
