"""Errors on corrupted and shifted test sets: mCE by hand, what has no ratio, failed members, records that differ."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from losstune.analysis.report import write_report
from losstune.analysis.robustness import corruption_errors, measure_robustness
from losstune.analysis.robustness_tables import robustness_tables
from losstune.spaces import InputError
from losstune.trainables.robustness import Robustness, Scores, ShiftedScores

NAN = float("nan")


def record(clean: float, noise: list[float], blur: list[float], shifted: float = 0.5, digest: str = "d") -> Robustness:
    """Of errors; the NLL is twice the error."""
    def of(errors: list[float]) -> list[Scores]:
        return [Scores(1 - error, 2 * error, error / 4) for error in errors]

    other = ShiftedScores(1 - shifted, 1.5, 0.1, 0.25, digest, 80)
    return Robustness(50, of([clean])[0], {"gaussian_noise": of(noise), "contrast": of(blur)}, {"dark": other})


# Sums of errors: softmax 1.0 and 1.5 (seed 0), 2.0 and 2.0 (seed 1); label_smoothing 0.5 and 3.0, 1.0 and 3.0.
RECORDS = {
    ("softmax", 0): record(0.1, [0.1, 0.1, 0.2, 0.2, 0.4], [0.1, 0.2, 0.3, 0.4, 0.5]),
    ("softmax", 1): record(0.2, [0.2, 0.3, 0.4, 0.5, 0.6], [0.4, 0.4, 0.4, 0.4, 0.4]),
    ("label_smoothing", 0): record(0.1, [0.1, 0.1, 0.1, 0.1, 0.1], [0.6, 0.6, 0.6, 0.6, 0.6]),
    ("label_smoothing", 1): record(0.0, [0.2, 0.2, 0.2, 0.2, 0.2], [0.4, 0.5, 0.6, 0.7, 0.8]),
}  # fmt: skip


def reading(records):
    return {model: lambda own=own: own for model, own in records.items()}


@pytest.fixture
def results(make_results):
    found = make_results({"softmax": 0.9, "label_smoothing": 0.9}, seeds=2, trials=4)
    return replace(found, robustness=reading(RECORDS))


def row(members: pd.DataFrame, loss: str, seed: int) -> pd.Series:
    return members[(members["loss"] == loss) & (members["seed"] == seed)].iloc[0]


def test_mce_by_hand(results):
    """Seed 0: (0.5/1.0 + 3.0/1.5) / 2 = 1.25; beyond clean errors of 5 x 0.1 = 0.5: (0/0.5 + 2.5/1.0) / 2 = 1.25.
    Seed 1: (1/2 + 3/2) / 2 = 1; beyond 5 x 0 and 5 x 0.2: (1/1 + 3/1) / 2 = 2."""
    members = measure_robustness(results).members
    assert row(members, "label_smoothing", 0)[["mce", "relative_mce"]].tolist() == pytest.approx([1.25, 1.25])
    assert row(members, "label_smoothing", 1)[["mce", "relative_mce"]].tolist() == pytest.approx([1.0, 2.0])
    for seed in (0, 1):
        assert row(members, "softmax", seed)[["mce", "relative_mce"]].tolist() == pytest.approx([1, 1])
    first = row(members, "softmax", 0)
    assert first["corrupted"] == pytest.approx(0.25) and first["clean"] == pytest.approx(0.1)
    assert first["nll"] == pytest.approx(0.5) and first["ece"] == pytest.approx(0.0625)


def test_the_table_has_means_and_standard_errors_over_seeds(results):
    table = robustness_tables(results, measure_robustness(results))[0]
    cells = dict(zip(table.columns, table.rows[1], strict=True))
    assert cells["mCE (%)"] == "112.50 ± 12.50" and cells["relative mCE (%)"] == "162.50 ± 37.50"
    assert cells["error (%)"] == "5.00 ± 5.00" and cells["error corrupted (%)"] == "37.50 ± 2.50"
    assert "Exploratory" in table.caption and "relative to softmax" in table.caption


def test_a_corruption_that_costs_the_baseline_nothing_is_left_out_for_all(results):
    free = record(0.1, [0.1] * 5, [0.1, 0.2, 0.3, 0.4, 0.5])  # noise costs seed 0 of softmax nothing
    found = measure_robustness(replace(results, robustness=reading({**RECORDS, ("softmax", 0): free})))
    assert found.undefined == [] and found.relatively_undefined == ["gaussian_noise"]
    assert row(found.members, "label_smoothing", 0)["relative_mce"] == pytest.approx(2.5)
    assert row(found.members, "label_smoothing", 1)["relative_mce"] == pytest.approx(3.0)
    assert row(found.members, "label_smoothing", 0)["mce"] == pytest.approx((1 + 2) / 2)
    assert "Left out of relative mCE: gaussian_noise" in robustness_tables(results, found)[0].caption


def test_without_a_baseline_there_is_no_mce(make_results):
    found = make_results({"sigmoid": 0.9, "ce_el": 0.9}, seeds=2, trials=4, baseline=None)
    renamed = {(new, seed): RECORDS[old, seed] for new, old in (("sigmoid", "softmax"), ("ce_el", "label_smoothing"))
               for seed in (0, 1)}  # fmt: skip
    found = replace(found, robustness=reading(renamed))
    measured = measure_robustness(found)
    assert measured.baseline is None and measured.members["mce"].isna().all()
    table = robustness_tables(found, measured)[0]
    assert table.rows[0][3] == "not defined" and "no baseline" in table.caption


def test_a_seed_that_the_baseline_lacks_has_no_mce(results):
    some = {model: own for model, own in RECORDS.items() if model != ("softmax", 1)}
    members = measure_robustness(replace(results, robustness=reading(some))).members
    assert row(members, "label_smoothing", 0)["mce"] == pytest.approx(1.25)
    assert np.isnan(row(members, "label_smoothing", 1)["mce"])


def test_nothing_that_is_not_defined_is_made_up(results):
    bare = {model: replace(own, corrupted={name: [Scores(s.accuracy, NAN, NAN) for s in each]
                                           for name, each in own.corrupted.items()})
            if model[0] == "label_smoothing" else own for model, own in RECORDS.items()}  # fmt: skip
    found = replace(results, robustness=reading(bare))
    table = robustness_tables(found, measure_robustness(found))[0]
    assert table.rows[1][-2:] == ["not defined", "not defined"] and "not defined" not in table.rows[0]


def test_a_failed_member_counts_as_the_constant_predictor(results):
    members = results.members.copy()
    failed = (members["loss"] == "label_smoothing") & (members["seed"] == 1)
    members.loc[failed, ["state", "accuracy"]] = "failed", 0.1
    some = {model: own for model, own in RECORDS.items() if model != ("label_smoothing", 1)}
    found = measure_robustness(replace(results, members=members, robustness=reading(some)))
    one = row(found.members, "label_smoothing", 1)
    assert one["clean"] == pytest.approx(0.9) and one["corrupted"] == pytest.approx(0.9)
    assert one["mce"] == pytest.approx(4.5 / 2) and one["nll"] == pytest.approx(np.log(10))
    shifted = found.shifted
    assert row(shifted, "label_smoothing", 1)["accuracy"] == 0.25  # what is recorded of a constant predictor


def test_a_damaged_record_and_one_of_another_shifted_set_are_left_out_and_named(results):
    def damaged():
        raise InputError("robustness/x.json: not a confirmed member's scores")

    kept = reading({**RECORDS, ("softmax", 1): record(0.2, [0.4] * 5, [0.4] * 5, digest="other")})
    kept["label_smoothing", 1] = damaged
    third = {("softmax", 2): RECORDS["softmax", 0]}
    found = measure_robustness(replace(results, robustness={**kept, **reading(third)}))
    assert found.left_out[0].startswith("label_smoothing, seed 1: robustness/x.json")
    assert found.left_out[1].startswith("softmax, seed 1: recorded") and len(found.left_out) == 2
    assert set(zip(found.shifted["loss"], found.shifted["seed"], strict=True)) == {
        ("softmax", 0), ("softmax", 2), ("label_smoothing", 0)}  # fmt: skip


def test_ratios_are_against_a_loop_over_hendrycks_formula():
    rng = np.random.default_rng(0)
    names, losses, seeds = ["a", "b", "c"], ["softmax", "x", "y"], range(4)
    error = rng.uniform(0.2, 0.6, (3, 4, 3, 6))
    error[..., 0] = error[:, :, :1, 0] / 4  # uncorrupted: the same for every corruption
    rows = [(loss, seed, name, severity, error[i, seed, k, severity], NAN, NAN) for i, loss in enumerate(losses)
            for seed in seeds for k, name in enumerate(names) for severity in range(6)]  # fmt: skip
    columns = ["loss", "seed", "corruption", "severity", "error", "nll", "ece"]
    shuffled = pd.DataFrame(rows, columns=columns).sample(frac=1, random_state=1)
    members, undefined = corruption_errors(shuffled, "softmax")
    assert undefined == ([], [])
    for i, loss in enumerate(losses):
        for seed in seeds:
            plain = [sum(error[i, seed, k, 1:]) / sum(error[0, seed, k, 1:]) for k in range(3)]
            beyond = [sum(e - error[i, seed, k, 0] for e in error[i, seed, k, 1:])
                      / sum(e - error[0, seed, k, 0] for e in error[0, seed, k, 1:]) for k in range(3)]  # fmt: skip
            one = row(members, loss, seed)
            assert one["mce"] == pytest.approx(np.mean(plain)) and one["relative_mce"] == pytest.approx(np.mean(beyond))


def test_the_page_has_the_sections_of_what_was_recorded(results, tmp_path):
    page = write_report(results, tmp_path).read_text()
    for title in ("Corrupted images", "Shifted test sets"):
        assert f">{title}</h2>" in page
    assert (tmp_path / "tables" / "shifted.csv").is_file()
    assert (tmp_path / "figures" / "corruptions.pdf").is_file()
    assert "gaussian noise" in page and "Transfer to other data" not in page
    assert measure_robustness(replace(results, robustness={})) is None
