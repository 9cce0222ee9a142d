"""Faults of what trains: a hang, an abort and NaN inside a trial."""

from __future__ import annotations

from faults.by_signal import kill_tree
from faults.journey import Journey
from faults.moments import Moment
from faults.studies import POISON

WORDS = {"hang": "nothing moved for 0.1 minutes, in misbehave of my_metric.py", "abort": "killed or crashed"}


def hang_once(journey: Journey, moment: Moment) -> None:
    _once(journey, moment, "hang")


def abort_once(journey: Journey, moment: Moment) -> None:
    _once(journey, moment, "abort")


def _once(journey: Journey, moment: Moment, what: str) -> None:
    running = journey.begin()
    if journey.come(running, moment):
        (journey.ran.folder / f"once-{what}").touch()
    journey.ended(running, 0)
    (journey.ran.folder / f"once-{what}").unlink(missing_ok=True)  # it came too late


def hang_always(journey: Journey, moment: Moment) -> None:
    _always(journey, "hang")


def abort_always(journey: Journey, moment: Moment) -> None:
    _always(journey, "abort")


def _always(journey: Journey, what: str) -> None:
    """The trial is failed with its reason after three lanes; the others finish."""
    journey.deaths = 3
    (journey.ran.folder / f"always-{what}").touch()
    journey.ended(journey.begin(), 0)
    loss, parameters = POISON
    for row in journey.ran.trials("search"):
        poisoned = row["loss"] == loss and parameters.items() <= row["parameters"].items()
        if poisoned:
            said = row["reason"] or ""
            journey.expect(row["state"] == "failed" and "its lane died 3 times" in said and WORDS[what] in said,
                           f"{row['id']}: {row['state']}, {row['reason']}")  # fmt: skip
        else:
            journey.expect(row["state"] == "complete", f"{row['id']}: {row['state']}, {row['reason']}")


def nan(journey: Journey, moment: Moment) -> None:
    """A kill as soon as a trial has become NaN."""
    running = journey.begin()
    journey.come(running, moment)
    running.until(lambda: any(row["state"] == "failed" for row in journey.ran.trials("search")))
    kill_tree(running)
    for row in journey.ran.trials("search", state="failed"):
        journey.expect("became nan" in row["reason"], f"{row['id']} failed: {row['reason']}")
