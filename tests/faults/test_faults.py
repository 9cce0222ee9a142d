"""The quickest faults, in every run of the tests (`make faults` has all), and that the harness finds what is lost."""

import copy
from types import SimpleNamespace

import pytest
from processes import Outcome

from faults import by_disk, by_signal
from faults.evidence import differences, lost
from faults.harness import FAULTS, Fault, Harness, Row
from faults.journey import Journey
from faults.moments import PHASES, Moment
from faults.studies import STUDIES
from faults.table import table


@pytest.fixture(scope="module")
def harness(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID"):
        patch.delenv(name, raising=False)
    yield Harness(tmp_path_factory.mktemp("faults"), seed=0)
    patch.undo()


def everything(journey, moment):
    """Ctrl-C, then what it has saved is damaged; a lane is killed, then all; then the journal is cut short."""
    journey.deaths = 3
    by_disk.checkpoint_flipped(journey, Moment("search", moment.share))
    running = journey.begin()
    journey.come(running, Moment("confirm", moment.share / 2))
    for lane in running.lanes():
        lane.kill()
    journey.come(running, Moment("confirm", moment.share / 2))
    by_signal.kill_tree(running)
    by_disk.cut_journal(journey)


def test_a_study_to_which_everything_happens_ends_as_an_undisturbed_one(harness):
    """Trials, curves, choices, confirmed numbers and the verdict, to the bit; nothing lost, nothing left behind."""
    row = harness.row(Fault("everything", everything), "search", "one slot")
    assert row.survived and row.equal and row.lost == 0, row.problems


def test_the_harness_finds_what_is_lost_or_changed(harness):
    """A comparison that finds nothing would be of no use."""
    then = harness.reference("one slot").evidence
    assert differences(then, then) == [] and lost(then.trials, then) == []
    trial = next(iter(then.trials))
    for spoil in (
        lambda now: now.trials.pop(trial),
        lambda now: now.trials.update(another=now.trials[trial]),
        lambda now: now.trials[trial].update(score=0.5),
        lambda now: now.curves[trial].pop(),
        lambda now: now.choices.pop("softmax"),
        lambda now: now.files.update({next(iter(now.files)): "other"}),
        lambda now: now.verdict.update(best_set=[]),
    ):
        now = copy.deepcopy(then)
        spoil(now)
        assert len(differences(now, then)) == 1
    now = copy.deepcopy(then)
    del now.trials[trial]
    assert lost(then.trials, now) == [f"{trial} had ended and is gone"]


class Deaf:
    """A run that ends well, whatever it is told."""

    process = SimpleNamespace(send_signal=lambda number: None, wait=lambda seconds: None, poll=lambda: None)

    def interrupt(self) -> None:
        """It makes no difference."""

    def until(self, condition) -> None:
        """It has begun already."""

    def wait(self) -> Outcome:
        return Outcome(0, "done: nothing is left to do", "")


@pytest.mark.parametrize("strike", [by_signal.terminated, by_signal.interrupted, by_signal.interrupted_twice,
                                    by_signal.stopped_from_elsewhere])  # fmt: skip
def test_a_run_that_does_not_listen_is_not_survived(tmp_path, monkeypatch, strike):
    """It would end as an undisturbed one."""
    monkeypatch.setattr(Moment, "wait", lambda *_: True)
    monkeypatch.setattr(Journey, "begin", lambda self: Deaf())
    monkeypatch.setattr(Journey, "told", lambda self, command: Outcome(0, "stopped", ""))
    monkeypatch.setattr(Harness, "reference", lambda *_: None)
    row = Harness(tmp_path, seed=0).row(Fault("deaf", strike), "search", "one slot")
    assert not row.survived and row.problems[-1].startswith("it was not struck"), row


def test_there_are_enough_injections_in_every_phase():
    """At least forty in all, of known studies, in known phases."""
    plan = [(fault.name, study, phase) for fault in FAULTS for study in fault.studies for phase in fault.phases]
    assert len(set(plan)) == len(plan) >= 40
    assert {study for _, study, _ in plan} == set(STUDIES) and {phase for *_, phase in plan} == set(PHASES)


def test_the_table_shows_what_was_not_survived():
    """A fault that is not survived is a failing line, never left out."""
    good = Row("a", "search", "one slot", 0.1, repeated=3, equal=True)
    bad = Row("b", "confirm", "one slot", 0.2, lost=2)
    bad.problems.append("two are gone")
    lines = table([good, good, bad]).splitlines()
    assert "2 of 2" in lines[1] and "0 of 1" in lines[2] and lines[2].endswith("NO")
