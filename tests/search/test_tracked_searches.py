"""A study that repeats its search, in MLflow: its report, and below it what each search has come to, once."""

from __future__ import annotations

from pathlib import Path

import pytest
from tracked import LOSSES, RUNS, client, contents, finished_study, runs, views, write_report

from losstune.search.in_turn import inputs_of
from losstune.search.ledger import write
from losstune.search.ledger.database import Ledger, set_meta
from losstune.search.locations import ledger_path
from losstune.search.mlflow_ui import ui_page
from losstune.search.repeated import NOTED, folders_of
from losstune.search.tracked_searches import picture_of_searches
from losstune.search.tracking import sync
from losstune.spaces import InputError

BELOW = 2 * (1 + 2)  # per loss a run with one for each of two searches


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def folder(tmp_path):
    """Of two searches that are done, the second better by 0.04, and the report over them."""
    folder = tmp_path / "runs" / "tiny"
    for number, better in ((1, 0.0), (2, 0.04)):
        name = f"tiny-search-{number}"
        finished_study(folder.with_name(name), better=better, name=name)
    (folder / "ledger").mkdir(parents=True)
    write_report(folder / "report")
    note(folder)
    return folder


def note(folder: Path, planned: int = 2) -> None:
    """Have the report be of what is recorded now."""
    change(folder, 1, set_meta, NOTED, {"planned": planned, "made_of": [planned, inputs_of(folders_of(folder))]})


def change(folder: Path, number: int, how, *arguments, **values) -> None:
    """Write to the ledger of a search."""
    ledger = Ledger.create_or_open(ledger_path(folder.with_name(f"tiny-search-{number}")))
    with ledger.transaction() as tx:
        how(tx, *arguments, **values)
    ledger.close()


def pictured(folder: Path) -> dict:
    return {run.name: run for run in picture_of_searches(folder).runs}


def values(run) -> dict[str, float]:
    return {point.key: point.value for point in run.points}


def test_losses_are_below_the_report_and_searches_below_losses(folder):
    found = picture_of_searches(folder)
    names = {run.id: run.name for run in found.runs}
    below = {run.name: names.get(run.parent) for run in found.runs}
    assert below == {"report tiny": None, **{f"searches {loss}": "report tiny" for loss in LOSSES}, **{
        f"{loss} search {number}": f"searches {loss}" for loss in LOSSES for number in (1, 2)}}  # fmt: skip
    places = list(names)
    assert all(run.parent is None or places.index(run.parent) < places.index(run.id) for run in found.runs)
    assert {run.status for run in found.runs} == {"FINISHED"} and found.report == folder / "report"


def test_a_loss_has_mean_and_standard_error_over_searches(folder):
    """Their means are 0.85 and 0.89: 0.87, and 0.02 as half their difference."""
    shown = pictured(folder)
    softmax = values(shown["searches softmax"])
    assert softmax["test_accuracy"] == pytest.approx(0.87)
    assert softmax["test_accuracy_standard_error"] == pytest.approx(0.02)
    assert shown["searches softmax"].tags["in_best_set"] == "true"
    assert shown["searches squared_error"].tags["in_best_set"] == "false"
    assert "test_nll" in softmax and "test_nll" not in values(shown["searches squared_error"])


def test_a_search_has_its_configuration_its_mean_and_where_its_trials_are(folder):
    """The standard error is that over its two seeds."""
    run = pictured(folder)["softmax search 2"]
    expected = {"kind": "search", "search": "2", "study": "tiny-search-2", "loss": "softmax", "seeds": "2",
                "configuration": "learning_rate 0.1, weight_decay 0.0001", "in_best_set": "true"}  # fmt: skip
    assert expected.items() <= run.tags.items() and run.params["learning_rate"] == "0.1"
    assert values(run) == pytest.approx({"test_accuracy": 0.89, "test_accuracy_standard_error": 0.05, "test_nll": 0.3,
                                         "test_nll_standard_error": 0.0, "score": 0.9})  # fmt: skip


