"""The projection into MLflow: everything arrives once, whatever dies in between, and the study never notices."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from losstune.search import tracking
from losstune.search.ledger import write
from losstune.search.ledger.database import Ledger, set_meta
from losstune.search.standing import ledger_path
from losstune.search.tracking import Projection, problem, sync, tracking_uri, ui_command, ui_page
from losstune.spaces import InputError

LOSSES, BEGAN = ("softmax", "squared_error"), 1_700_000_000.0
ABOUT = {
    "name": "tiny", "data": "digits", "network": "mlp", "metric": "accuracy", "greater_is_better": True,
    "baseline": None, "losses": list(LOSSES), "epochs": 2, "confirm": {"seeds": 2},
}  # fmt: skip
RUNS = 2 * (1 + 2) + 2 * (1 + 2) + 1  # per phase and loss a parent with two runs; the report


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    """A store with its tables, which take MLflow a second or two to make."""
    place = tmp_path_factory.mktemp("store")
    begin_study(place / "tiny").close()
    sync(place / "tiny")
    with sqlite3.connect(place / "mlflow.db") as source, sqlite3.connect(place / "copy.db") as copy:
        source.execute("DELETE FROM experiment_tags WHERE experiment_id != 0")
        source.execute("DELETE FROM experiments WHERE experiment_id != 0")
        source.commit()
        source.backup(copy)
    copy.close()
    source.close()
    return place / "copy.db"


@pytest.fixture
def folder(tmp_path, empty_store):
    """A finished study of two losses: two trials and two confirmed seeds each, and its report."""
    folder = finished_study(tmp_path / "runs" / "tiny")
    shutil.copy(empty_store, folder.parent / "mlflow.db")
    return folder


def finished_study(folder: Path, began: float = BEGAN) -> Path:
    ledger = begin_study(folder, began)
    with ledger.transaction() as tx:
        for loss in LOSSES:
            add_trial(tx, loss, 0, state="complete", score=0.9, best_epoch=2)
            add_trial(tx, loss, 1, state="stopped" if loss == "softmax" else "failed",
                      reason=None if loss == "softmax" else "the training loss became nan")  # fmt: skip
            write.add_choice(tx, round=0, loss=loss, trial=f"search-{loss}-0000", best_epoch=2, score=0.9)
        for loss in LOSSES:
            for seed in range(2):
                nll = float("nan") if loss == "squared_error" else 0.3
                add_trial(tx, loss, seed, "confirm", state="complete",
                          results={"test": {"accuracy": 0.8 + seed / 10, "nll": nll}, "validation": {}})  # fmt: skip
        set_meta(tx, "report_of", {"study": ABOUT, "confirmed": 4, "round": 0})
    ledger.close()
    report = folder / "report"
    (report / "tables").mkdir(parents=True)
    (report / "report.html").write_text("<h1>the page</h1>")
    (report / "tables" / "results.md").write_text("| a table |")
    (report / "verdict.json").write_text(json.dumps(
        {"headline": "softmax wins.", "best_set": ["softmax"], "conditional_on": "here"}))  # fmt: skip
    return folder


def begin_study(folder: Path, began: float = BEGAN) -> Ledger:
    ledger = Ledger.create_or_open(ledger_path(folder))
    with ledger.transaction() as tx:
        set_meta(tx, "study", ABOUT)
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
    write.add_reports(tx, [{"trial": id_, "epoch": 2, "attempt": 1, "score": 0.85, "decision": "end", "curve": curve,
                            "time": time.time()}])  # fmt: skip
    return id_


def client(folder: Path):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri(folder))


def runs(folder: Path) -> dict:
    """The active runs of the study by name; a name that stands for two runs fails."""
    mlflow = client(folder)
    experiment = mlflow.get_experiment_by_name("tiny")
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


def test_everything_arrives_once(tmp_path):
    folder = finished_study(tmp_path / "runs" / "tiny")
    first = sync(folder)
    assert (first.created, first.updated, first.unchanged) == (RUNS, 0, 0)
    assert "tiny" in first.where and "mlflow.db" in first.where
    before = contents(folder)
    again = sync(folder)
    assert (again.created, again.updated, again.unchanged) == (0, 0, RUNS)
    assert contents(folder) == before
    assert (folder.parent / "mlflow.db").is_file()


def test_a_trial_has_its_parameters_curve_tags_and_parent(folder):
    sync(folder)
    found = runs(folder)
    trial = found["softmax 001"]
    assert trial.data.params == {"loss": "softmax", "learning_rate": "0.2", "weight_decay": "0.0001", "scaled": "True"}
    tags = trial.data.tags
    expected = {"study": "tiny", "phase": "search", "loss": "softmax", "trial": "1", "round": "0", "state": "stopped",
                "data_digest": "d" * 64, "git_commit": "c" * 40}  # fmt: skip
    assert expected.items() <= tags.items() and len(tags["config_hash"]) == 12
    assert tags["mlflow.parentRunId"] == found["search softmax"].info.run_id
    history = client(folder).get_metric_history(trial.info.run_id, "train_loss")
    assert [(point.step, point.value) for point in history] == [(1, 2.0), (2, 1.0)]
    assert trial.data.metrics["validation_accuracy"] == pytest.approx(0.85)
    failed = found["squared_error 001"]
    assert failed.info.status == "FAILED" and failed.data.tags["reason"] == "the training loss became nan"
    assert "validation_nll" not in failed.data.metrics
    assert found["softmax 000"].info.end_time == 1000 * (BEGAN + 3600)


def test_a_confirmed_loss_has_mean_and_standard_error(folder):
    sync(folder)
    found = runs(folder)
    seed, parent = found["softmax seed 01"], found["confirm softmax"]
    assert seed.data.tags["seed"] == "1" and seed.data.metrics["test_accuracy"] == pytest.approx(0.9)
    assert parent.data.metrics["test_accuracy"] == pytest.approx(0.85)
    assert parent.data.metrics["test_accuracy_standard_error"] == pytest.approx(0.05)
    assert parent.data.params["learning_rate"] == "0.1" and parent.data.tags["in_best_set"] == "true"
    assert found["confirm squared_error"].data.tags["in_best_set"] == "false"
    assert "test_nll" not in found["confirm squared_error"].data.metrics


def test_the_answer_is_on_the_experiment_and_on_the_report_with_its_files(folder):
    sync(folder)
    mlflow, report = client(folder), runs(folder)["report tiny"]
    answer = {"verdict": "softmax wins.", "best_set": "softmax", "winner": "softmax", "status": "done"}
    experiment = mlflow.get_experiment_by_name("tiny")
    assert answer.items() <= report.data.tags.items() and answer.items() <= experiment.tags.items()
    assert experiment.tags["mlflow.note.content"] == "softmax wins."
    names = {item.path for item in mlflow.list_artifacts(report.info.run_id)}
    assert names == {"report.html", "tables", "verdict.json"}
    (folder / "report" / "report.html").write_text("<h1>another page</h1>")
    assert sync(folder).updated == 1
    assert (folder.parent / "mlartifacts" / "tiny" / report.info.run_id / "artifacts" / "report.html").read_text() == (
        "<h1>another page</h1>"
    )


def test_a_store_made_anew_holds_the_same(folder, tmp_path, empty_store):
    sync(folder)
    again = tmp_path / "again" / "tiny"
    shutil.copytree(folder, again)
    shutil.copy(empty_store, again.parent / "mlflow.db")
    assert sync(again).created == RUNS
    assert contents(again) == contents(folder)


def test_a_store_wiped_during_the_study_is_rebuilt(folder):
    with Projection(folder, "tiny") as projection:
        wait_until_projected(folder)
        for path in folder.parent.glob("mlflow.db*"):
            path.unlink()
        projection.finish()
        assert projection.behind is None
    assert len(runs(folder)) == RUNS


def test_a_deleted_experiment_is_restored(folder):
    sync(folder)
    before, mlflow = contents(folder), client(folder)
    mlflow.delete_experiment(mlflow.get_experiment_by_name("tiny").experiment_id)
    assert sync(folder).created == 0
    assert contents(folder) == before


def test_deleted_and_doubled_runs_are_put_right(folder):
    sync(folder)
    before, mlflow, found = contents(folder), client(folder), runs(folder)
    mlflow.delete_run(found["search softmax"].info.run_id)
    twin = found["softmax 000"]
    tags = {key: twin.data.tags[key] for key in ("losstune.id", "losstune.ledger")}
    mlflow.create_run(twin.info.experiment_id, tags=tags, run_name="softmax 000")
    result = sync(folder)
    assert result.created == 1 and result.updated == 2  # its two trials have a new parent
    assert contents(folder) == before
    found = runs(folder)
    assert found["softmax 000"].data.tags["mlflow.parentRunId"] == found["search softmax"].info.run_id


@pytest.mark.parametrize("call", ["log_batch", "log_artifacts"])
def test_killed_half_way_and_run_again_nothing_is_there_twice(folder, tmp_path, empty_store, call):
    script = f"""
