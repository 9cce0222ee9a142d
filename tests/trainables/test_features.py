"""What is recorded of a confirmed member's network, by lanes that really train, against the same by hand in numpy."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch

from losstune.spaces import InputError
from losstune.trainables import features, predictions, recording
from losstune.trainables.features import Recording
from losstune.trainables.job import Job
from losstune.trainables.lane import Lane
from losstune.trainables.messages import Order, Orders
from losstune.trainables.metrics import METRICS
from losstune.trainables.network import Network
from losstune.trainables.recipe import Recipe
from losstune.trainables.recording import stratified_order
from losstune.trainables.scoring import Scorer
from losstune.trainables.trial import Trial

SMALL = Recording(features=50, layers=30, train_examples=200)
SKIPS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, inputs, classes):
        super().__init__()
        self.flat, self.hidden, self.more = nn.Flatten(), nn.Linear(inputs, 16), nn.Linear(inputs, inputs)
        self.final = nn.Linear(16, classes)

    def forward(self, x):
        x = self.flat(x)
        if len(x) < {fewer}:
            x = self.more(x)
        return self.final(self.hidden(x).relu() * {factor})

def build(input_shape, classes):
    return Net(64, classes)
"""


class Script:
    """A conductor that has these trials trained, all at once, and keeps what it is told."""

    def __init__(self, trials, test):
        self.orders, self.test, self.messages = [Order(own, 1, (own.epochs,)) for own in trials], test, []
        self.open = {own.id for own in trials}

    def send(self, message):
        self.messages.append(message)
        self.open -= {report.trial for report in message.reports if report.left}

    def answer(self, _seconds):
        start, self.orders = self.orders, []
        return Orders(start, [], done=not self.open, test=self.test)


def trial(loss="softmax", seed=0, epochs=2, name=None, **own):
    return Trial(name or f"confirm0-{loss}-{seed:04d}", loss, own, 0.1, 1e-4, "confirm", (seed,), epochs)


@pytest.fixture
def confirm(digits, tmp_path):
    """confirm(trial, ..., record=SMALL, **job) -> {trial id: report} and the notes, after training."""

    def run(*trials, record=SMALL, folder="out", **job):
        settings = {"network": Network("mlp", (1, 8, 8), 10), "recipe": Recipe(epochs=3), "width": 8,
                    "scorer": Scorer(METRICS["accuracy"], 10), **job}  # fmt: skip
        (tmp_path / folder).mkdir(exist_ok=True)
        script = Script(trials, digits.test)
        lane = Lane(Job("tests", folder=str(tmp_path / folder), record=record, **settings), digits.train,
                    digits.validation, script, "lane-1")  # fmt: skip
        while lane.turn():
            pass
        lane.close()
        reports = {report.trial: report for message in script.messages for report in message.reports if report.left}
        return reports, [note for message in script.messages for note in message.notes]

    return run


@pytest.fixture
def read(tmp_path):
    return lambda name, folder="out": features.read(tmp_path / folder / "features" / f"{name}.npz")


def by_hand(folder, name, split):
    """The outputs (N, 128) and (N, 64) of an mlp's two hidden layers."""
    state = torch.load(folder / "weights" / f"{name}.pt", weights_only=True)
    p = {key: value.double().numpy() for key, value in state["parameters"].items()}
    x = (split.x.astype(np.float64) - state["mean"].item()) * state["scale"].item()
    first = np.maximum(x.reshape(len(x), -1) @ p["1.weight"].T + p["1.bias"], 0)
    return first, np.maximum(first @ p["3.weight"].T + p["3.bias"], 0)


