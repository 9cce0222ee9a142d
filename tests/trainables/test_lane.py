"""A lane between conductor and stack: reports at rungs, stops, parks, resumes, measures what confirm wants."""

import numpy as np
import pytest

from losstune.trainables import predictions
from losstune.trainables.lane import Job, Lane
from losstune.trainables.messages import Order, Orders
from losstune.trainables.metrics import METRICS
from losstune.trainables.network import Network
from losstune.trainables.recipe import Recipe
from losstune.trainables.scoring import Scorer
from losstune.trainables.trial import Trial


class Script:
    """A conductor that answers from a list and keeps what it was told."""

    def __init__(self, *answers):
        self.answers, self.reports, self.free = list(answers), [], []

    def __call__(self, lane, reports, free, training_seconds):
        self.reports += reports
        self.free.append(free)
        return self.answers.pop(0) if self.answers else Orders(done=True)


@pytest.fixture
def make_lane(digits, tmp_path):
    def make(script, **job):
        scorer = Scorer(METRICS["accuracy"], 10)
        settings = {"network": Network("mlp", (1, 8, 8), 10), "recipe": Recipe(epochs=9), "width": 8, **job}
        return Lane(Job("tests", scorer=scorer, folder=str(tmp_path), **settings), digits.train, digits.validation,
                    script, "lane-1")  # fmt: skip

    return make


def trial(name="a", loss="softmax", phase="search", seeds=(0, 1), epochs=9, learning_rate=0.1):
    return Trial(name, loss, {}, learning_rate, 1e-4, phase, seeds, epochs)


def test_a_trial_reports_at_its_rungs_with_the_epochs_between(make_lane):
    script = Script(Orders(start=[Order(trial(), 1, (2, 5, 9))]), Orders(), Orders(), Orders(stop=["a"], done=True))
    lane = make_lane(script)
    while lane.turn():
        pass
    assert [report.epoch for report in script.reports] == [2, 5, 9]
    epochs = [[epoch["epoch"] for epoch in report.curve] for report in script.reports]
    assert epochs == [[1, 2], [3, 4, 5], [6, 7, 8, 9]]
    assert len(script.reports[0].curve[0]["scores"]["accuracy"]) == 2
    assert script.free == [8, 6, 6, 6] and lane.stack.free == 8


def test_divergence_is_reported_as_a_failure_with_its_reason(make_lane):
    hyperparameters = {"kappa": 8.0, "M": 50.0, "loss_scale": 1.0}
    wild = Order(Trial("a", "squared_error", hyperparameters, 1e4, 1e-4, "search", (0,), 9), 1, (9,))
    script = Script(Orders(start=[wild]), Orders(stop=["a"], done=True))
    lane = make_lane(script)
    while lane.turn():
        pass
    (report,) = script.reports
    assert "became" in report.failure and "with seed 0" in report.failure


def test_a_parked_trial_goes_on_from_its_checkpoint_to_the_same_numbers(make_lane):
    """Interrupted or not, the scores of every epoch are the same."""
    straight = Script(Orders(start=[Order(trial(), 1, (6,))]), Orders(stop=["a"], done=True))
    lane = make_lane(straight)
    while lane.turn():
        pass
    stopped = Script(Orders(start=[Order(trial(), 1, (3, 6))]), Orders(park=True))
    lane = make_lane(stopped)
    while lane.turn():
        pass
    parked = stopped.reports[-1]
    assert parked.parked and parked.epoch == 3 and lane.held == {}
    again = Order(trial(), 2, (6,), parked.checkpoint, parked.checkpoint_digest)
    resumed = Script(Orders(start=[again]), Orders(stop=["a"], done=True))
    lane = make_lane(resumed)
    while lane.turn():
        pass
    curves = [[epoch["scores"] for report in script.reports for epoch in report.curve]
              for script in (straight, stopped, resumed)]  # fmt: skip
    assert curves[0] == curves[1] + curves[2]


def test_a_damaged_checkpoint_means_from_the_start(make_lane, tmp_path):
    (tmp_path / "bad.pt").write_bytes(b"not a checkpoint")
    script = Script(Orders(start=[Order(trial(), 2, (2,), str(tmp_path / "bad.pt"), "0" * 64)]), Orders(done=True))
    lane = make_lane(script)
    with pytest.warns(UserWarning, match="not what was written"):
        lane.turn()
    lane.turn()
    assert [epoch["epoch"] for epoch in script.reports[0].curve] == [1, 2]


@pytest.mark.parametrize("on_all", [False, True])
def test_confirm_measures_the_test_split_once_and_keeps_logits_and_weights(make_lane, digits, tmp_path, on_all):
    order = Order(trial("confirm0-softmax-0000", phase="confirm", seeds=(0,), epochs=3), 1, (3,))
    script = Script(Orders(start=[order], test=digits.test), Orders(stop=[order.trial.id], done=True))
    lane = make_lane(script, confirm_on_all=on_all)
    while lane.turn():
        pass
    results = script.reports[-1].results
    kept = predictions.read(tmp_path / "predictions" / "confirm0-softmax-0000.npz")
    assert kept.test_logits.shape == (360, 10) and kept.probabilities == "softmax"
    assert np.array_equal(kept.test_targets, digits.test.y)
    assert results["test"]["accuracy"] == (kept.test_logits.argmax(1) == digits.test.y).mean()
    assert ("validation" in results) is not on_all
    assert (tmp_path / "weights" / "confirm0-softmax-0000.pt").is_file()


def test_the_test_split_is_out_of_reach_until_confirm(make_lane):
    """A lane has no test split of its own: it comes with confirm's first order."""
    lane = make_lane(Script(Orders(start=[Order(trial(), 1, (9,))])))
    lane.turn()
    assert lane.test is None
