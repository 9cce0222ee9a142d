"""`losstune run` killed, interrupted and run again, as real processes with real Ray: nothing lost, nothing twice."""

import time
from pathlib import Path

import psutil
import pytest
from ran import Ran, assert_as_retrained, folder_with, one_thread

from losstune.search.job import make_job
from losstune.search.ledger import read
from losstune.search.plan import make_plan
from losstune.search.study import load_study
from losstune.trainables.inputs import Normalization
from losstune.trainables.lane import NEWS_SECONDS
from losstune.trainables.trial import Trial

LOSSES = ["softmax", "sigmoid", "squared_error"]

# --- kill -9 of the driver, in the middle of search and of confirm ---

SLOW = """\
data: digits
network: mlp
losses: [softmax, sigmoid, squared_error]
recipe: {epochs: 27, batch_size: 8}
search: {trials: 4, seeds: 2, halving: {first: 3, factor: 3}}
confirm: {seeds: 4}
resources: {members: 2}
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory, start):
    """Killed twice, then run to its end; after: the trials and reports at each death."""
    ran = Ran(folder_with(tmp_path_factory, "killed", my__yaml=SLOW), start)
    ran.after = []
    moments = (
        lambda: any(row["state"] in ("complete", "stopped") for row in ran.trials("search")),
        lambda: any(row["state"] == "complete" for row in ran.trials("confirm")),
    )
    for moment in moments:
        running = ran.begin()
        running.until(moment)
        running.kill()
        ran.after.append((ran.trials(), ran.read(read.all_reports)))
    return ran.run()


def test_a_killed_study_completes(killed):
    """The same command, a third time."""
    assert killed.ended.status == 0, killed.ended
    assert len(killed.members()) == 12 and not killed.trials(state="running")


def test_it_was_killed_in_the_middle(killed):
    """Otherwise the other tests say nothing."""
    (search, _), (confirm, _) = killed.after
    assert any(row["state"] == "running" for row in search) and not any(row["phase"] == "confirm" for row in search)
    ended = [row for row in confirm if row["phase"] == "confirm" and row["state"] == "complete"]
    assert 0 < len(ended) < 12


def test_no_finished_work_was_repeated(killed):
    """What had ended, and what had been reported, stayed as it was."""
    for trials, reports in killed.after:
        ended = [row for row in trials if row["state"] != "running"]
        assert [row for row in killed.trials() if row["id"] in {old["id"] for old in ended}] == ended
        assert killed.read(read.all_reports)[: len(reports)] == reports


def test_no_trial_was_lost_or_counted_twice(killed):
    """Each loss has its four asks, every epoch of a trial is recorded once."""
    for loss in LOSSES:
        assert [row["number"] for row in killed.trials("search", loss=loss)] == [0, 1, 2, 3]
        assert [row["number"] for row in killed.trials("confirm", loss=loss)] == [0, 1, 2, 3]
    for row in killed.trials():
        curve = [epoch["epoch"] for epoch in killed.curve(row["id"])]
        assert curve == list(range(1, len(curve) + 1)) and (row["state"] == "failed" or len(curve) == row["epoch"])


def test_confirm_equals_an_uninterrupted_one(killed):
    """Bit for bit, for the same chosen configurations."""
    assert_as_retrained(killed)


# --- a lane that dies, and Ctrl-C ---

LONG = """\
data: digits
network: mlp
losses: [softmax, label_smoothing]
recipe: {epochs: 30, batch_size: 2}
search: {trials: 3, seeds: 2, halving: null}
confirm: {seeds: 2}
resources: {members: 2}
"""


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory, start):
    """One of its lanes killed, then Ctrl-C, again when the last trial has ended, and run to its end.

    parked: the trials when it was interrupted.
    """
    ran = Ran(folder_with(tmp_path_factory, "interrupted", my__yaml=LONG), start)
    running = ran.begin()
    # Both lanes at work: one that dies before it has said that it is there leaves nothing to be seen.
    running.until(lambda: len({row["lane"] for row in ran.trials("search", state="running") if row["lane"]}) == 2)
    kill_a_lane_that_waits_for_an_answer(running)
    running.until(lambda: any(event["kind"] == "lane" for event in ran.read(read.all_events)))
    ran.suspects = [row for row in ran.trials("search") if row["crashes"]]
    # Some trial that no dead lane had is under way, and far from its end.
    running.until(lambda: any(row["lane"] and 1 < time.time() - row["asked"] < 3
                              for row in ran.trials("search", state="running", crashes=0)))  # fmt: skip
    running.interrupt()
    ran.at_interruption = running.wait()
    ran.parked = ran.trials()
    running = ran.begin()
    running.until(lambda: len([row for row in ran.trials("confirm") if row["state"] != "running"]) == 4)
    running.interrupt()
    ran.at_the_end = running.wait()
    return ran.run()


def kill_a_lane_that_waits_for_an_answer(running) -> None:
    """The conductor is held up until every lane has sent it a message."""
    family = psutil.Process(running.process.pid).children(recursive=True)
    (conductor,) = (process for process in family if "ConductorActor" in " ".join(process.cmdline()))
    lane = running.until(running.lanes)[0]
    conductor.suspend()
    time.sleep(3 * NEWS_SECONDS)
    lane.kill()
    lane.wait(60)
    conductor.resume()


def test_a_killed_lane_is_replaced_and_its_trials_offered_again(interrupted):
    """The study went on; who was there is under suspicion, and no more."""
    events = [event["text"] for event in interrupted.read(read.all_events) if event["kind"] == "lane"]
    assert len(events) == 1 and "died" in events[0]
    assert interrupted.suspects and {row["crashes"] for row in interrupted.suspects} == {1}
    assert not any("lane died" in (row["reason"] or "") for row in interrupted.trials("search"))


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(interrupted):
    """Gently: the ledger is whole and the way back is one line; when nothing but lanes' end is left, too."""
    for ended in (interrupted.at_interruption, interrupted.at_the_end):
        assert ended.status == 130, ended
        assert ended.out.splitlines()[-1] == "interrupted; the same command goes on: losstune run my.yaml"