def test_everything_recorded_is_what_the_weights_make_of_the_examples(confirm, read, digits, tmp_path):
    confirm(trial())
    found = read("confirm0-softmax-0000")
    for split, examples in (("train", digits.train), ("test", digits.test)):
        _, hidden = by_hand(tmp_path / "out", "confirm0-softmax-0000", examples)
        own = found.examples[split]
        assert own.features.shape == (50, 64) and own.features.dtype == np.float16
        assert np.array_equal(own.targets, examples.y[own.indices]) and len(set(own.indices.tolist())) == 50
        np.testing.assert_allclose(own.features, hidden[own.indices], rtol=1e-3, atol=1e-4)
        seen = np.arange(len(examples.y)) if split == "test" else train_sample(digits)
        means = [hidden[seen][examples.y[seen] == k].mean(0) for k in range(10)]
        np.testing.assert_allclose(found.statistics[split].class_means, means, rtol=1e-4, atol=1e-5)
        assert found.statistics[split].counts.tolist() == np.bincount(examples.y[seen]).tolist()
    sample = by_hand(tmp_path / "out", "confirm0-softmax-0000", digits.test.take(found.layers.indices))
    assert found.layers.names.tolist() == ["1 Linear", "features"] and len(found.layers.indices) == 30
    for gram, share, outputs in zip(found.layers.grams, found.layers.sparsity, sample, strict=True):
        centered = outputs - outputs.mean(0)
        expected = [centered[i] @ centered[j] for i in range(30) for j in range(i, 30)]
        np.testing.assert_allclose(gram, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
        assert share == pytest.approx((outputs == 0).mean(), abs=1e-6) and 0.1 < share < 0.9


def train_sample(digits):
    """The training examples that are looked at: those whose features are kept when all are."""
    return stratified_order(digits.train.y, recording.derive("features", "train") % 2**32)[:200]


def test_nearest_centers_of_the_test_examples_are_those_of_training(confirm, read, digits, tmp_path):
    confirm(trial())
    found = read("confirm0-softmax-0000").statistics["test"]
    (_, train), (_, test) = (by_hand(tmp_path / "out", "confirm0-softmax-0000", s) for s in (digits.train, digits.test))
    seen = train_sample(digits)
    centers = np.stack([train[seen][digits.train.y[seen] == k].mean(0) for k in range(10)])
    nearest = ((test[:, None] - centers) ** 2).sum(2).argmin(1)
    assert found.nearest_right.tolist() == np.bincount(digits.test.y[nearest == digits.test.y], minlength=10).tolist()


@pytest.mark.parametrize(("loss", "own"), [
    ("softmax", {}), ("super_symmetric", {}), ("sigmoid", {}), ("cosine_softmax", {"tau": 0.1}),
    ("gaussian_mixture", {"alpha": 0.1, "lam": 0.1}),
])  # fmt: skip
def test_features_and_final_layer_give_the_predictions(confirm, read, tmp_path, loss, own):
    """Of averaged weights too; a cosine layer's rows have length 1, and a layer that is not linear is not recorded."""
    defaults = {"normalize_features": True, "scale_loss": False} if loss == "cosine_softmax" else {}
    confirm(trial(loss, **defaults, **own), recipe=Recipe(epochs=3, average=0.9))
    found = read(f"confirm0-{loss}-0000")
    kept = predictions.read(tmp_path / "out" / "predictions" / f"confirm0-{loss}-0000.npz")
    test, weight = found.examples["test"], found.statistics["test"].weight
    expected = kept.test_logits[test.indices]
    if loss == "gaussian_mixture":
        assert weight is None and found.bias is None and found.statistics["test"].nearest_agrees is None
    elif loss == "cosine_softmax":
        np.testing.assert_allclose((weight**2).sum(1), 1, rtol=1e-5)
        unit = test.features / np.linalg.norm(test.features.astype(float), axis=1, keepdims=True)
        state = torch.load(tmp_path / "out" / "weights" / f"confirm0-{loss}-0000.pt", weights_only=True)
        bias = state["parameters"]["head.bias"].numpy()
        assert found.bias is None
        np.testing.assert_allclose(unit @ weight.T / 0.1 + bias, expected, atol=0.02)
    else:
        logits = test.features.astype(float) @ weight.T + (0 if found.bias is None else found.bias)
        assert (found.bias is None) == (loss == "super_symmetric")
        np.testing.assert_allclose(logits, expected, atol=0.02)


def test_the_same_examples_for_every_loss_and_seed_and_the_same_bits_in_any_company(confirm, read, tmp_path):
    own = [trial(), trial("sigmoid", seed=1), trial("softmax", seed=1, epochs=3)]
    confirm(*own)
    confirm(own[0], folder="alone")
    found = [read(one.id) for one in own]
    for split in ("train", "test"):
        assert len({one.examples[split].indices.tobytes() for one in found}) == 1
    assert len({one.layers.indices.tobytes() for one in found}) == 1
    alone, company = (tmp_path / place / "features" / f"{own[0].id}.npz" for place in ("alone", "out"))
    assert alone.read_bytes() == company.read_bytes()


def test_training_is_the_same_whether_it_is_recorded_or_not(confirm, tmp_path):
    """A neighbour's that goes on after the record; its scores and its files."""
    own = [trial(epochs=1), trial("dropout", seed=1, epochs=3, rho=0.7)]
    first, second = (confirm(*own, record=record, folder=str(bool(record)))[0] for record in (SMALL, None))
    assert [report.curve for report in first.values()] == [report.curve for report in second.values()]
    for trial_id in first:
        wanted = {kind: first[trial_id].files[kind] for kind in ("predictions", "weights")}
        assert second[trial_id].files == wanted and len(first[trial_id].files["features"]) == 64
    assert not (tmp_path / "False" / "features").exists()


def test_what_does_not_fit_into_memory_is_computed_again_to_the_same_bits(confirm, tmp_path, monkeypatch):
    confirm(trial())
    monkeypatch.setattr(recording, "REMEMBERED", 0)
    confirm(trial(), folder="again")
    one, other = (tmp_path / place / "features" / "confirm0-softmax-0000.npz" for place in ("out", "again"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(("record", "train", "test", "layers"), [
    (Recording(None, 0, 100), 100, 360, None), (Recording(0, 5, 0), None, None, 5),
    (Recording(400, 0, 0), None, 360, None),
])  # fmt: skip
def test_only_what_is_wanted(confirm, read, record, train, test, layers):
    """All features are those of all examples that are looked at."""
    confirm(trial(), record=record)
    found = read("confirm0-softmax-0000")
    kept = {split: len(own.targets) for split, own in found.examples.items()}
    assert (kept.get("train"), kept.get("test")) == (train, test)
    assert ("train" in found.statistics) == (train is not None) and found.statistics["test"].counts.sum() == 360
    assert (found.layers and len(found.layers.indices)) == layers


def test_a_network_that_cannot_be_recorded_is_noted_and_its_members_are_confirmed(confirm, tmp_path):
    """It uses a layer for small batches only."""
    network = Network("net.py:build", (1, 8, 8), 10, source=SKIPS.format(factor=1, fewer=3))
    reports, notes = confirm(trial(), trial(seed=1), network=network)
    assert all(set(report.files) == {"predictions", "weights"} and report.results for report in reports.values())
    (note,) = notes
    assert note.startswith("features are not recorded (") and not (tmp_path / "out" / "features").exists()


def test_features_beyond_float16(confirm, read):
    """They are kept in float32."""
    source = SKIPS.format(factor=1e6, fewer=0)
    confirm(
        trial(), network=Network("net.py:build", (1, 8, 8), 10, source=source), recipe=Recipe(epochs=3, clip_norm=1e-9)
    )
    found = read("confirm0-softmax-0000").examples["test"].features
    assert found.dtype == np.float32 and 1e5 < found.max() < np.inf


def test_every_beginning_of_the_order_has_the_classes_in_proportion():
    """Four of class 0 at 1/8, 3/8, 5/8 and 7/8 of it, two of class 1 at 1/4 and 3/4."""
    targets = np.array([1, 0, 0, 1, 0, 0])
    for seed in range(5):
        order = stratified_order(targets, seed)
        assert targets[order].tolist() == [0, 1, 0, 0, 1, 0] and sorted(order) == list(range(6))
    assert len({tuple(stratified_order(targets, seed)) for seed in range(20)}) > 5
    assert stratified_order(np.array([2]), 0).tolist() == [0]


# --- the file ---


@pytest.fixture
def path(confirm, tmp_path):
    confirm(trial(epochs=1))
    return tmp_path / "out" / "features" / "confirm0-softmax-0000.npz"


def test_damage_is_found_wherever_it_is(path):
    content = path.read_bytes()
    for place in np.linspace(0, len(content) - 1, 40).astype(int):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:  # what no reader looks at, as a date in the archive, is no damage to what is read
            found = features.read(path)
        except InputError as error:
            assert "not a confirmed member's features" in str(error) and "\n" not in str(error)
        else:
            again = io.BytesIO()
            np.savez(again, **features._arrays_of(found))
            assert again.getvalue() == content
    for short in (0, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:short])
        with pytest.raises(InputError, match="not a confirmed member's features"):
            features.read(path)


def changed(path, **values):
    """The file with other arrays, None for none."""
    with np.load(path) as archive:
        arrays = {**archive, **{name.replace("__", "/"): value for name, value in values.items()}}
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})