def test_a_report_that_is_not_of_all_that_is_recorded_is_no_answer(folder):
    """A third search is planned, and the second trains a seed again: the means are of the first alone."""
    note(folder, planned=3)
    change(folder, 2, write.set_trial, "confirm0-softmax-0001", state="running", ended=None, results=None)
    found, shown = picture_of_searches(folder), pictured(folder)
    assert found.report is None and found.tags["winner"] == "not yet" and found.tags["status"] == "search 2 of 3"
    assert shown["report tiny"].status == shown["searches softmax"].status == "RUNNING"
    assert shown["softmax search 2"].status == "RUNNING" and shown["softmax search 1"].status == "FINISHED"
    assert values(shown["searches softmax"]) == pytest.approx({"test_accuracy": 0.85, "test_nll": 0.3})
    assert values(shown["searches squared_error"])["test_accuracy"] == pytest.approx(0.87)


def test_a_search_of_which_nothing_is_recorded_yet_is_left_out(folder):
    Ledger.create_or_open(ledger_path(folder.with_name("tiny-search-3"))).close()
    assert "softmax search 2" in pictured(folder) and "softmax search 3" not in pictured(folder)
    alone = folder.with_name("other")
    Ledger.create_or_open(ledger_path(folder.with_name("other-search-1"))).close()
    with pytest.raises(InputError, match="no search of it is recorded yet"):
        picture_of_searches(alone)


def test_sync_shows_all_of_it_once(folder):
    """The searches' own experiments too; then what a further search adds, in the runs that there are."""
    first = sync(folder)
    assert (first.created, first.updated, first.unchanged) == (2 * RUNS + 1 + BELOW, 0, 0)
    mlflow, before = client(folder), runs(folder)
    experiment = mlflow.get_experiment_by_name("tiny")
    report = before["report tiny"]
    assert {item.path for item in mlflow.list_artifacts(report.info.run_id)} == {
        "report.html", "tables", "verdict.json"}  # fmt: skip
    assert before["searches softmax"].data.tags["mlflow.parentRunId"] == report.info.run_id
    assert experiment.tags["winner"] == report.data.tags["winner"] == "softmax"
    assert ui_page(folder, 5000).startswith(f"http://127.0.0.1:5000/#/experiments/{experiment.experiment_id}/runs")
    for view, kinds in zip(views(experiment).values(), ({"study", "loss"}, {"search"}), strict=True):
        found = mlflow.search_runs([experiment.experiment_id], view["searchFilter"])
        assert {run.data.tags["kind"] for run in found} == kinds
    history, again = contents(folder), sync(folder)
    assert (again.created, again.updated, again.unchanged) == (0, 0, first.created)
    assert contents(folder) == history
    finished_study(folder.with_name("tiny-search-3"), better=0.08, name="tiny-search-3")
    note(folder, planned=3)
    third = sync(folder)
    assert third.created == RUNS + 2 and third.updated == 3  # its own and one per loss; the losses and the report
    after = runs(folder)
    assert {name: after[name].info.run_id for name in before} == {n: run.info.run_id for n, run in before.items()}
    assert after["searches softmax"].data.metrics["test_accuracy"] == pytest.approx(0.89)


def test_a_loss_of_which_a_search_confirms_nothing_ends_with_the_report(folder):
    """All its trials failed there, so that nothing was chosen; the mean is that of the other search."""
    for seed in range(2):
        change(folder, 2, lambda tx, id_: tx.exec_driver_sql("DELETE FROM trials WHERE id = ?", (id_,)),
               f"confirm0-softmax-{seed:04d}")  # fmt: skip
    note(folder)
    shown = pictured(folder)
    assert "softmax search 2" not in shown and shown["searches softmax"].status == "FINISHED"
    assert values(shown["searches softmax"])["test_accuracy"] == pytest.approx(0.85)
