"""A small study as its ledger and report have it, without training, and what MLflow holds of it."""

from __future__ import annotations

import base64
import json
import time
import zlib
from pathlib import Path

from losstune.search.ledger import write
from losstune.search.ledger.database import Ledger, set_meta
from losstune.search.locations import ledger_path
from losstune.search.tracking import tracking_uri

LOSSES, BEGAN = ("softmax", "squared_error"), 1_700_000_000.0
ABOUT = {
    "name": "tiny", "data": "digits", "network": "mlp", "metric": "accuracy", "greater_is_better": True,
    "baseline": None, "losses": list(LOSSES), "epochs": 2, "confirm": {"seeds": 2},
}  # fmt: skip
RUNS = 2 * (1 + 2) + 2 * (1 + 2) + 1  # per phase and loss a parent with two runs; the report


def finished_study(folder: Path, began: float = BEGAN, better: float = 0.0, **changes) -> Path:
    """A finished study of two losses: two trials and two confirmed seeds each, and its report.

    better: what is added to the accuracies of 0.8 and 0.9 on the test set. changes: of ABOUT.
    """
    ledger = begin_study(folder, began, **changes)
    with ledger.transaction() as tx:
        for loss in LOSSES:
            add_trial(tx, loss, 0, state="complete", score=0.9, best_epoch=2)
            add_trial(tx, loss, 1, state="stopped" if loss == "softmax" else "failed",
                      reason=None if loss == "softmax" else "the training loss became nan")  # fmt: skip
            write.add_choice(tx, round=0, loss=loss, trial=f"search-{loss}-0000", best_epoch=2, score=0.9)
        for loss in LOSSES:
            for seed in range(2):
                nll = float("nan") if loss == "squared_error" else 0.3
                test = {"accuracy": 0.8 + seed / 10 + better, "nll": nll}
                add_trial(tx, loss, seed, "confirm", state="complete", results={"test": test, "validation": {}})
        set_meta(tx, "report_of", {"study": ABOUT | changes, "confirmed": 4, "round": 0})
    ledger.close()
    write_report(folder / "report")
    return folder


def write_report(report: Path) -> None:
    """As far as MLflow is to have it."""
    (report / "tables").mkdir(parents=True)
    (report / "report.html").write_text("<h1>the page</h1>")
    (report / "tables" / "results.md").write_text("| a table |")
    (report / "verdict.json").write_text(json.dumps(
        {"headline": "softmax wins.", "best_set": ["softmax"], "conditional_on": "here"}))  # fmt: skip


def begin_study(folder: Path, began: float = BEGAN, **changes) -> Ledger:
    ledger = Ledger.create_or_open(ledger_path(folder))
    with ledger.transaction() as tx:
        set_meta(tx, "study", ABOUT | changes)
        set_meta(tx, "facts", {"data_digest": "d" * 64, "git_commit": "c" * 40})
        write.add_event(tx, "run", f"run at {began}")
        tx.exec_driver_sql("UPDATE events SET time = ?", (began,))
    return ledger


def add_trial(tx, loss: str, number: int, phase: str = "search", **row) -> str:
    name = "search" if phase == "search" else "confirm0"
    id_ = f"{name}-{loss}-{number:04d}"
    parameters = {"learning_rate": 0.1 * (number + 1), "weight_decay": 1e-4}
    write.add_trial(tx, id=id_, phase=phase, round=0, loss=loss, number=number, parameters=parameters,
                    configuration={**parameters, "scaled": True}, seeds=[0, 1], epochs=2,
                    **{"state": "running", "epoch": 2, "ended": BEGAN + 3600, **row})  # fmt: skip
    nll = float("nan") if loss == "squared_error" else 0.4
    curve = [{"epoch": epoch, "train_loss": [1.0 / epoch, 3.0 / epoch],
              "scores": {"accuracy": [0.8, 0.9], "nll": [nll, nll]}} for epoch in (1, 2)]  # fmt: skip
    if phase == "confirm":
        curve[-1]["measures"] = {"nc1": [0.5, 0.7], "margin_bias": [nll, nll]}
    write.add_reports(tx, [{"trial": id_, "epoch": 2, "attempt": 1, "score": 0.85, "decision": "end", "curve": curve,
                            "time": time.time()}])  # fmt: skip
    return id_


def client(folder: Path):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri(folder))


def runs(folder: Path) -> dict:
    """The active runs of a study by name; a name that stands for two runs fails."""
    mlflow = client(folder)
    experiment = mlflow.get_experiment_by_name(folder.name)
    found = list(mlflow.search_runs([experiment.experiment_id], max_results=1000))
    assert len({run.info.run_name for run in found}) == len(found)
    return {run.info.run_name: run for run in found}


def contents(folder: Path) -> dict:
    """All that a store holds of the study, without MLflow's own numbers."""
    mlflow, names = client(folder), {}
    for name, run in runs(folder).items():
        tags = {k: v for k, v in run.data.tags.items() if k not in ("mlflow.parentRunId",)}
        history = {key: [(m.step, m.value, m.timestamp) for m in mlflow.get_metric_history(run.info.run_id, key)]
                   for key in run.data.metrics}  # fmt: skip
        names[name] = (run.info.status, run.info.start_time, run.info.end_time, tags, run.data.params, history)
    return names


def views(experiment) -> dict[str, dict]:
    """The states of the saved views by name, unpacked as MLflow's UI does it."""
    found = {}
    for key, value in experiment.tags.items():
        if key.startswith("mlflow.sharedViewState."):
            view = json.loads(value)
            packed = view["state"].removeprefix("deflate;")
            found[view["name"]] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return found


def points(folder: Path, run, key: str) -> list[tuple[int, float, int]]:
    """A run's history of a metric in MLflow, each point with its step, value and time."""
    return [(m.step, m.value, m.timestamp) for m in client(folder).get_metric_history(run.info.run_id, key)]
