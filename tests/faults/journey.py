"""A study on its way: begun, struck, run again until it is done, and compared."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from pathlib import Path

from processes import Outcome, Running, told
from ran import Ran

from faults.evidence import finished
from faults.moments import Moment, Usual
from faults.studies import Text

MOST_RUNS = 6  # of the same command until a study must be done


class Journey:
    """A study in a folder of its own. Leave the context to end its processes, and whatever else was set up for it.

    draw: where whatever is random comes from. usual: how it goes undisturbed, where that is known.
    """

    def __init__(self, text: Text, folder: Path, draw: random.Random, usual: Usual | None = None):
        self.text, self.draw, self.usual = text, draw, usual
        self.ran = Ran(text.write(folder), self._start)
        self.environment: dict[str, str] = {}
        self.options: list[str] = []
        self.problems: list[str] = []
        self.notes: list[str] = []  # what exactly was done to it
        self.before: dict[str, dict] = {}  # the trials that had ended when it was struck
        self.struck = self.late = False  # whether the fault has happened to it; whether its moment came too late
        self.checks: list[Callable[[], None]] = []  # of what it came to, once it is done
        self.deaths = 1  # of lanes, after which work may have to be repeated
        self.stack = contextlib.ExitStack()

    def __enter__(self) -> Journey:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def _start(self, folder: Path, *arguments: object) -> Running:
        running = Running(folder, *arguments, **self.environment)
        self.stack.callback(running.end)
        return running

    def begin(self) -> Running:
        return self.ran.begin(*self.options)

    def told(self, command: str) -> Outcome:
        """How another command on the study ends, whether a run is under way or not."""
        return told(self.ran.folder, command, Path(self.ran.study).stem, **self.environment)

    def come(self, running: Running, moment: Moment) -> bool:
        """Wait for the moment; False when the run has ended before."""
        alive = moment.wait(self.ran, running, self.usual)
        self.before = finished(self.ran)
        self.notes.append(f"{len(self.before)} trials had ended" if alive else "the run had ended")
        self.struck |= alive
        self.late = not alive
        return alive

    def missed(self, words: str) -> None:
        """The moment came, but there was nothing to strike."""
        self.struck = False
        self.notes.append(words)

    def trial(self, name: str) -> dict:
        return self.ran.trials(id=name)[0]

    def expect(self, true: object, words: str) -> None:
        if not true:
            self.problems.append(words)

    def ended(self, running: Running, *statuses: int, says: str = "") -> Outcome:
        """Wait for a run's end; it must be in one of the ways, without a traceback, and say so."""
        outcome = running.wait()
        said = outcome.out + outcome.err
        self.expect(outcome.status in statuses, f"it ended with status {outcome.status}: {_last(outcome)}")
        self.expect("Traceback" not in said, f"a traceback: {_last(outcome)}")
        self.expect(says in said or outcome.status == 0, f"it did not say {says!r}: {_last(outcome)}")
        return outcome

    def ended_by_it(self, running: Running, status: int, says: str = "") -> None:
        """Wait for the end of a run that was struck; it must have ended by that.

        Status 0 is that of a run that was done before, or to which it was all the same: it is struck at an earlier one.
        """
        if self.ended(running, status, 0, says=says).status == 0:
            self.missed("it ended as if nothing had happened")
            self.late = True

    def finish(self) -> None:
        """Run it until nothing is left to do, and look at what it came to."""
        self.before |= finished(self.ran)  # also what ended while it was being struck stays as it is
        for _ in range(MOST_RUNS):
            outcome = self.ended(self.begin(), 0)
            if outcome.status == 0 and outcome.out.startswith("done"):
                break
        else:
            self.problems.append(f"it is not done after {MOST_RUNS} runs: {_last(outcome)}")
        for check in self.checks:
            check()


def _last(outcome: Outcome) -> str:
    """What a run said last."""
    lines = [line for line in (outcome.out + outcome.err).splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
