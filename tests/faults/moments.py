"""Random moments of a run: a phase, and how far into it, by ended trials, so that a slow machine is no matter."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ran import Ran

from losstune.search.ledger import read

PHASES = ("start", "search", "confirm", "report")
LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class Usual:
    """How an undisturbed run went: seconds of each phase, ended trials of search and confirm."""

    seconds: dict[str, float]
    trials: dict[str, int]

    @classmethod
    def of(cls, ran: Ran, began: float, ended: float) -> Usual:
        rows, events = ran.trials(), ran.read(read.all_events)
        training = next(event["time"] for event in events if event["kind"] == "training")
        searched = max(row["ended"] for row in rows if row["phase"] == "search")
        confirmed = max(row["ended"] for row in rows if row["phase"] == "confirm")
        times = [began, training, searched, confirmed, ended]
        counts = {phase: sum(row["phase"] == phase for row in rows) for phase in ("search", "confirm")}
        return cls({phase: times[k + 1] - times[k] for k, phase in enumerate(PHASES)}, counts)


@dataclass(frozen=True)
class Moment:
    """share: from 0 at the beginning of the phase to 1 at its end."""

    phase: str
    share: float

    def wait(self, ran: Ran, running, usual: Usual) -> bool:
        """Wait until it has come; False when the run has ended before."""
        seconds = usual.seconds[self.phase]
        if self.phase in usual.trials:
            ended, rest = divmod(self.share * usual.trials[self.phase], 1)
            seconds = rest * seconds / usual.trials[self.phase]
            come = lambda: self._begun(ran) and _ended(ran, self.phase) >= ended  # noqa: E731
        else:
            seconds *= self.share
            come = lambda: self._begun(ran)  # noqa: E731
        while not come():
            if running.process.poll() is not None:
                return False
            time.sleep(LOOK_SECONDS)
        time.sleep(seconds)
        return running.process.poll() is None

    def _begun(self, ran: Ran) -> bool:
        match self.phase:
            case "start":
                return True
            case "search":
                return any(event["kind"] == "training" for event in ran.read(read.all_events))
            case "confirm":
                return bool(ran.trials("confirm"))
        rows = ran.trials("confirm")
        return bool(rows) and all(row["state"] != "running" for row in rows) and _all_asked(ran, rows)


def _ended(ran: Ran, phase: str) -> int:
    return sum(row["state"] != "running" for row in ran.trials(phase))


def _all_asked(ran: Ran, rows: list[dict]) -> bool:
    from losstune.search.study import load_study

    study = load_study(ran.folder / ran.study)
    return len(rows) == study.confirm.seeds * len(study.spaces)
