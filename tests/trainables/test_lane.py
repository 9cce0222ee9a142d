"""A lane between conductor and stack: reports at rungs, stops, parks, resumes, measures what confirm wants."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from losstune.trainables import conversation, predictions, tune_lane
from losstune.trainables import lane as lanes
from losstune.trainables.job import Job
from losstune.trainables.lane import Lane
from losstune.trainables.messages import Message, Order, Orders
from losstune.trainables.metrics import METRICS, Metric, NotScored
from losstune.trainables.network import Network
from losstune.trainables.recipe import Recipe
from losstune.trainables.scoring import Scorer
from losstune.trainables.trial import Trial


class Script:
    """A conductor that gives its orders at once, ends when all of them have left, and keeps what it was told.

    stop: (trial, epoch) whose report is answered with a stop; park: the one that is answered with a park. then: orders
    that come with the first stop. late: at how many looks without waiting each answer is not there yet; 0 at the end.
    """

    def __init__(self, *orders, stop=(), park=None, then=(), late=(), test=None):
        self.orders, self.stop, self.park, self.then, self.test = list(orders), set(stop), park, list(then), test
        self.messages, self.late, self.looks, self.open, self.waits = [], list(late), None, set(), []

    @property
    def reports(self):
        return [report for message in self.messages for report in message.reports]

    def send(self, message):
        assert self.looks is None, "the last message has no answer yet"
        self.messages.append(message)
        self.looks = self.late.pop(0) if self.late else 0

    def answer(self, seconds):
        assert self.looks is not None, "nothing was asked"
        self.waits.append(seconds)
        if self.looks and seconds is not None:
            self.looks -= 1
            return None
        self.looks = None
        return self.orders_after(self.messages[-1])

    def orders_after(self, message):
        told = {(report.trial, report.epoch) for report in message.reports}
        stop = [trial for trial, epoch in told & self.stop]
        self.open -= {report.trial for report in message.reports if report.left} | set(stop)
        start, self.orders = self.orders, []
        if stop:
            start, self.then = start + self.then, []
        self.open |= {order.trial.id for order in start}
        return Orders(start, stop, park=self.park in told, done=not self.open, test=self.test)


@pytest.fixture(autouse=True)
def no_clock(monkeypatch):
    """What a lane says only because time has passed depends on the machine's speed; what these tests count does not."""
    monkeypatch.setattr(lanes, "NEWS_SECONDS", math.inf)
    monkeypatch.setattr(lanes, "CHECKPOINT_SECONDS", math.inf)
    monkeypatch.setattr(conversation, "LIFE_SECONDS", math.inf)
    monkeypatch.setattr(conversation, "LISTEN_SECONDS", math.inf)


@pytest.fixture
def make_lane(digits, tmp_path):
    def make(script, **job):
        scorer = Scorer(METRICS["accuracy"], 10)
        settings = {"network": Network("mlp", (1, 8, 8), 10), "recipe": Recipe(epochs=9), "width": 8,
                    "scorer": scorer, **job}  # fmt: skip
        return Lane(Job("tests", folder=str(tmp_path), **settings), digits.train, digits.validation,
                    script, "lane-1")  # fmt: skip

    return make


def run(lane):
    """To its end."""
    while lane.turn():
        pass
    return lane


def trial(name="a", loss="softmax", phase="search", seeds=(0, 1), epochs=9, learning_rate=0.1):
    return Trial(name, loss, {}, learning_rate, 1e-4, phase, seeds, epochs)


def test_a_trial_reports_at_its_rungs_with_the_epochs_between(make_lane):
    script = Script(Order(trial(), 1, (2, 5, 9)))
    lane = run(make_lane(script))
    assert [report.epoch for report in script.reports] == [2, 5, 9]
    epochs = [[epoch["epoch"] for epoch in report.curve] for report in script.reports]
    assert epochs == [[1, 2], [3, 4, 5], [6, 7, 8, 9]]
    assert len(script.reports[0].curve[0]["scores"]["accuracy"]) == 2
    assert [report.left for report in script.reports] == [False, False, True] and lane.stack.free == 8


# The first message asks for trials, the second says that training has begun, the third reports the first rung.
LATE = [(), (0, 0, 1), (0, 0, 3), (0, 2, 2, 1), (0, 0, 4, 3), (0, 5)]


