"""How a run ended, for whoever started it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from losstune.search.standing import Standing


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    new: whether there was anything to do. interrupted: stopped by the user, resumable. projection_behind: what MLflow
    does not have yet, as a sentence, if so. studies: how each study ended of which this one is made; standing is then
    that of the last one that was run.
    """

    folder: Path
    standing: Standing
    new: bool
    interrupted: bool = False
    projection_behind: str | None = None
    studies: tuple[Outcome, ...] = ()

    @property
    def report(self) -> Path:
        return self.folder / "report" / "report.html"

    @property
    def status(self) -> int:
        """The exit status: 0 done, 3 done with failed trials, 130 interrupted."""
        if self.interrupted:
            return 130
        failed = any(loss.confirm_failed for part in self.parts for loss in part.standing.losses.values())
        return 3 if failed else 0

    @property
    def parts(self) -> tuple[Outcome, ...]:
        """How each study ended, also where there is one."""
        return self.studies or (self,)
