"""record: corruptions, shifted, transfer: what is refused before Ray starts, and a study that has them, to its end."""

import json

import numpy as np
import pytest
from ran import Ran, assert_as_retrained
from sklearn.datasets import load_digits

from losstune import load_model
from losstune.search.other_data import _fitted, load_other_data
from losstune.search.package import pack
from losstune.search.plan import make_plan
from losstune.search.study import load_study
from losstune.spaces import InputError
from losstune.trainables import robustness, transferred
from losstune.trainables.corruptions import CORRUPTIONS, corrupt
from losstune.trainables.metrics import METRICS, to_probabilities

TEXT = """\
data: digits
network: mlp
losses: [softmax, squared_error]
recipe: {epochs: 3}
search: {trials: 1, seeds: 1, halving: null}
confirm: {seeds: 2}
resources: {max_lanes: 1}
"""
X, Y = load_digits(return_X_y=True)
X = X.reshape(-1, 8, 8)


def data(path, x, y, n_test: int) -> None:
    np.savez(path, x_train=x[:-n_test], y_train=y[:-n_test], x_test=x[-n_test:], y_test=y[-n_test:])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("other")
    data(folder / "dark.npz", np.rint(X / 2)[:400], Y[:400], 150)
    data(folder / "five.npz", X[:200], Y[:200] // 2, 80)
    data(folder / "large.npz", np.kron(X[:200] * 15, np.ones((2, 2))).astype(np.uint8), Y[:200], 80)
    data(folder / "vectors.npz", X[:200].reshape(200, 64), Y[:200], 80)
    data(folder / "named.npz", X[:200], np.array(list("abcdefghij"))[Y[:200]], 80)
    return folder


def study(folder, record: str):
    (folder / "my.yaml").write_text(f"{TEXT}record: {record}\n")
    return load_study(folder / "my.yaml")


@pytest.mark.parametrize(("record", "message"), [
    ("{corruptions: [fog]}", r"record.corruptions: \['fog'\]: should be true, false, or a list of gaussian_noise, "),
    ("{corruptions: [contrast, contrast]}", "record.corruptions: .* should be true, false, or a list"),
    ("{shifted: {'': digits}}", "record.shifted"),
    ("{shifted: {dark: 'npz:none.npz'}}", "record.shifted.dark: .*none.npz"),
    ("{shifted: {five: 'npz:five.npz'}}", "record.shifted.five: 5 classes; allowed: 10, as the study's own data"),
    ("{shifted: {large: 'npz:large.npz'}}", r"record.shifted.large: an example has shape \(1, 16, 16\); allowed: "),
    ("{transfer: ['npz:vectors.npz']}", r"record.transfer.0: an example has shape \(64,\); allowed: \(1, 8, 8\)"),
    ("{transfer: [own, nothing]}", "record.transfer.1: .*unknown data set 'nothing'"),
])  # fmt: skip
def test_what_does_not_fit_is_one_line_before_anything_starts(folder, record, message):
    with pytest.raises(InputError, match=f"my.yaml: {message}") as error:
        make_plan(study(folder, record))
    assert "\n" not in str(error.value)


def test_classes_of_other_names_are_refused_and_counted_ones_are_taken(folder):
    plain = study(folder, "{shifted: {named: 'npz:named.npz'}}")
    counted = load_other_data(plain, (1, 8, 8), tuple("0123456789"), None)
    assert len(counted.shifted["named"].test) == 80
    with pytest.raises(InputError, match="record.shifted.named: class 2 is 'c'; allowed: 'x', as in the study's own"):
        load_other_data(plain, (1, 8, 8), tuple("abxdefghij"), None)


def test_vectors_have_no_corruptions(folder):
    np.savez(folder / "mine.npz", **{f"x_{part}": X[:100].reshape(100, 64) for part in ("train", "test")},
             **{f"y_{part}": Y[:100] for part in ("train", "test")})  # fmt: skip
    (folder / "mine.yaml").write_text(TEXT.replace("digits", "npz:mine.npz") + "record: {corruptions: true}\n")
    with pytest.raises(InputError, match="record.corruptions: corruptions are of images"):
        make_plan(load_study(folder / "mine.yaml"))


def test_what_is_recorded_by_default_is_nothing_of_other_data(folder):
    assert load_study(folder / "my.yaml").record is not None
    plan = make_plan(study(folder, "{features: 10}"))
    assert not plan.others.shifted and not plan.others.transfer and plan.others.own_examples == 0
    assert study(folder, "{corruptions: true}").record.corruptions == tuple(CORRUPTIONS)
    assert study(folder, "{corruptions: false}").record.corruptions == ()


def test_images_to_transfer_to_are_brought_to_the_studys_shape():
    grey = np.full((2, 1, 4, 4), 100, np.uint8)
    assert np.array_equal(_fitted(grey, (3, 8, 8)), np.full((2, 3, 8, 8), 100))
    colour = np.zeros((1, 3, 8, 8), np.uint8)
    colour[:, 0], colour[:, 1] = 100, 200
    assert (_fitted(colour, (1, 8, 8)) == 147).all()  # 0.299 * 100 + 0.587 * 200 = 147.3
    ramp = np.repeat(np.arange(0, 160, 10, dtype=np.uint8)[None, :], 16, 0)[None, None]
    # Halved by a triangle of 4 pixels, with weights 1, 3, 3, 1: inside, the mean of two pixels.
    assert _fitted(ramp, (1, 8, 8))[0, 0, 3, 1:-1].tolist() == [25, 45, 65, 85, 105, 125]


def test_files_of_other_data_go_along_to_a_cluster(folder, tmp_path):
    pack(study(folder, "{shifted: {dark: 'npz:dark.npz'}, transfer: [own, 'npz:five.npz']}"), tmp_path)
    there = load_study(tmp_path / "work" / "my.yaml")
    assert make_plan(there).others.transfer.keys() == {"npz:five.npz"}
    assert (tmp_path / "work" / "dark.npz").read_bytes() == (folder / "dark.npz").read_bytes()


# --- a study to its end ---

RECORD = ("{features: 0, layers: 0, train_examples: 0, corruptions: [contrast, gaussian_noise], corruption_examples: "
          "200, shifted: {dark: 'npz:dark.npz'}, transfer: [own, 'npz:five.npz'], transfer_examples: 200}")  # fmt: skip


@pytest.fixture(scope="module")
def ran(folder, start):
    study(folder, RECORD)
    found = Ran(folder, start).run()
    assert found.ended.status == 0, found.ended
    return found


def test_each_member_has_its_scores_and_features_and_the_ledger_their_digests(ran):
    members = ran.trials("confirm")
    assert len(members) == 4
    for row in members:
        assert set(row["files"]) == {"predictions", "weights", "robustness", "transfer"}
        assert row["files"]["robustness"] == ran.files("robustness")[f"{row['id']}.json"]
        scores = robustness.read(ran.out / "robustness" / f"{row['id']}.json")
        assert scores.examples == 200 and list(scores.corrupted) == ["contrast", "gaussian_noise"]
        assert scores.shifted["dark"].examples == 150
        assert np.isnan(scores.clean.nll) == (row["loss"] == "squared_error")
        kept = transferred.read(ran.out / "transfer" / f"{row['id']}.npz")
        assert {name: (len(own.train.targets), len(own.test.targets)) for name, own in kept.items()} == {
            "own": (200, 200), "npz:five.npz": (120, 80)}  # fmt: skip
        assert kept["own"].train.features.dtype == np.float16 and kept["npz:five.npz"].train.targets.max() == 4


def test_the_scores_are_those_of_the_model_on_images_corrupted_here(ran):
    """By the winner's file and the public model, which know nothing of records."""
    model = load_model(ran.report / "winner.yaml")
    fields = (ran.report / "winner.yaml").read_text()
    loss = "softmax" if "loss: softmax" in fields else "squared_error"
    trial = f"confirm0-{loss}-0000"
    found = robustness.read(ran.out / "robustness" / f"{trial}.json")
    kept = transferred.read(ran.out / "transfer" / f"{trial}.npz")
    plan = make_plan(study(ran.folder, RECORD))
    order = kept["own"].test.indices  # the same 200 that are corrupted
    for name, severity in (("contrast", 5), ("gaussian_noise", 2)):
        images = corrupt(plan.test.x[order], name, severity, order, 16)
        accuracy = (model.predict(images) == plan.test.y[order]).mean()
        assert found.corrupted[name][severity - 1].accuracy == accuracy
    assert found.clean.accuracy == (model.predict(plan.test.x[order]) == plan.test.y[order]).mean()
    with np.load(ran.folder / "dark.npz") as dark:
        x, y = dark["x_test"].astype(np.uint8)[:, None], dark["y_test"]
    assert found.shifted["dark"].accuracy == (model.predict(x) == y).mean()
    if loss == "softmax":
        nll = METRICS["nll"].function(to_probabilities(model.logits(x), "softmax"), y)
        assert found.shifted["dark"].nll == pytest.approx(nll, rel=1e-5)
    assert found.shifted["dark"].constant_accuracy == (y == np.bincount(plan.train.y).argmax()).mean()


def test_the_report_shows_them(ran):
    page = (ran.report / "report.html").read_text()
    for title in ("Corrupted images", "Shifted test sets", "Transfer to other data"):
        assert f">{title}</h2>" in page
    assert (ran.report / "transfer.csv").read_text().count("\n") == 1 + 4 * 2


def test_not_a_bit_of_training_depends_on_what_is_looked_at(ran):
    """Members trained here, of which nothing is recorded, predict the same."""
    assert_as_retrained(ran)


def test_a_record_that_is_damaged_is_refused_in_one_line(ran):
    path = next((ran.out / "robustness").glob("*squared_error-0001.json"))
    whole = path.read_bytes()
    odd = json.dumps({"examples": 3}).encode(), whole.replace(b'"accuracy": 0', b'"accuracy": 7')
    for damage in (b"", whole[:100], *odd):
        path.write_bytes(damage)
        with pytest.raises(InputError, match="not a confirmed member's scores on other test sets"):
            robustness.read(path)
    path.write_bytes(whole)
    other = next((ran.out / "transfer").glob("*.npz"))
    content = other.read_bytes()
    for damage in (b"", content[:2000], content[:-2000]):
        other.write_bytes(damage)
        with pytest.raises(InputError, match="not a confirmed member's features of other data sets"):
            transferred.read(other)
    other.write_bytes(content)
