"""Transfer of recorded features: which are measured, what a failed member counts with, and what is not fitted again."""

from dataclasses import replace

import numpy as np
import pytest

from losstune.analysis import transferred
from losstune.analysis.report import _add_other_data, _known_probes
from losstune.analysis.robustness_tables import transfer_table_of
from losstune.analysis.transfer import Labelled, Splits, linear_probe
from losstune.analysis.transferred import measure_transfer
from losstune.trainables.features import Examples
from losstune.trainables.transferred import Transferred


def examples(rng, n: int, spread: float, classes: int) -> Examples:
    targets = np.arange(n) % classes
    centers = 3 * np.eye(4)[:classes]
    features = centers[targets] + spread * rng.normal(size=(n, 4))
    return Examples(features.astype(np.float16), targets, np.arange(n))


def record(seed: int, spread: float) -> dict[str, Transferred]:
    rng = np.random.default_rng(seed)
    return {name: Transferred(examples(rng, 60, spread, classes), examples(rng, 40, spread, classes), digest)
            for name, classes, digest in (("own", 4, ""), ("npz:other.npz", 3, "d"))}  # fmt: skip


RECORDS = {(loss, seed): record(seed, spread) for loss, spread in (("softmax", 0.3), ("label_smoothing", 2.0))
           for seed in (0, 1)}  # fmt: skip


@pytest.fixture
def results(make_results):
    found = make_results({"softmax": 0.9, "label_smoothing": 0.9}, seeds=2, trials=4)
    return replace(found, transfer={model: lambda own=own: own for model, own in RECORDS.items()})


@pytest.fixture(scope="module")
def expected():
    """Of each member and data set what transfer.py finds."""
    found = {}
    for model, own in RECORDS.items():
        for name, data in own.items():
            parts = (Labelled(part.features.astype(float), part.targets) for part in (data.train, data.test))
            found[*model, name] = linear_probe(Splits(*parts)).accuracy
    return found


def test_each_member_is_probed_on_each_data_set_and_once(results, expected, tmp_path, monkeypatch):
    first = added(results, tmp_path)
    known = _known_probes(tmp_path / "transfer.csv")
    found = {(row["loss"], row["seed"], row["data"]): row["accuracy"] for row in known.to_dict("records")}
    assert found == expected
    monkeypatch.setattr(transferred, "transfer_table", None)  # another report learns nothing again
    before = (tmp_path / "transfer.csv").read_bytes()
    assert added(results, tmp_path) == first and (tmp_path / "transfer.csv").read_bytes() == before
    altered = {**results.transfer, ("softmax", 0): lambda: record(7, 0.3)}
    with pytest.raises(TypeError):  # but of features that are others
        measure_transfer(replace(results, transfer=altered), known)


def added(results, folder) -> list:
    """The tables that a report has beside its others."""
    tables = []
    _add_other_data(results, {}, tables, [], folder / "transfer.csv")
    return tables


def test_what_an_earlier_report_left_damaged_is_not_used(tmp_path):
    for text in ("", "loss,seed\nsoftmax,0\n", '"'):
        (tmp_path / "transfer.csv").write_text(text)
        assert _known_probes(tmp_path / "transfer.csv") is None


def test_failed_members_and_other_data_of_the_same_name(results, monkeypatch):
    monkeypatch.setattr(transferred, "_fitted", lambda loss, seed, name, digest, own: {
        "loss": loss, "seed": seed, "data": name, "accuracy": 1.0, "penalty": 1.0, "at_end": "", "converged": True,
        "n_train": 60, "reason": "", "digest": digest})  # fmt: skip
    members = results.members.copy()
    members.loc[(members["loss"] == "label_smoothing") & (members["seed"] == 1), "state"] = "failed"
    other = {**record(1, 0.3), "npz:other.npz": replace(record(1, 0.3)["npz:other.npz"], digest="e")}
    kept = {("softmax", 0): lambda: RECORDS["softmax", 0], ("softmax", 1): lambda: other}
    results = replace(results, members=members, transfer=kept)
    found = measure_transfer(results)
    assert found.left_out == ["softmax, seed 1: its features are of another npz:other.npz than those of others"]
    failed = found.probes[found.probes["loss"] == "label_smoothing"].set_index("data")["accuracy"]
    # Classes go round: of 40 test examples 10 are of class 0, of three classes 14.
    assert failed.to_dict() == {"own": 0.25, "npz:other.npz": 0.35}
    table = transfer_table_of(results, found)
    assert table.columns[2:] == ["own, relearned (%)", "npz:other.npz (%)"]
    assert table.rows[1][2:] == ["25.00", "35.00"]