def test_a_killed_lane_shows_nothing_that_a_user_cannot_act_on(interrupted):
    """Neither Tune's traceback nor the raylet's advice: the study goes on by itself."""
    shown = interrupted.at_interruption.out + interrupted.at_interruption.err
    assert "Traceback" not in shown and "raylet" not in shown, shown


def test_ctrl_c_parks_trials_with_their_checkpoints(interrupted):
    """What ran is kept as it was, and held by no lane."""
    parked = [row for row in interrupted.parked if row["state"] == "running"]
    assert parked and all(row["lane"] is None for row in parked)
    begun = [row for row in parked if row["checkpoints"]]
    assert begun and all(row["checkpoints"][0]["epoch"] == row["epoch"] > 0 for row in begun)


def test_an_interrupted_study_completes(interrupted):
    """No trial lost, none run twice: every epoch of every trial is recorded once."""
    assert interrupted.ended.status == 0, interrupted.ended
    assert len(interrupted.members()) == 4 and len(interrupted.trials("search")) == 6
    for row in interrupted.trials("search"):
        curve = [epoch["epoch"] for epoch in interrupted.curve(row["id"])]
        # The epoch in which a trial failed is none of its curve.
        assert curve == list(range(1, row["epoch"] + (row["state"] != "failed")))


def test_what_was_parked_went_on_from_its_checkpoint(interrupted):
    """Its next report holds only the epochs after it."""
    reports = interrupted.read(read.all_reports)
    for row in interrupted.parked:
        if row["state"] == "running" and row["checkpoints"]:
            later = [r for r in reports if r["trial"] == row["id"] and r["epoch"] > row["checkpoints"][0]["epoch"]]
            assert later and later[0]["attempt"] > row["attempt"]
            assert later[0]["curve"][0]["epoch"] == row["checkpoints"][0]["epoch"] + 1


def test_a_parked_trial_ends_as_an_undisturbed_one(interrupted):
    """Bit for bit: every training loss and score of a trial before and after its checkpoint."""
    parked = {row["id"] for row in interrupted.parked if row["state"] == "running" and row["checkpoints"]}
    row = min((row for row in interrupted.trials("search") if row["id"] in parked), key=lambda row: row["epoch"])
    plan, values = make_plan(load_study(interrupted.folder / "my.yaml")), dict(row["configuration"])
    rates = values.pop("learning_rate"), values.pop("weight_decay")
    with one_thread():
        job = make_job(plan, Path())
        stack = job.stack(plan.train, plan.validation, Normalization(plan.train.x), interrupted.backend(job))
        stack.join(Trial("t", row["loss"], values, *rates, "search", tuple(row["seeds"]), row["epochs"]))
        for recorded in interrupted.curve(row["id"]):
            result = stack.train_epoch()["t"]
            assert (recorded["train_loss"], recorded["scores"]["accuracy"]) == (
                result.train_loss, result.scores["accuracy"]), recorded["epoch"]  # fmt: skip
