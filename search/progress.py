"""The standing of a study on a terminal: the live table while it runs, the same table for `status`, plain lines."""

from __future__ import annotations

import sys
import time
from statistics import fmean
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from losstune.search.standing import LossStanding, Standing, time_left
from losstune.search.study import Study

LINE_SECONDS = 10.0  # between plain lines where there is no terminal
PACE_SECONDS = 20.0  # over which the time left is reckoned


def table_of(study: Study, now: Standing, left: float | None = None, at_rest: bool = False) -> Group:
    """The standing as a table: a row per loss, then slots, cost and time left. at_rest: nobody runs it."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("loss", no_wrap=True)
    for name in ("trials", "running", "stopped", "failed", "best", "confirmed", "test"):
        table.add_column(name, justify="right", no_wrap=True)
    leader = _leader(now)
    for row in now.losses.values():
        table.add_row(*_cells(row, now), style="bold green" if row.loss == leader else None)
    return Group(table, Text(summary(study, now, left, at_rest), style="dim"))


def _cells(row: LossStanding, now: Standing) -> list[str]:
    def count(n: int) -> str:
        return str(n) if n else "·"

    best = "·" if row.best is None else f"{row.best:.4f}"
    test = f"{fmean(row.confirm_scores):.4f}" if row.confirm_scores else "·"
    running = row.running + row.confirm_running
    return [row.loss, f"{row.ended}/{row.wanted}", count(running), count(row.stopped),
            count(row.failed + row.confirm_failed), best, f"{row.confirmed}/{now.seeds}", test]  # fmt: skip


def _leader(now: Standing) -> str | None:
    """The loss with the best score on validation so far; none where there is a tie."""
    known = {row.loss: row.best for row in now.losses.values() if row.best is not None}
    if not known:
        return None
    best = (max if now.greater_is_better else min)(known.values())
    leaders = [loss for loss, value in known.items() if value == best]
    return leaders[0] if len(leaders) == 1 else None


def summary(study: Study, now: Standing, left: float | None, at_rest: bool = False) -> str:
    """One line: phase, counts, slots, cost, time left. at_rest: nobody runs it."""
    rows = now.losses.values()
    wanted = sum(row.wanted for row in rows)
    ended, confirmed = sum(row.ended for row in rows), sum(row.confirmed for row in rows)
    parts = [now.phase, f"{ended}/{wanted} trials", f"{confirmed}/{now.seeds * len(now.losses)} confirmed"]
    if now.phase != "done" and not at_rest:
        live = now.live_slots()
        parts.append(f"{live} {'slot' if live == 1 else 'slots'} in use, "
                     f"{now.members_running(study.search.seeds)} members")  # fmt: skip
    parts.append(f"{now.slot_seconds / 3600:.2f} slot-hours" if now.slot_seconds > 3600
                 else f"{now.slot_seconds:.0f} slot-seconds")  # fmt: skip
    if now.stopping() and not at_rest:
        parts.append("saving what is trained, to stop; Ctrl-C again does not wait")
    elif left is not None and now.phase != "done":
        parts.append(f"about {duration(left)} left")
    which = f"{now.name}, " if now.name != study.name else ""
    return f"{which}{study.metric}: " + ", ".join(parts)


def duration(seconds: float) -> str:
    """Seconds as people say them: "40 s", "3 min", "2.5 h"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Progress:
    """Shows the standing as a study runs: a live table on a terminal, plain lines elsewhere."""

    def __init__(self, study: Study, console: Console | None = None):
        self.study, self.console = study, console or Console(file=sys.stderr)
        self.live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None
        self.history: list[tuple[float, Standing]] = []
        self.last_line, self.stopping = 0.0, False
        self.reported: set[tuple[str, str]] = set()

    def __enter__(self) -> Progress:
        if self.live:
            self.live.start()
            self.live.update(Text(f"{self.study.name}: starting Ray and the lanes ...", style="dim"), refresh=True)
        return self

    def __exit__(self, *exception: Any) -> None:
        if self.live:
            self.live.stop()

    def __call__(self, now: Standing) -> None:
        """Show the standing; each new failure is said once."""
        clock = time.monotonic()
        recent = [(t, s) for t, s in self.history if clock - t < PACE_SECONDS and s.name == now.name]
        self.history = [*recent, (clock, now)]
        start, before = self.history[0]
        left = time_left(before, now, clock - start)
        for trial, reason in now.failures:
            if (now.name, trial) not in self.reported:
                self.console.print(f"{trial} failed: {reason}", style="yellow", highlight=False, soft_wrap=True)
                self.reported.add((now.name, trial))
        if self.live:
            self.live.update(table_of(self.study, now, left), refresh=True)
        elif clock - self.last_line >= LINE_SECONDS or now.phase == "done" or now.stopping() != self.stopping:
            self.last_line, self.stopping = clock, now.stopping()
            self.console.print(summary(self.study, now, left), highlight=False, soft_wrap=True)