import os, signal, sys
from pathlib import Path
from mlflow import MlflowClient
from losstune.search.tracking import sync
left, real = [1 if "{call}" == "log_artifacts" else 4], MlflowClient.{call}
def dying(self, *args, **kwargs):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, *args, **kwargs)
MlflowClient.{call} = dying
sync(Path(sys.argv[1]))
"""
    killed = subprocess.run([sys.executable, "-P", "-c", script, str(folder)], capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    half = len(runs(folder))
    assert 0 < half <= RUNS
    result = sync(folder)
    assert result.created == RUNS - half and result.updated >= 1
    whole = tmp_path / "whole" / "tiny"
    shutil.copytree(folder, whole)
    shutil.copy(empty_store, whole.parent / "mlflow.db")
    sync(whole)
    assert contents(folder) == contents(whole)


def test_a_store_that_is_down_is_noted_and_caught_up_later(folder, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:1")
    with Projection(folder, "tiny", patience=120) as projection:
        assert projection._process.poll() is None  # nobody has waited for it
        projection.finish()
        assert projection._process.returncode == 1  # it has ended by itself, and was not waited for in vain
        behind = projection.behind
    assert "losstune sync tiny" in behind and f"{RUNS} runs behind" in behind and "secret" not in behind
    assert problem(folder) in behind
    with pytest.raises(InputError, match="MLFLOW_TRACKING_URI") as error:
        sync(folder)
    assert "\n" not in str(error.value) and "secret" not in str(error.value)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert sync(folder).created == RUNS
    assert problem(folder) is None


def test_what_runs_is_shown_while_it_runs_and_finished_when_it_ends(tmp_path, empty_store):
    folder = tmp_path / "runs" / "tiny"
    ledger = begin_study(folder)
    shutil.copy(empty_store, folder.parent / "mlflow.db")
    with ledger.transaction() as tx:
        trial = add_trial(tx, "softmax", 0, ended=None, epoch=0)
    with Projection(folder, "tiny") as projection:
        wait_until_projected(folder)
        found = runs(folder)
        assert found["softmax 000"].info.status == found["search softmax"].info.status == "RUNNING"
        with ledger.transaction() as tx:
            write.set_trial(tx, trial, state="complete", score=0.85, best_epoch=1, ended=BEGAN + 60)
            write.add_choice(tx, round=0, loss="softmax", trial=trial, best_epoch=1, score=0.85)
        projection.finish()
        assert projection.behind is None
    ledger.close()
    after = runs(folder)
    assert len(after) == len(found) == 2
    for name in ("softmax 000", "search softmax"):
        assert after[name].info.run_id == found[name].info.run_id
        assert (after[name].info.status, after[name].info.end_time) == ("FINISHED", 1000 * (BEGAN + 60))
    history = client(folder).get_metric_history(after["softmax 000"].info.run_id, "train_loss")
    assert len(history) == 2


def test_a_pass_can_be_had_without_delay(tmp_path, monkeypatch):
    """What the study has to its end is projected while its report is written; the last pass then has little to do."""
    passes, asked, woken = [], threading.Event(), threading.Event()
    store = SimpleNamespace(wiped=lambda: False, forget=lambda: passes.append("forget"))
    monkeypatch.setattr(tracking, "PAUSE", 1000.0)
    monkeypatch.setattr(tracking, "_store", lambda folder: store)
    monkeypatch.setattr(tracking, "_pass", lambda *_: passes.append("pass") or True)
    thread = threading.Thread(target=tracking._project_on, args=(tmp_path, asked, woken))
    thread.start()
    for count, events in enumerate([(woken,), (asked, woken)], start=1):
        while len(passes) < count:
            time.sleep(0.01)
        for event in events:
            event.set()
    thread.join()
    assert passes == ["pass", "pass", "forget", "pass"]


def wait_until_projected(folder: Path) -> None:
    path, deadline = folder / "ledger" / "mlflow.json", time.monotonic() + 30
    while not (path.is_file() and json.loads(path.read_text())["behind"] == 0):
        assert time.monotonic() < deadline, "not projected within 30 s"
        time.sleep(0.1)


def test_the_projection_dies_with_its_study(folder):
    script = """