@pytest.mark.parametrize("values", [
    {"layers__names": np.array([{}, []], dtype=object)}, {"layers__grams": np.zeros((2, 7), np.float32)},
    {"layers__sparsity": None}, {"examples__test__targets": np.zeros(50)}, {"bias": np.zeros(11, np.float32)},
    {"examples__train__features": np.zeros((50, 63), np.float16)}, {"more": np.zeros(1)}, {"more__bias": np.zeros(1)},
    {"statistics__test__counts": None},
])  # fmt: skip
def test_arrays_that_are_no_record_are_refused(path, values):
    """Pickles among them."""
    changed(path, **values)
    with pytest.raises(InputError, match="not a confirmed member's features"):
        features.read(path)


def test_a_missing_file_and_another_kind_of_file_are_named(path):
    for other in (path.with_name("gone.npz"), path.parent.parent / "predictions" / path.name):
        with pytest.raises(InputError, match=f"{other.name}: not a confirmed member's features"):
            features.read(other)


def test_the_size_is_foretold(confirm, make_stack, tmp_path):
    """Within a tenth: of the archive's own words, and the smaller statistics."""
    confirm(trial(epochs=1), record=Recording())
    size = (tmp_path / "out" / "features" / "confirm0-softmax-0000.npz").stat().st_size
    told = recording.bytes_per_member(Recording(), make_stack(), 1221, 360)
    assert 0.9 * size < told < size
    without = recording.bytes_per_member(replace(Recording(), layers=0), make_stack(), 1221, 360)
    assert told - without == 2 * 256 * 257 // 2 * 4