@pytest.mark.parametrize("late", LATE)
def test_what_is_reported_does_not_depend_on_when_answers_come(make_lane, late):
    """Of the trial that is stopped, of its neighbour, and of the one that gets its place: bit for bit."""
    first, second = Order(trial("a"), 1, (2, 5)), Order(trial("b", "sigmoid", epochs=7), 1, (2, 5))
    third = Order(trial("c", epochs=3), 1, (2,))
    script = Script(first, second, stop=[("a", 2)], then=[third], late=late)
    run(make_lane(script, width=4))
    assert decided(script) == decided(heard_at_once(make_lane, first, second, third))


def heard_at_once(make_lane, first, second, third):
    script = Script(first, second, stop=[("a", 2)], then=[third])
    run(make_lane(script, width=4))
    return script


def decided(script) -> dict:
    """Every epoch that counts: of the one that is stopped at its rung, those up to it."""
    curves = {}
    for report in script.reports:
        curves.setdefault(report.trial, []).extend(report.curve)
    return {name: curve[:2] if name == "a" else curve for name, curve in curves.items()}


def test_a_trial_is_trained_until_its_lane_hears_of_its_stop(make_lane):
    """It leaves at the next boundary; what it trained beyond the rung is told as its cost, apart from its curve."""
    script = Script(Order(trial("a"), 1, (2, 9)), Order(trial("b"), 1, (9,)), stop=[("a", 2)], late=(0, 0, 3))
    run(make_lane(script))
    told = [(report.epoch, [epoch["epoch"] for epoch in report.curve], report.left)
            for report in script.reports if report.trial == "a"]  # fmt: skip
    assert told == [(2, [1, 2], False), (5, [3, 4, 5], True)]
    assert all(report.seconds > 0 for report in script.reports)


def test_the_last_trials_cost_is_told_before_the_lane_ends(make_lane):
    """Its stop and the end come in one answer."""
    script = Script(Order(trial("a"), 1, (2, 9)), stop=[("a", 2)], late=(0, 0, 3))
    lane = run(make_lane(script))
    assert [report.epoch for report in script.reports] == [2, 5] and lane.held == {} and lane.stack.free == 8


def test_a_trial_at_its_end_leaves_at_once_and_its_places_are_free(make_lane):
    """In the message that reports the end."""
    script = Script(Order(trial("a", epochs=2), 1, (2,)), Order(trial("b", epochs=4), 1, (4,)), late=(0, 0, 9))
    run(make_lane(script))
    free = {report.trial: message.free for message in script.messages for report in message.reports}
    assert free == {"a": 6, "b": 8}


def test_a_lane_waits_for_an_answer_no_longer_than_an_epoch_without_it_wastes(make_lane):
    """The share of its places that may be stopped or are empty; with nothing to train it waits as long as it takes."""
    script = Script(Order(trial("a", epochs=3), 1, (2,)), Order(trial("b", epochs=3), 1, (3,)))
    lane = make_lane(script, width=8)
    lane.turn()
    lane.turn()
    lane.turn()
    assert script.waits == [None, script.waits[1], lane.epoch_seconds * (2 + 4) / 8]
    run(lane)
    assert script.waits[-1] is None


def test_checkpoints_travel_together(make_lane, monkeypatch):
    """One that is due takes along those that will soon be; the trial goes on from it to the same numbers."""
    monkeypatch.setattr(lanes, "CHECKPOINT_SECONDS", 1000.0)
    script = Script(*(Order(trial(name, epochs=6), 1, (6,)) for name in "abc"))
    lane = make_lane(script)
    lane.turn()
    lane.turn()
    for name, seconds in (("a", 1000), ("b", 600), ("c", 400)):
        lane.held[name].saved = lane.training_seconds - seconds
    lane.turn()
    saved = [(report.trial, report.epoch) for report in script.messages[-1].reports if report.checkpoint]
    assert sorted(saved) == [("a", 2), ("b", 2)]
    run(lane)
    saved = next(report for report in script.reports if report.checkpoint)
    again = Script(Order(trial(saved.trial, epochs=6), 2, (6,), (saved.checkpoint,)))
    run(make_lane(again))
    straight = [epoch for report in script.reports if report.trial == saved.trial for epoch in report.curve]
    assert [epoch for report in again.reports for epoch in report.curve] == straight[2:]


