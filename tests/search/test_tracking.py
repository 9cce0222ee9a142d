"""The projection into MLflow: everything arrives once, whatever dies in between, and the study never notices."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from processes import GUARD
from tracked import (
    ABOUT,
    BEGAN,
    LOSSES,
    RUNS,
    add_trial,
    begin_study,
    client,
    contents,
    finished_study,
    points,
    runs,
    views,
)

from losstune.search import tracking
from losstune.search.ledger import write
from losstune.search.ledger.database import Ledger, set_meta
from losstune.search.locations import ledger_path
from losstune.search.tracked_runs import picture
from losstune.search.tracking import Projection, problem, sync
from losstune.spaces import InputError


@pytest.fixture(autouse=True, scope="module")
def _environment():
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID"):
            patch.delenv(name, raising=False)
        yield


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


@pytest.fixture(scope="module")
def shown(tmp_path_factory, empty_store):
    """The same, and MLflow has all of it. To be looked at only."""
    folder = finished_study(tmp_path_factory.mktemp("shown") / "runs" / "tiny")
    shutil.copy(empty_store, folder.parent / "mlflow.db")
    sync(folder)
    return folder


@pytest.fixture
def projected(tmp_path, shown):
    """A copy of that, to change; the files of its report are where they were."""
    folder = tmp_path / "runs" / "tiny"
    shutil.copytree(shown, folder)
    with (sqlite3.connect(shown.parent / "mlflow.db") as source,
          sqlite3.connect(folder.parent / "mlflow.db") as copy):  # fmt: skip
        source.backup(copy)
    source.close()
    copy.close()
    return folder


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


def test_a_trial_has_its_parameters_curve_tags_and_parent(shown):
    found = runs(shown)
    trial = found["softmax 001"]
    assert trial.data.params == {"loss": "softmax", "learning_rate": "0.2", "weight_decay": "0.0001", "scaled": "True"}
    tags = trial.data.tags
    expected = {"study": "tiny", "phase": "search", "loss": "softmax", "trial": "1", "round": "0", "state": "stopped",
                "data_digest": "d" * 64, "git_commit": "c" * 40}  # fmt: skip
    assert expected.items() <= tags.items() and len(tags["config_hash"]) == 12
    assert tags["mlflow.parentRunId"] == found["search softmax"].info.run_id
    history = client(shown).get_metric_history(trial.info.run_id, "train_loss")
    assert [(point.step, point.value) for point in history] == [(1, 2.0), (2, 1.0)]
    assert trial.data.metrics["validation_accuracy"] == pytest.approx(0.85)
    failed = found["squared_error 001"]
    assert failed.info.status == "FAILED" and failed.data.tags["reason"] == "the training loss became nan"
    assert "validation_nll" not in failed.data.metrics
    assert found["softmax 000"].info.end_time == 1000 * (BEGAN + 3600)


def test_a_confirmed_loss_has_mean_and_standard_error(shown):
    found = runs(shown)
    seed, parent = found["softmax seed 01"], found["confirm softmax"]
    assert seed.data.tags["seed"] == "1" and seed.data.metrics["test_accuracy"] == pytest.approx(0.9)
    assert parent.data.metrics["test_accuracy"] == pytest.approx(0.85)
    assert parent.data.metrics["test_accuracy_standard_error"] == pytest.approx(0.05)
    assert parent.data.params["learning_rate"] == "0.1" and parent.data.tags["in_best_set"] == "true"
    assert found["confirm squared_error"].data.tags["in_best_set"] == "false"
    assert "test_nll" not in found["confirm squared_error"].data.metrics


def test_what_is_followed_over_training_is_a_curve_of_each_confirmed_seed(shown):
    """The mean of 0.5 and 0.7 at epoch 2, where it was measured; what is not defined is left out."""
    found = runs(shown)
    seed, other = found["softmax seed 01"], found["squared_error seed 01"]
    assert [(step, value) for step, value, _ in points(shown, seed, "training_nc1")] == [(2, pytest.approx(0.6))]
    assert seed.data.metrics["training_margin_bias"] == 0.4 and "training_margin_bias" not in other.data.metrics
    followed = {name for name, run in found.items() if "training_nc1" in run.data.metrics}
    assert followed == {f"{loss} seed {seed:02d}" for loss in LOSSES for seed in range(2)}


def test_the_answer_of_a_planned_look_says_which_and_makes_place_for_the_next(finished):
    """Of looks with 2 and 4 seeds the first is reported; then two more seeds are wanted."""
    report, plan = finished / "report" / "verdict.json", {"planned": [2, 4], "look": 1, "seeds": 2}
    report.write_text(json.dumps({**json.loads(report.read_text()), "looks": plan}))
    assert pictured(finished)["report tiny"].tags["look"] == picture(finished).tags["look"] == "1 of 2"
    ledger = Ledger.create_or_open(ledger_path(finished))
    with ledger.transaction() as tx:
        set_meta(tx, "study", ABOUT | {"confirm": {"seeds": 4, "looks": [2, 4]}})
    ledger.close()
    found = picture(finished)
    shown = {run.name: run for run in found.runs}
    assert found.report is None and found.tags["winner"] == "not yet" and "look" not in found.tags
    assert shown["confirm softmax"].status == "RUNNING" and shown["softmax seed 01"].status == "FINISHED"


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


def rows(folder: Path, view: dict) -> list[str]:
    """The names of the runs that MLflow finds for a view, in its order."""
    mlflow = client(folder)
    order = [f"{view['orderByKey']} {'ASC' if view['orderByAsc'] else 'DESC'}"]
    experiment = mlflow.get_experiment_by_name("tiny").experiment_id
    return [run.info.run_name for run in mlflow.search_runs([experiment], view["searchFilter"], order_by=order)]


def test_saved_views_show_what_reviewers_ask_for(folder):
    ledger = Ledger.create_or_open(ledger_path(folder))
    with ledger.transaction() as tx:  # so that the losses differ, and the failed one is first by name
        write.set_trial(tx, "confirm0-squared_error-0001", results={"test": {"accuracy": 0.95}, "validation": {}})
    ledger.close()
    sync(folder)
    found = views(client(folder).get_experiment_by_name("tiny"))
    assert [name[0] for name in found] == list("12345")
    losses, seeds, trials, curves, failures = found.values()
    assert rows(folder, losses) == ["confirm squared_error", "confirm softmax", "report tiny"]
    confirmed = {f"{loss} seed {seed:02d}" for loss in LOSSES for seed in range(2)}
    assert set(rows(folder, seeds)) == set(rows(folder, curves)) == confirmed
    assert set(rows(folder, trials)) == {f"{loss} {number:03d}" for loss in LOSSES for number in range(2)}
    assert rows(folder, failures) == ["squared_error 001"] and "tags.`reason`" in failures["selectedColumns"]
    for view, of_each in ((seeds, "average"), (trials, "max"), (curves, "average")):
        assert view["groupBy"] == {"aggregateFunction": of_each,
                                   "groupByKeys": [{"mode": "tag", "groupByData": "loss"}]}  # fmt: skip
        assert view["groupsExpanded"] == {"tag.loss.softmax": False, "tag.loss.squared_error": False}
    seed = runs(folder)["softmax seed 00"]
    charts = [name for name in seed.data.metrics if re.search(curves["chartsSearchFilter"], name, re.IGNORECASE)]
    assert sorted(charts) == ["train_loss", "validation_accuracy"]


def test_a_view_that_was_overridden_or_deleted_is_put_back(projected):
    mlflow = client(projected)
    experiment, before = mlflow.get_experiment_by_name("tiny"), views(mlflow.get_experiment_by_name("tiny"))
    mlflow.set_experiment_tag(experiment.experiment_id, "mlflow.sharedViewState.losstune1", "another")
    mlflow.delete_experiment_tag(experiment.experiment_id, "mlflow.sharedViewState.losstune2")
    sync(projected)
    assert views(mlflow.get_experiment_by_name("tiny")) == before


def test_where_less_is_better_the_best_trial_of_a_loss_is_its_least(finished):
    change_study(finished, 4, greater_is_better=False)
    tags = SimpleNamespace(tags=picture(finished).tags)
    losses, _, trials, *_ = views(tags).values()
    assert losses["orderByAsc"] and trials["orderByAsc"] and trials["groupBy"]["aggregateFunction"] == "min"


def test_the_report_says_first_where_its_page_is(finished):
    """MLflow shows the first lines of a description."""
    note = pictured(finished)["report tiny"].tags["mlflow.note.content"]
    assert "**Artifacts**, `report.html`" in note.splitlines()[0] and "softmax wins." in note


def test_a_store_made_anew_holds_the_same(shown, tmp_path, empty_store):
    again = tmp_path / "again" / "tiny"
    shutil.copytree(shown, again)
    shutil.copy(empty_store, again.parent / "mlflow.db")
    assert sync(again).created == RUNS
    assert contents(again) == contents(shown)


def test_a_store_wiped_during_the_study_is_rebuilt(folder):
    with Projection(folder, "tiny", patience=GUARD) as projection:
        wait_until_projected(folder)
        for path in folder.parent.glob("mlflow.db*"):
            path.unlink()
        projection.finish()
        assert projection.behind is None
    assert len(runs(folder)) == RUNS


def test_a_store_of_which_only_the_file_was_removed_is_made_anew(folder):
    """The journals that are left are not the new store's, and SQLite would take them for its own."""
    script = """
import os, signal, sys
from pathlib import Path
from losstune.search.tracking import sync
sync(Path(sys.argv[1]))
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-P", "-c", script, str(folder)], capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    store = folder.parent / "mlflow.db"
    left = {suffix: store.with_name(store.name + suffix) for suffix in ("-wal", "-shm")}
    assert all(path.stat().st_size for path in left.values())
    store.unlink()
    assert sync(folder).created == RUNS
    assert len(runs(folder)) == RUNS
    with sqlite3.connect(store) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        ids = connection.execute("SELECT value FROM tags WHERE key = 'losstune.id'").fetchall()
    connection.close()
    assert len(ids) == len(set(ids)) == RUNS
    assert sync(folder).unchanged == RUNS


def test_epochs_that_were_trained_again_are_there_once(projected):
    """The ledger lost its end, as a bad disk does it, and the same configuration came to other times."""
    trial, seed, time_ = "search-softmax-0001", "confirm0-softmax-0001", BEGAN + 7200
    before = runs(projected)
    with sqlite3.connect(ledger_path(projected)) as connection:
        connection.execute("UPDATE reports SET time = ? WHERE trial IN (?, ?)", (time_, trial, seed))
    connection.close()
    result = sync(projected)
    assert (result.created, result.updated, result.unchanged) == (2, 0, RUNS - 2)
    after = runs(projected)
    for name in ("softmax 001", "softmax seed 01"):
        history = points(projected, after[name], "train_loss") + points(projected, after[name], "validation_accuracy")
        assert [(step, when) for step, _, when in history] == 2 * [(1, 1000 * time_), (2, 1000 * time_)]
        assert after[name].data.tags["mlflow.parentRunId"] == before[name].data.tags["mlflow.parentRunId"]
    assert after["softmax 000"].info.run_id == before["softmax 000"].info.run_id
    assert [step for step, *_ in points(projected, after["softmax 000"], "train_loss")] == [1, 2]
    assert sync(projected).unchanged == RUNS


def test_a_trial_that_was_further_than_it_is_now_shows_what_it_has(projected):
    """The ledger lost its end, and the epochs that it lost are still to come: another process finds them in MLflow."""
    (report,) = rows_of(projected, "SELECT curve FROM reports WHERE trial = 'search-softmax-0001'")
    with sqlite3.connect(ledger_path(projected)) as connection:
        connection.execute("UPDATE reports SET epoch = 1, curve = ? WHERE trial = 'search-softmax-0001'",
                           (json.dumps(json.loads(report[0])[:1]),))  # fmt: skip
        connection.execute("UPDATE trials SET state = 'running', epoch = 1, ended = NULL "
                           "WHERE id = 'search-softmax-0001'")  # fmt: skip
    connection.close()
    sync(projected)
    run = runs(projected)["softmax 001"]
    assert run.info.status == "RUNNING"
    assert [step for step, *_ in points(projected, run, "train_loss")] == [1]


def rows_of(folder: Path, query: str) -> list[tuple]:
    connection = sqlite3.connect(ledger_path(folder))
    found = connection.execute(query).fetchall()
    connection.close()
    return found


def test_a_deleted_experiment_is_restored(projected):
    before, mlflow = contents(projected), client(projected)
    mlflow.delete_experiment(mlflow.get_experiment_by_name("tiny").experiment_id)
    assert sync(projected).created == 0
    assert contents(projected) == before


def test_deleted_and_doubled_runs_are_put_right(projected):
    before, mlflow, found = contents(projected), client(projected), runs(projected)
    mlflow.delete_run(found["search softmax"].info.run_id)
    twin = found["softmax 000"]
    tags = {key: twin.data.tags[key] for key in ("losstune.id", "losstune.ledger")}
    mlflow.create_run(twin.info.experiment_id, tags=tags, run_name="softmax 000")
    result = sync(projected)
    assert result.created == 1 and result.updated == 2  # its two trials have a new parent
    assert contents(projected) == before
    found = runs(projected)
    assert found["softmax 000"].data.tags["mlflow.parentRunId"] == found["search softmax"].info.run_id


@pytest.mark.parametrize("call", ["log_batch", "log_artifacts"])
def test_killed_half_way_and_run_again_nothing_is_there_twice(shown, tmp_path, empty_store, call):
    folder = tmp_path / "runs" / "tiny"
    shutil.copytree(shown, folder)
    shutil.copy(empty_store, folder.parent / "mlflow.db")
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
    assert contents(folder) == contents(shown)


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
    with Projection(folder, "tiny", patience=GUARD) as projection:
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


# --- what the study does not have any more ---


def change_study(folder: Path, confirmed: int, dropped: tuple[str, ...] = (), running: tuple[str, ...] = (),
                 **changes) -> None:  # fmt: skip
    """Have a finished study be another one than it was. Some trials are as they were in training, others not there.

    confirmed: the members that its report, which is made anew, is of.
    """
    about, ledger = ABOUT | changes, Ledger.create_or_open(ledger_path(folder))
    with ledger.transaction() as tx:
        for trial in dropped:
            tx.exec_driver_sql("DELETE FROM trials WHERE id = ?", (trial,))
            tx.exec_driver_sql("DELETE FROM reports WHERE trial = ?", (trial,))
        for trial in running:
            write.set_trial(tx, trial, state="running", ended=None, results=None, score=None, best_epoch=None)
        tx.exec_driver_sql("DELETE FROM choices WHERE trial NOT IN (SELECT id FROM trials WHERE state = 'complete')")
        set_meta(tx, "study", about)
        set_meta(tx, "report_of", {"study": about, "confirmed": confirmed, "round": 0})
    ledger.close()


CONFIRM = tuple(f"confirm0-squared_error-{seed:04d}" for seed in range(2))
SEARCH = tuple(f"search-squared_error-{number:04d}" for number in range(2))


@pytest.fixture
def finished(tmp_path):
    """A finished study that nobody has projected."""
    return finished_study(tmp_path / "runs" / "tiny")


def pictured(folder: Path) -> dict:
    """The runs of a picture by name. Its report must be up to date, and nothing in it be running."""
    found = picture(folder)
    shown = {run.name: run for run in found.runs}
    assert len(shown) == len(found.runs) and found.report == folder / "report"
    answer = {"winner": "softmax", "best_set": "softmax", "status": "done"}
    assert answer.items() <= shown["report tiny"].tags.items() and answer.items() <= found.tags.items()
    assert shown["confirm softmax"].tags["in_best_set"] == "true"
    assert {run.status for run in shown.values()} <= {"FINISHED", "FAILED", "KILLED"}
    return shown


def test_a_loss_that_was_taken_out_while_it_was_searched_does_not_hide_the_answer(finished):
    """Nobody goes on with its trials, so they are killed."""
    change_study(finished, 2, dropped=CONFIRM, running=SEARCH, losses=["softmax"])
    shown = pictured(finished)
    for name in ("squared_error 000", "squared_error 001", "search squared_error"):
        assert shown[name].status == "KILLED" and shown[name].end is None
        assert shown[name].tags["state"] == "cut"
    assert shown["search squared_error"].tags["trials_cut"] == "2"
    assert shown["search softmax"].status == shown["confirm softmax"].status == "FINISHED"
    assert len(shown) == RUNS - 3


def test_a_loss_that_was_taken_out_between_two_trials_does_not_hide_the_answer(finished):
    """None of its trials runs, and none was chosen: its search was not brought to an end."""
    change_study(finished, 2, dropped=(*CONFIRM, SEARCH[0]), losses=["softmax"])
    shown = pictured(finished)
    assert shown["squared_error 001"].status == "FAILED" and shown["search squared_error"].status == "KILLED"


def test_a_loss_that_was_taken_out_while_it_was_confirmed_does_not_hide_the_answer(finished):
    """What had ended of it stays as it was."""
    change_study(finished, 3, running=CONFIRM[1:], losses=["softmax"])
    shown = pictured(finished)
    assert shown["squared_error seed 01"].status == "KILLED" and shown["squared_error seed 00"].status == "FINISHED"
    assert shown["confirm squared_error"].status != "RUNNING"
    assert shown["search squared_error"].status == "FINISHED"


@pytest.mark.parametrize("others", [(), CONFIRM[1:]])
def test_a_seed_beyond_those_that_are_wanted_does_not_hide_the_answer(finished, others):
    """confirm.seeds was lowered while it was in training."""
    seeds = ("confirm0-softmax-0001", *others)
    change_study(finished, 4 - len(seeds), running=seeds, confirm={"seeds": 1})
    shown = pictured(finished)
    assert shown["softmax seed 01"].status == "KILLED" and shown["softmax seed 00"].status == "FINISHED"
    assert shown["confirm softmax"].status == shown["confirm squared_error"].status == "FINISHED"
    assert shown["squared_error seed 01"].status == ("KILLED" if others else "FINISHED")


def test_what_the_study_still_has_and_runs_is_no_answer_yet(finished):
    """A report of before its seed was begun anew is not up to date."""
    change_study(finished, 3, running=CONFIRM[1:])
    found = picture(finished)
    shown = {run.name: run for run in found.runs}
    assert found.report is None and "report tiny" not in shown and found.tags["winner"] == "not yet"
    assert shown["squared_error seed 01"].status == shown["confirm squared_error"].status == "RUNNING"


def test_a_loss_that_is_taken_out_is_no_longer_shown_as_running(folder):
    """Its runs in MLflow end, and the answer is there."""
    change_study(folder, 2, dropped=CONFIRM, running=SEARCH)
    sync(folder)
    found, names = runs(folder), ("squared_error 000", "squared_error 001", "search squared_error")
    assert "report tiny" not in found and {found[name].info.status for name in names} == {"RUNNING"}
    change_study(folder, 2, losses=["softmax"])
    sync(folder)
    after = runs(folder)
    assert {after[name].info.status for name in names} == {"KILLED"}
    assert [after[name].info.run_id for name in names] == [found[name].info.run_id for name in names]
    assert after["report tiny"].data.tags["winner"] == "softmax"
    assert sync(folder).unchanged == len(after)


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
    path, deadline = folder / "ledger" / "mlflow.json", time.monotonic() + GUARD
    while not (path.is_file() and json.loads(path.read_text())["behind"] == 0):
        assert time.monotonic() < deadline, "it was never projected"
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
    deadline = time.monotonic() + GUARD
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
