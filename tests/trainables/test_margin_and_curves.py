"""What is measured over the epochs of a confirm, by lanes that really train: by hand, and training is the same."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from losstune.analysis.followed import training_measures
from losstune.trainables import features, recording
from losstune.trainables.features import Curves, Recording
from losstune.trainables.job import Job
from losstune.trainables.lane import Lane
from losstune.trainables.margin import margin_bias
from losstune.trainables.messages import Order, Orders
from losstune.trainables.metrics import METRICS
from losstune.trainables.network import Network
from losstune.trainables.recipe import Recipe
from losstune.trainables.scoring import Scorer
from losstune.trainables.trial import Trial

NAMES = {"nc1", "nc2", "nc3", "class_separation", "margin_bias"}
EVERY_OTHER = Recording(features=0, layers=0, train_examples=200, curves=Curves(2, training_measures))
NONE = Recording(features=0, layers=0, train_examples=200)


class Script:
    """A conductor that gives its orders at once, parks all at the report of an epoch, and keeps what it is told."""

    def __init__(self, orders, test, park):
        self.orders, self.test, self.park, self.messages = orders, test, park, []
        self.open = {order.trial.id for order in orders}

    def send(self, message):
        self.messages.append(message)
        self.open -= {report.trial for report in message.reports if report.left}

    def answer(self, _seconds):
        start, self.orders = self.orders, []
        park = any(report.epoch == self.park for report in self.messages[-1].reports)
        return Orders(start, [], park=park, done=not self.open, test=self.test)


class Told:
    """What a lane has told: reports in order, notes, and each trial's epochs."""

    def __init__(self, messages):
        self.reports = [report for message in messages for report in message.reports]
        self.notes = [note for message in messages for note in message.notes]

    def epochs(self, name):
        return [epoch for report in self.reports if report.trial == name for epoch in report.curve]

    def measures(self, name):
        return {epoch["epoch"]: epoch["measures"] for epoch in self.epochs(name) if "measures" in epoch}


def trial(loss="softmax", seed=0, epochs=4, **own):
    return Trial(f"{loss}-{seed}", loss, own, 0.1, 1e-4, "confirm", (seed,), epochs)


@pytest.fixture
def confirm(digits, tmp_path):
    """confirm(trial, ..., record=EVERY_OTHER, folder="out", park=None, checkpoints=(), **job) -> Told."""

    def run(*trials, record=EVERY_OTHER, folder="out", park=None, checkpoints=(), **job):
        settings = {"network": Network("mlp", (1, 8, 8), 10), "recipe": Recipe(epochs=4), "width": 8,
                    "scorer": Scorer(METRICS["accuracy"], 10), **job}  # fmt: skip
        (tmp_path / folder).mkdir(exist_ok=True)
        orders = [Order(own, 1 + len(checkpoints), tuple({park or own.epochs, own.epochs}), tuple(checkpoints))
                  for own in trials]  # fmt: skip
        script = Script(orders, digits.test, park)
        lane = Lane(Job("tests", folder=str(tmp_path / folder), record=record, **settings), digits.train,
                    digits.validation, script, "lane-1", alone=True)  # fmt: skip
        while lane.turn():
            pass
        lane.close()
        return Told(script.messages)

    return run


# --- the margin's bias ---


def test_bias_of_the_margin_by_hand():
    """The true class does not matter, however large: log(1 + 1), log(1 + 1/3), and uniform over three wrong classes."""
    logits = torch.tensor([[2.0, 0, 0, -math.inf], [math.log(3), 9, 0, -math.inf], [7, 7, 7, -80]])
    found = margin_bias(logits, torch.tensor([0, 1, 3]))
    assert found.tolist() == pytest.approx([0.6931471805599453, 0.28768207245178085, 1.0986122886681098], abs=1e-7)


