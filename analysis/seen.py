"""How often a test set has been looked at: what is chosen by looks at it fits it better than it fits new examples."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class LooksAtTestSet:
    """How often a test set has been looked at: reports that were made from newly confirmed seeds.

    looks: how many are recorded, by so many studies. exact: whether these studies' looks are recorded from their
    beginning on; otherwise there were perhaps more. unknown: further studies of which nothing is recorded.
    """

    looks: int
    studies: int
    exact: bool
    unknown: int

    def __str__(self) -> str:
        """A sentence for the report."""
        if not self.looks:
            said = "No look at this test set is recorded here"
        else:
            times = "1 time" if self.looks == 1 else f"{self.looks} times"
            studies = "1 study" if self.studies == 1 else f"{self.studies} studies"
            said = (f"This test set has been looked at {'' if self.exact else 'at least '}{times} by {studies} here "
                    "(a look: a report from newly confirmed seeds)")  # fmt: skip
        if self.unknown:
            others = "1 further study" if self.unknown == 1 else f"{self.unknown} further studies"
            said += f"; of {others} here it is not known"
        return f"{said}."

    def described(self) -> dict[str, Any]:
        """For verdict.json: its fields, and the sentence."""
        return {**asdict(self), "sentence": str(self)}
