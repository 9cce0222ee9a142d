"""What the latest run of a study does, by the order of the record: clocks may have been stepped between two runs."""

import time

import pytest

from losstune.search.standing import LossStanding, Standing

DAY = 86400.0


def standing(*events: tuple[str, float], lanes: tuple[dict, ...] = ()) -> Standing:
    """A study with some events, each a kind and so many days from now, in the order in which they were recorded."""
    recorded = [{"sequence": number, "kind": kind, "time": time.time() + DAY * days, "text": ""}
                for number, (kind, days) in enumerate(events, start=1)]  # fmt: skip
    return Standing("search", {"softmax": LossStanding("softmax", 2)}, 2, True, 0, 0.0, list(lanes), [], recorded)


def lane(slot: str, started: float, seen: float) -> dict:
    """A lane that was started and heard of so many days from now."""
    now = time.time()
    return {"id": f"{slot}-{started}", "slot": slot, "started": now + DAY * started, "seen": now + DAY * seen,
            "training_seconds": 0.0, "device": None}  # fmt: skip


# An earlier run, under a clock 40 days ahead, and the start of the one that goes on now.
AHEAD = (("run", 40.0), ("training", 40.01), ("stop", 40.02))
LATER = (("run", 40.0), ("run", -0.01))


def test_a_run_that_has_begun_training_is_training_though_an_earlier_clock_was_ahead():
    """Its events are those that were recorded after its start."""
    assert standing(*LATER, ("training", -0.005)).training()


def test_a_run_that_was_asked_to_stop_is_stopping_though_an_earlier_clock_was_ahead():
    """Whoever asked sees it at once."""
    assert standing(*LATER, ("training", -0.005), ("stop", -0.004)).stopping()


def test_a_lane_counts_though_an_earlier_clock_was_ahead():
    """Each slot once; a lane of the earlier run, long unheard of or from before this run, does not count."""
    now = (lane("a", -0.008, 0.0), lane("a", -0.009, 0.0), lane("b", -0.009, 0.0), lane("c", -0.009, -0.005))
    assert standing(*LATER, lanes=now).live_slots() == 2
    assert standing(*LATER, lanes=(*now, lane("d", -1.0, 0.0))).live_slots() == 2


@pytest.mark.parametrize("earlier", [AHEAD, (("run", -2.0), ("training", -1.9), ("stop", -1.8))])
def test_what_an_earlier_run_did_does_not_count_for_a_later_one(earlier):
    """Neither its training nor its stop, whatever its clock said."""
    before, now = standing(*earlier), standing(*earlier, ("run", -0.01))
    assert before.training() and before.stopping()
    assert not now.training() and not now.stopping()


def test_events_of_an_earlier_clock_that_was_ahead_do_not_count_for_a_run_of_now():
    """They are later by the clock, and earlier by the record."""
    now = standing(("run", -2.0), ("training", 40.0), ("stop", 40.0), ("run", -0.01))
    assert not now.training() and not now.stopping()


def test_nothing_is_training_before_the_first_run():
    """A ledger that has just been made."""
    assert not standing().training() and not standing().stopping() and standing().live_slots() == 0