def test_softmax_loss_is_the_softplus_of_the_biased_margin():
    """Kobayashi's Eq. 6, against torch's cross-entropy."""
    logits = 5 * torch.randn((200, 7), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    targets = torch.arange(200) % 7
    rows, bias = torch.arange(200), margin_bias(logits, targets)
    wrong = torch.stack([torch.cat([row[:y], row[y + 1 :]]).max() for row, y in zip(logits, targets, strict=True)])
    loss = torch.logaddexp(torch.zeros(200, dtype=torch.float64), wrong - logits[rows, targets] + bias)
    torch.testing.assert_close(loss, F.cross_entropy(logits, targets, reduction="none"), rtol=1e-12, atol=1e-12)
    assert (bias > 0).all() and (bias < math.log(6)).all()


def test_bias_at_its_ends():
    assert margin_bias(torch.tensor([[1e30, -1e30], [0.0, 1.0]]), torch.tensor([1, 0])).tolist() == [0, 0]
    assert margin_bias(torch.full((1, 1000), 1e4), torch.tensor([3])).item() == pytest.approx(math.log(999), abs=1e-12)
    assert margin_bias(torch.zeros((1, 1)), torch.tensor([0])).isnan().all()


# --- over epochs ---


def by_hand(folder, name, split):
    """Features (N, 64) and logits (N, 10) of an mlp's last weights, or their average."""
    state = torch.load(folder / "weights" / f"{name}.pt", weights_only=True)
    p = {key: value.double().numpy() for key, value in state["parameters"].items()}
    x = (split.x.astype(np.float64) - state["mean"].item()) * state["scale"].item()
    first = np.maximum(x.reshape(len(x), -1) @ p["1.weight"].T + p["1.bias"], 0)
    hidden = np.maximum(first @ p["3.weight"].T + p["3.bias"], 0)
    return hidden, hidden @ p["head.weight"].T + p["head.bias"]


@pytest.mark.parametrize("recipe", [Recipe(epochs=4), Recipe(epochs=4, average=0.9)])
def test_last_measures_are_those_of_the_weights_that_are_kept(confirm, digits, tmp_path, recipe):
    told = confirm(trial(), recipe=recipe)
    last = told.measures("softmax-0")[4]
    assert set(last) == NAMES and all(len(values) == 1 for values in last.values())
    statistics = features.read(tmp_path / "out" / "features" / "softmax-0.npz").statistics["train"]
    for name, value in training_measures(statistics).items():
        assert last[name][0] == pytest.approx(value, rel=1e-5) and value > 0
    seen = recording.stratified_order(digits.train.y, recording.derive("features", "train") % 2**32)[:200]
    hidden, logits = by_hand(tmp_path / "out", "softmax-0", digits.train.take(seen))
    wrong = np.array([np.delete(row, y) for row, y in zip(logits, digits.train.y[seen], strict=True)])
    bias = np.log(np.exp(wrong - wrong.max(1, keepdims=True)).sum(1)).mean()
    assert last["margin_bias"][0] == pytest.approx(bias, rel=1e-5) and 0 < bias < math.log(9)
    unit, y = hidden / np.linalg.norm(hidden, axis=1, keepdims=True), digits.train.y[seen]
    alike, same = unit @ unit.T, y[:, None] == y
    weight = 1 / np.outer(np.bincount(y)[y], np.bincount(y)[y])  # classes weigh equally
    within, total = ((1 - alike) * weight)[same].sum() / 10, ((1 - alike) * weight).sum() / 100
    assert last["class_separation"][0] == pytest.approx(1 - within / total, rel=1e-4)


def test_measured_after_every_so_many_epochs_and_the_last(confirm):
    """An epoch between others has the measures that training which ends there has."""
    longer = confirm(trial(epochs=3)).measures("softmax-0")
    shorter = confirm(trial(epochs=2), folder="shorter").measures("softmax-0")
    assert list(longer) == [2, 3] and list(shorter) == [2]
    assert longer[2] == shorter[2] and longer[2]["nc1"] != longer[3]["nc1"]


def test_what_a_loss_does_not_define_is_nan(confirm):
    squared = trial("squared_error", kappa=1.0, M=1.0, loss_scale=1.0, epochs=1)
    told = confirm(squared, trial("gaussian_mixture", alpha=0.1, lam=0.1, epochs=1))
    (squared,), (mixture,) = told.measures("squared_error-0").values(), told.measures("gaussian_mixture-0").values()
    undefined = [{name for name, (value,) in found.items() if math.isnan(value)} for found in (squared, mixture)]
    assert undefined == [{"margin_bias"}, {"nc2", "nc3"}]


@pytest.mark.parametrize("network", ["mlp", "small_cnn"])
def test_training_is_the_same_bit_for_bit(confirm, network):
    """Weights, predictions, losses and scores; with dropout, augmentation, batch statistics and averages."""
    own = [trial(), trial("dropout", seed=1, rho=0.7, epochs=2), trial("logit_norm", seed=2, tau=0.1)]
    job = {"network": Network(network, (1, 8, 8), 10),
           "recipe": Recipe(epochs=4, average=0.9, augmentation="crop")}  # fmt: skip
    with_, without = confirm(*own, **job), confirm(*own, record=NONE, folder="without", **job)
    for one in own:
        assert with_.measures(one.id) and not without.measures(one.id)
        plain = [{k: v for k, v in epoch.items() if k != "measures"} for epoch in with_.epochs(one.id)]
        assert plain == without.epochs(one.id) and len(plain) == one.epochs
    files = [{report.trial: report.files for report in told.reports if report.left} for told in (with_, without)]
    assert files[0] == files[1] and set(files[0]["softmax-0"]) == {"predictions", "weights", "features"}


def test_a_member_has_the_same_measures_in_any_company(confirm):
    alone = confirm(trial())
    company = confirm(trial(), trial(seed=1), trial("sigmoid"), folder="company")
    assert alone.measures("softmax-0") == company.measures("softmax-0")


def test_interrupted_and_resumed_all_epochs_are_there_and_the_same(confirm):
    """What was measured before the interruption has been reported; another lane measures the rest."""
    straight = confirm(trial()).epochs("softmax-0")
    parked = confirm(trial(), folder="parked", park=3)
    (checkpoint,) = [report.checkpoint for report in parked.reports if report.checkpoint]
    assert parked.reports[-1].parked and list(parked.measures("softmax-0")) == [2]
    resumed = confirm(trial(), folder="parked", checkpoints=[checkpoint])
    assert parked.epochs("softmax-0") + resumed.epochs("softmax-0") == straight and len(straight) == 4


def test_what_does_not_fit_into_memory_is_computed_again_to_the_same_bits(confirm, monkeypatch):
    straight = confirm(trial()).measures("softmax-0")
    monkeypatch.setattr(recording, "REMEMBERED", 0)
    assert confirm(trial(), folder="again").measures("softmax-0") == straight


def test_what_cannot_be_measured_is_noted_and_the_member_is_confirmed(confirm):
    def raises(statistics):
        raise ValueError("no such measure")

    told = confirm(trial(), record=Recording(0, 0, 200, Curves(1, raises)))
    assert told.notes == ["training is not followed (ValueError: no such measure)"]
    assert not told.measures("softmax-0") and told.reports[-1].results
