"""A study that follows training: its file, real training and conductor without Ray, interrupted, and its results."""

import math

import pytest
import torch
from pieces import Pieces
from test_conductor import essence

from losstune.analysis.followed import training_measures
from losstune.search.ledger import read
from losstune.search.record_part import RecordPart, recording
from losstune.search.recorded import load_results
from losstune.search.study import load_study
from losstune.spaces import InputError
from losstune.trainables import lane as lanes
from losstune.trainables.features import Curves

TEXT = """\
data: digits
network: mlp
losses: [softmax, squared_error]
recipe: {epochs: 4, batch_size: 64, train_examples: 300}
search: {trials: 2, seeds: 2, halving: {first: 1, factor: 3}}
confirm: {seeds: 2}
resources: {members: 8, backend: batched}
record: RECORD
"""
FOLLOWED = "{curves: 2, features: 0, layers: 0, train_examples: 100}"
PLAIN = "{features: 0, layers: 0, train_examples: 100}"


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def ran(folder, how: str, turns: int = 10_000) -> Pieces:
    """A study run to its end; with a fresh conductor and lane after every so many turns, killed, if turns is given."""
    study = Pieces(folder, TEXT.replace("RECORD", how))
    study.pieces = 1
    while not piece(study, turns):
        study.pieces += 1
    return study


def piece(study: Pieces, turns: int) -> bool:
    with study.conductor() as conductor:
        lane = study.lane(conductor)
        return not all(lane.turn() for _ in range(turns))


def measures(study: Pieces) -> dict:
    return {(trial, epoch["epoch"]): repr(epoch["measures"]) for trial, epoch in study.epochs() if "measures" in epoch}


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    return ran(tmp_path_factory.mktemp("curves") / "followed", FOLLOWED)


def test_a_study_ends_bit_for_bit_as_without(followed, tmp_path):
    """Asks, choices, scores, training losses, and the digests of weights, predictions and features."""
    plain = ran(tmp_path / "plain", PLAIN)
    assert essence(followed.read(read.all_trials)) == essence(plain.read(read.all_trials))
    files = [{row["id"]: row["files"] for row in own.read(read.all_trials) if row["files"]}
             for own in (followed, plain)]  # fmt: skip
    assert files[0] == files[1] and len(files[0]) == 4
    without = [(trial, {k: v for k, v in epoch.items() if k != "measures"}) for trial, epoch in followed.epochs()]
    assert repr(without) == repr(plain.epochs()) and not measures(plain)
    assert load_results(plain.out).training_measures.empty


def test_however_it_is_interrupted_no_epochs_measures_are_lost_or_change(followed, tmp_path, monkeypatch):
    """Checkpoints after every epoch, and a new conductor and lane after every two or three turns."""
    monkeypatch.setattr(lanes, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(lanes, "SAVING_SHARE", 0)
    for turns in (3, 4):
        broken = ran(tmp_path / str(turns), FOLLOWED, turns)
        assert broken.pieces > 2 and measures(broken) == measures(followed)


def test_results_have_a_row_per_seed_epoch_and_measure(followed):
    """Of confirmed members, after every second epoch and the last one."""
    found, trials = load_results(followed.out).training_measures, followed.read(read.all_trials)
    ends = {(row["loss"], row["number"]): row["epoch"] for row in trials if row["phase"] == "confirm"}
    expected = {(*member, epoch) for member, end in ends.items() for epoch in {*range(2, end + 1, 2), end}}
    assert set(found[["loss", "seed", "epoch"]].itertuples(index=False, name=None)) == expected
    assert len(found) == 5 * len(expected) and set(found["measure"]) == {
        "margin_bias", "nc1", "nc2", "nc3", "class_separation"}  # fmt: skip
    bias = found[found["measure"] == "margin_bias"].groupby("loss")["value"]
    assert bias.count().get("squared_error") == 0 and bias.max()["softmax"] < math.log(9) and bias.min()["softmax"] > 0


# --- the study's file ---


@pytest.mark.parametrize("said", [False, None, 0])
def test_by_default_nothing_is_followed(said):
    assert recording(RecordPart(curves=said)).curves is None and recording(RecordPart()).curves is None
    assert recording(RecordPart(curves=3)).curves == Curves(3, training_measures)


@pytest.mark.parametrize(("how", "line"), [
    ("{curves: true}", "record.curves: True: should be a whole number of epochs, or false for none"),
    ("{curves: -1}", "record.curves: -1: should be a whole number of epochs, or false for none"),
    ("{curves: 2.0}", "record.curves: 2.0: should be a whole number of epochs, or false for none"),
    ("{curves: 2, train_examples: 0}", "curves are of training examples; allowed: train_examples above 0, or curves: "),
])  # fmt: skip
def test_wrong_curves(tmp_path, how, line):
    (tmp_path / "my.yaml").write_text(TEXT.replace("RECORD", how))
    with pytest.raises(InputError) as raised:
        load_study(tmp_path / "my.yaml")
    assert line in str(raised.value) and "\n" not in str(raised.value)