import sys, time
from pathlib import Path
from losstune.search.tracking import Projection
with Projection(Path(sys.argv[1]), "tiny") as projection:
    assert "mlflow" not in sys.modules
    print(projection._process.pid, flush=True)
    time.sleep(60)
"""
    study = subprocess.Popen([sys.executable, "-P", "-c", script, str(folder)], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(study.stdout.readline()))
    time.sleep(0.5)
    os.kill(child.pid, signal.SIGINT)  # as Ctrl-C in a terminal: ignored
    study.kill()
    study.wait()
    study.stdout.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not child.is_running() or child.status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.05)
    else:
        pytest.fail("the projection outlived its study")
    sync(folder)
    assert len(runs(folder)) == RUNS


def test_two_studies_of_one_name_share_an_experiment_and_stay_apart(folder, tmp_path, empty_store, monkeypatch):
    shutil.copy(empty_store, tmp_path / "shared.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'shared.db'}")
    monkeypatch.chdir(tmp_path)
    other = finished_study(tmp_path / "elsewhere" / "tiny", began=BEGAN + 1)
    assert sync(folder).created == RUNS
    assert sync(other).created == RUNS
    assert sync(folder).unchanged == sync(other).unchanged == RUNS


def test_long_values_end_in_an_ellipsis(folder):
    ledger = Ledger.create_or_open(ledger_path(folder))
    with ledger.transaction() as tx:
        write.set_trial(tx, "search-squared_error-0001", reason="x" * 9000, configuration={"M": "y" * 7000})
    ledger.close()
    assert sync(folder).created == RUNS
    run = runs(folder)["squared_error 001"]
    assert run.data.tags["reason"].endswith("x…") and run.data.params["M"].endswith("y…")
    assert sync(folder).unchanged == RUNS


def test_the_ui_serves_the_report(folder):
    sync(folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert ui_page(folder, port).startswith(f"http://127.0.0.1:{port}/#/experiments/")
    server = subprocess.Popen(ui_command(folder, port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    run = runs(folder)["report tiny"].info.run_id
    address = f"http://127.0.0.1:{port}/get-artifact?path=report.html&run_uuid={run}"
    try:
        assert fetch(address, 40) == b"<h1>the page</h1>"
    finally:
        for child in psutil.Process(server.pid).children(recursive=True):
            child.terminate()
        server.terminate()
        server.wait(20)


def fetch(address: str, seconds: float) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + seconds
    while True:
        try:
            return opener.open(address, timeout=10).read()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)


def test_a_server_has_a_ui_of_its_own(folder, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    with pytest.raises(InputError, match="open it in a browser"):
        ui_command(folder, 5000)
