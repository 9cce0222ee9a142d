"""Data other than a study's own, on which its confirmed members are looked at: what lanes get of them. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from losstune.trainables.datasets import Split

OWN = "own"  # the study's own data, among those that are transferred to


@dataclass(frozen=True, eq=False)
class ShiftedTest:
    """A test set of the study's classes and input shape; the digest of the data set it is of."""

    test: Split
    digest: str


@dataclass(frozen=True, eq=False)
class TransferData:
    """A data set to transfer to: examples of the study's input shape, of any classes; the data set's digest."""

    train: Split
    test: Split
    digest: str


@dataclass(frozen=True, eq=False)
class OtherData:
    """What members are looked at on after the test set. shifted: by the user's names; transfer: by the data sets'.

    own_examples: of how many examples of each of the study's own splits features are kept beside those of transfer.
    """

    shifted: Mapping[str, ShiftedTest] = field(default_factory=dict)
    transfer: Mapping[str, TransferData] = field(default_factory=dict)
    own_examples: int = 0