def test_what_saves_slowly_is_saved_seldom(make_lane, monkeypatch):
    """So that a large network trains, and does not only write."""
    monkeypatch.setattr(lanes, "CHECKPOINT_SECONDS", 0.0)
    script = Script(Order(trial(epochs=6), 1, (6,)))
    lane = make_lane(script)
    lane.saving_seconds = 1000.0
    run(lane)
    assert not any(report.checkpoint for report in script.reports)


def test_what_the_stack_notes_is_passed_on_once(make_lane):
    """A width that was halved, say."""
    script = Script(Order(trial(epochs=4), 1, (2, 4)))
    lane = make_lane(script)
    lane.turn()
    lane.stack.notes.append("memory ran out")
    run(lane)
    assert [message.notes for message in script.messages if message.notes] == [["memory ran out"]]
    assert [message.number for message in script.messages] == list(range(1, len(script.messages) + 1))


def test_a_message_is_sent_again_where_nobody_knows_whether_it_was_heard(monkeypatch):
    """It has its number, by which the conductor knows it."""
    import ray

    sent, message = [], Message("lane-1", 3, [], 8, 1.5)

    def get(reference):
        if reference < 3:
            raise ray.exceptions.ActorUnavailableError("the network", None)
        return Orders(stop=["a"])

    monkeypatch.setattr(ray, "get", get)
    monkeypatch.setattr(tune_lane, "RESEND_SECONDS", 0.0)
    call = SimpleNamespace(remote=lambda *said: sent.append(said) or len(sent))
    exchange = tune_lane.RayExchange(SimpleNamespace(call=call))
    exchange.send(message)
    assert exchange.answer(None).stop == ["a"] and sent == 3 * [("exchange", message)]


def test_divergence_is_reported_as_a_failure_with_its_reason(make_lane):
    hyperparameters = {"kappa": 8.0, "M": 50.0, "loss_scale": 1.0}
    wild = Order(Trial("a", "squared_error", hyperparameters, 1e4, 1e-4, "search", (0,), 9), 1, (9,))
    script = Script(wild)
    run(make_lane(script))
    (report,) = script.reports
    assert "became" in report.failure and "with seed 0" in report.failure


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), float("nan"), 1e200, 1e-200])
@pytest.mark.parametrize("phase", ["search", "confirm"])
def test_a_score_that_cannot_be_compared_is_a_failure(make_lane, digits, value, phase):
    """In an epoch of the search, or on the test split: no report could be made of it."""
    calls = []

    def score(logits, targets):
        calls.append(len(targets))
        return value if phase == "search" or len(targets) == len(digits.test) else 0.5

    scorer = Scorer(Metric("own", True, "labels", score, "own"), 10)
    script = Script(Order(trial(phase=phase, seeds=(0,), epochs=2), 1, (2,)), test=digits.test)
    run(make_lane(script, scorer=scorer))
    (report,) = script.reports
    where = "validation" if phase == "search" else "test"
    assert report.failure.startswith(f"own on {where} became {value:g}") and report.results is None and calls


def test_a_metric_that_raises_fails_the_trial_and_says_so(make_lane):
    """Whether it is the metric's fault or the trial's is for the conductor to say."""

    def score(logits, targets):
        return NotScored("metric: m.py:score raised ValueError: boom (line 3)")

    script = Script(Order(trial(), 1, (3, 9)))
    run(make_lane(script, scorer=Scorer(Metric("own", True, "labels", score, "own"), 10)))
    (report,) = script.reports
    assert report.failure == "metric: m.py:score raised ValueError: boom (line 3) in epoch 1"
    assert report.metric_raised and report.left


@pytest.mark.parametrize("late", [0, 2])
def test_a_parked_trial_goes_on_from_its_checkpoint_to_the_same_numbers(make_lane, late):
    """Interrupted or not, the scores of every epoch are the same."""
    straight = Script(Order(trial(epochs=6), 1, (6,)))
    run(make_lane(straight))
    stopped = Script(Order(trial(epochs=6), 1, (3, 6)), park=("a", 3), late=(0, 0, late))
    lane = run(make_lane(stopped))
    parked = stopped.reports[-1]
    assert parked.parked and parked.left and parked.epoch == 3 + late and lane.held == {}
    resumed = Script(Order(trial(epochs=6), 2, (6,), (parked.checkpoint,)))
    run(make_lane(resumed))
    curves = [[epoch["scores"] for report in script.reports for epoch in report.curve]
              for script in (straight, stopped, resumed)]  # fmt: skip
    assert curves[0] == curves[1] + curves[2]


def test_a_damaged_checkpoint_means_from_the_one_before_or_from_the_start(make_lane, tmp_path, monkeypatch):
    """With a word to the user; and what comes is bit for bit what would have come."""
    monkeypatch.setattr(lanes, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(lanes, "SAVING_SHARE", 0)
    straight = Script(Order(trial(epochs=6), 1, (6,)))
    run(make_lane(straight))
    scores = [epoch["scores"] for report in straight.reports for epoch in report.curve]
    first, second = [report.checkpoint for report in straight.reports if report.checkpoint][1:3]
    content = bytearray((tmp_path / second.path).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / second.path).write_bytes(content)
    for known, begins in (((second, first), first.epoch), ((second,), 0), ((replace(first, path="gone"),), 0)):
        script = Script(Order(trial(epochs=6), 2, (6,), known))
        run(make_lane(script))
        assert [epoch["scores"] for report in script.reports for epoch in report.curve] == scores[begins:]
        (note,) = [note for message in script.messages for note in message.notes]
        assert known[0].path in note and ("starts again" if begins == 0 else f"from epoch {begins}") in note


def test_the_only_lane_takes_a_trial_in_when_its_time_has_come(make_lane, monkeypatch):
    """What is behind trains first; then all are where they would be without the interruption."""
    monkeypatch.setattr(lanes, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(lanes, "SAVING_SHARE", 0)
    before = Script(Order(trial("a", epochs=6), 1, (4, 6)), Order(trial("b", epochs=6), 1, (4, 6)))
    run(make_lane(before))
    saved = {(report.trial, report.epoch): report.checkpoint for report in before.reports if report.checkpoint}
    orders = [
        Order(trial("a", epochs=6), 2, (4, 6), (saved["a", 3],)),
        Order(trial("b", epochs=6), 2, (4, 6), (saved["b", 1],), joined=1),
        Order(trial("c", epochs=6), 1, (4, 6), joined=2),
    ]
    script = Script(*orders)
    lane = make_lane(script)
    lane.alone = True
    lane.turn()
    assert not lane.held and lane._free() == 2
    seen = []
    while lane.turn():
        seen.append((lane.clock, sorted((name, lane.stack.epoch_of(name)) for name in lane.held)))
    assert seen[0] == (3, [("b", 2), ("c", 1)]) and seen[1] == (4, [("a", 4), ("b", 3), ("c", 2)])
    clocks = {(report.trial, report.epoch): message.clock for message in script.messages for report in message.reports
              if report.epoch in (4, 6)}  # fmt: skip
    assert clocks == {("a", 4): 4, ("a", 6): 6, ("b", 4): 5, ("b", 6): 7, ("c", 4): 6, ("c", 6): 8}
    assert script.waits == [None] * len(script.waits)


@pytest.mark.parametrize("on_all", [False, True])
def test_confirm_measures_the_test_split_once_and_keeps_logits_and_weights(make_lane, digits, tmp_path, on_all):
    order = Order(trial("confirm0-softmax-0000", phase="confirm", seeds=(0,), epochs=3), 1, (3,))
    script = Script(order, test=digits.test)
    run(make_lane(script, confirm_on_all=on_all))
    results = script.reports[-1].results
    kept = predictions.read(tmp_path / "predictions" / "confirm0-softmax-0000.npz")
    assert kept.test_logits.shape == (360, 10) and kept.probabilities == "softmax"
    assert np.array_equal(kept.test_targets, digits.test.y)
    assert results["test"]["accuracy"] == (kept.test_logits.argmax(1) == digits.test.y).mean()
    assert ("validation" in results) is not on_all
    assert (tmp_path / "weights" / "confirm0-softmax-0000.pt").is_file()


def test_the_test_split_is_out_of_reach_until_confirm(make_lane):
    """A lane has no test split of its own: it comes with confirm's first order."""
    lane = run(make_lane(Script(Order(trial(), 1, (9,)))))
    assert lane.test is None
