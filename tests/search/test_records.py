"""`losstune show`, `rerun`, `export`, `stop` and `status` of a really run study."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from statistics import fmean

import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState

from losstune.search import phases
from losstune.search.ledger import read
from losstune.search.ledger.database import Ledger
from losstune.search.ledger.lock import RunLock
from losstune.search.locations import ledger_path
from losstune.search.stopping import stop_study
from losstune.spaces import InputError


@pytest.fixture
def say(finished_study, losstune, monkeypatch):
    """say(command, *arguments): how a command on the finished study ends."""
    monkeypatch.chdir(finished_study.folder)
    return lambda command, *arguments: losstune(command, "my", *arguments)


def write(study, statement: str, *values) -> None:
    with contextlib.closing(sqlite3.connect(ledger_path(study.out))) as connection, connection:
        connection.execute(statement, values)


# --- show ---


def test_a_trial_is_shown_with_configuration_curve_and_end(say, finished_study):
    row = finished_study.trials("search", loss="softmax", state="complete")[0]
    ended = say("show", row["id"])
    assert ended.status == 0 and ended.err == "", ended
    lines = ended.out.splitlines()
    assert lines[0] == f"{row['id']}: complete"
    assert all(f"{name} {value:.5g}" in lines[1] for name, value in row["configuration"].items())
    curve = finished_study.curve(row["id"])
    table = [line.split() for line in lines[-len(curve) :]]
    for shown, epoch in zip(table, curve, strict=True):
        assert int(shown[0]) == epoch["epoch"]
        assert float(shown[1]) == pytest.approx(fmean(epoch["train_loss"]), rel=1e-4)
        assert float(shown[1]) == pytest.approx(fmean(epoch["train_loss"]), rel=1e-4)
        assert float(shown[2]) == pytest.approx(fmean(epoch["scores"]["accuracy"]), rel=1e-4)
    assert table[0][-1] == "go" and table[-1][-1] == "end"


def test_a_confirmed_member_is_shown_with_its_results(say, finished_study):
    row = finished_study.trials("confirm", loss="softmax")[0]
    out = say("show", row["id"]).out
    assert f"accuracy {row['results']['test']['accuracy']:.5g}" in out and "seeds          0" in out


def test_a_failed_trial_says_why(study, losstune, monkeypatch):
    monkeypatch.chdir(study.folder)
    write(study, "UPDATE trials SET state = 'failed', reason = 'the [training] loss became nan' "
                 "WHERE id = 'search-softmax-0001'")  # fmt: skip
    said = losstune("show", "my", "search-softmax-0001").out.splitlines()[0]
    assert said == "search-softmax-0001: failed (the [training] loss became nan)"


@pytest.mark.parametrize("command", ["show", "rerun"])
def test_no_such_trial_names_those_that_are_near(say, command):
    ended = say(command, "search-softmax-0009")
    assert ended.status == 2 and ended.err.count("\n") == 1 and "search-softmax-000" in ended.err.split("allowed")[1]


# --- rerun ---


@pytest.mark.parametrize("phase", ["search", "confirm"])
def test_a_trial_trained_again_alone_comes_out_the_same(say, finished_study, phase):
    """Bit for bit, though it was in company; nothing is written."""
    before, trial = finished_study.files("."), finished_study.trials(phase, state="complete")[-1]
    ended = say("rerun", trial["id"])
    assert ended.status == 0 and ended.err == "", ended
    lines = ended.out.splitlines()
    assert len(lines) == trial["epoch"] + 1 and all(line.endswith("(as recorded)") for line in lines[:-1])
    assert lines[-1] == f"the {trial['epoch']} recorded epochs came out the same, bit for bit"
    assert finished_study.files(".") == before


def test_a_trial_that_is_recorded_otherwise_is_pointed_out(study, losstune, monkeypatch):
    monkeypatch.chdir(study.folder)
    trial = study.trials("confirm", state="complete")[0]
    curve = study.curve(trial["id"])
    curve[1]["train_loss"][0] += 1e-6
    write(study, "UPDATE reports SET curve = ? WHERE trial = ?", json.dumps(curve), trial["id"])
    ended = losstune("rerun", "my", trial["id"])
    assert ended.status == 3 and "from epoch 2 on it is not what is recorded" in ended.out, ended


# --- export ---


def test_the_ledger_as_an_optuna_storage(say, finished_study):
    """A study per loss, each trial as the sampler was told of it."""
    ended = say("export")
    path = finished_study.out / "export" / "optuna.db"
    assert ended.status == 0 and ended.out == f"wrote {path}\n"
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    assert sorted(study.study_name for study in optuna.get_all_study_summaries(storage)) == [
        "my/softmax", "my/squared_error"]  # fmt: skip
    for loss in ("softmax", "squared_error"):
        study = optuna.load_study(storage=storage, study_name=f"my/{loss}")
        rows = sorted(finished_study.trials("search", loss=loss), key=lambda row: row["number"])
        assert [trial.params for trial in study.trials] == [pytest.approx(row["parameters"]) for row in rows]
        for trial, row in zip(study.trials, rows, strict=True):
            assert trial.user_attrs["trial"] == row["id"]
            pruned = row["state"] == "stopped"
            assert trial.state == (TrialState.PRUNED if pruned else TrialState.COMPLETE)
            assert pruned or trial.value == row["score"]
        best = max((row for row in rows if row["state"] == "complete"), key=lambda row: row["score"])
        assert study.best_trial.user_attrs["trial"] == best["id"]


@pytest.mark.parametrize(("kind", "read_file"), [("csv", pd.read_csv), ("parquet", pd.read_parquet)])
def test_the_ledger_as_tables(say, finished_study, tmp_path, kind, read_file):
    ended = say("export", "--as", kind, "--to", tmp_path / "tables")
    assert ended.status == 0, ended
    assert {path.stem for path in (tmp_path / "tables").iterdir()} == {"trials", "curves"}  # nothing was followed
    trials, curves = (read_file(tmp_path / "tables" / f"{name}.{kind}") for name in ("trials", "curves"))
    rows = {row["id"]: row for row in finished_study.trials()}
    assert set(trials["id"]) == set(rows) and len(trials) == len(rows)
    for trial in trials.to_dict("records"):
        row = rows[trial["id"]]
        assert trial["param_learning_rate"] == pytest.approx(row["configuration"]["learning_rate"])
        if row["results"]:
            assert trial["test_accuracy"] == pytest.approx(row["results"]["test"]["accuracy"])
    assert len(curves) == sum(row["epoch"] * len(row["seeds"]) for row in rows.values())
    trial = next(iter(rows))
    own = curves[curves["trial"] == trial].groupby("epoch")["accuracy"].mean()
    assert own.tolist() == pytest.approx([fmean(e["scores"]["accuracy"]) for e in finished_study.curve(trial)])


def test_what_is_followed_over_training_is_a_table_of_its_own(study, losstune, monkeypatch):
    """A row per trial, epoch measured and seed."""
    monkeypatch.chdir(study.folder)
    row = study.trials("search", loss="softmax", state="complete")[0]
    curve = study.curve(row["id"])
    for place, nc1 in ((0, 0.5), (2, 0.25)):
        curve[place]["measures"] = {"nc1": [nc1, 2 * nc1], "margin_bias": [float("nan")] * 2}
    first = "(SELECT min(sequence) FROM reports WHERE trial = ?)"
    write(study, f"DELETE FROM reports WHERE trial = ? AND sequence > {first}", row["id"], row["id"])
    write(study, "UPDATE reports SET curve = ? WHERE trial = ?", json.dumps(curve), row["id"])
    assert losstune("export", "my", "--as", "csv").out.count("wrote") == 3
    found = pd.read_csv(study.out / "export" / "training_measures.csv")
    assert list(found.columns) == ["trial", "loss", "epoch", "seed", "nc1", "margin_bias"]
    assert found["trial"].eq(row["id"]).all() and found["seed"].tolist() == 2 * row["seeds"]
    assert found["epoch"].tolist() == [1, 1, 3, 3] and found["nc1"].tolist() == [0.5, 1.0, 0.25, 0.5]
    assert found["margin_bias"].isna().all()


def test_a_second_export_replaces_the_first(say, finished_study):
    say("export"), say("export")
    assert [path.name for path in (finished_study.out / "export").iterdir()] == ["optuna.db"]


@pytest.mark.parametrize("options", [("--as", "xlsx"), ("--to", "my.yaml")])
def test_a_bad_export_is_one_line(say, options):
    ended = say("export", *options)
    assert ended.status == 2 and ended.err.count("\n") == 1 and "allowed" in ended.err, ended


def test_a_storage_that_cannot_be_named_is_one_line(say, finished_study):
    """SQLAlchemy takes what follows a '?' for options; a table can lie there."""
    before = finished_study.files("..")
    ended = say("export", "--to", "a?b")
    assert ended.status == 2 and ended.err.count("\n") == 1 and "'?'; allowed" in ended.err, ended
    assert finished_study.files("..") == before and not (finished_study.folder / "a?b").exists()


# --- stop, and status ---


def test_status_lists_every_study_whatever_is_wrong_with_one(study, losstune):
    """Runs that are just starting, or were killed before they had recorded anything, and a damaged ledger."""
    runs = study.folder / "runs"
    for name in ("early", "killed"):
        Ledger.create_or_open(ledger_path(runs / name)).close()
    lock = RunLock(runs / "early" / "ledger", "run")
    ended = losstune("status", "--out", runs)
    early, killed, mine = ended.out.splitlines()
    assert ended.status == 0 and ended.err == "", ended
    assert early == "early  nothing is recorded yet: a run is just starting"
    assert killed == "killed  nothing is recorded yet, and nobody is running it"
    assert mine.startswith("my  accuracy: done")
    lock.release()
    ledger_path(runs / "killed").write_bytes(b"garbage")
    ended = losstune("status", "--out", runs)
    assert ended.status == 2 and ended.err.count("\n") == 1 and "killed/ledger/ledger.db: not a readable" in ended.err
    assert ended.out.splitlines()[1:] == ["killed  cannot be read", mine], ended


def test_a_study_that_nobody_runs_needs_no_stopping(say):
    ended = say("stop")
    assert ended.status == 0 and ended.out == "nobody is running it\n"


def test_a_study_on_another_machine_is_not_stopped_from_here(study, monkeypatch):
    """The number of a process there may be that of another one here."""
    lock = RunLock(study.out / "ledger")
    monkeypatch.setattr("losstune.search.stopping.socket.gethostname", lambda: "elsewhere")
    with pytest.raises(InputError, match="to stop it where it runs"):
        stop_study(study.out)
    lock.release()


LONG = "search.trials=40", "recipe.epochs=27", "recipe.batch_size=8"


def test_a_running_study_is_stopped_from_another_terminal(finished_study, tmp_path, start, losstune, monkeypatch):
    """It ends as by Ctrl-C, with its trials saved; meanwhile and afterwards status says what is going on."""
    (tmp_path / "my.yaml").write_text((finished_study.folder / "my.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    settings = [word for setting in LONG for word in ("--set", setting)]
    running = start(tmp_path, "run", "my.yaml", *settings)

    def trains() -> bool:
        with contextlib.suppress(InputError):
            ledger = Ledger.open(ledger_path(tmp_path / "runs" / "my"))
            with ledger.reading() as tx:
                return any(event["kind"] == "training" for event in read.all_events(tx))
        return False

    running.until(trains)
    assert "slot in use" in losstune("status", "my").out
    ended = losstune("stop", "my")
    assert ended.status == 0 and ended.out.startswith("stopped"), ended
    outcome = running.wait()
    assert outcome.status == 130 and "the same command goes on" in outcome.out, outcome
    assert "saving what is trained, to stop" in outcome.err
    said = losstune("status", "my").out
    assert "in use" not in said and "not running now" in said, said
    assert losstune("stop", "my").out == "nobody is running it\n"


def test_asked_twice_to_stop_it_is_told_once(tmp_path, study):
    """A second signal would end the run without waiting for checkpoints."""
    code = ("import signal, sys, time; from pathlib import Path; from losstune.search.ledger.lock import RunLock\n"
            "got = []\nsignal.signal(signal.SIGTERM, lambda *_: got.append(1))\n"
            "lock = RunLock(Path(sys.argv[1]), 'run'); print('held', flush=True)\n"
            "while not got: time.sleep(0.01)\n"
            "time.sleep(1); sys.exit(len(got))")  # fmt: skip
    with subprocess.Popen([sys.executable, "-c", code, study.out / "ledger"], stdout=subprocess.PIPE,
                          text=True) as holder:  # fmt: skip
        assert holder.stdout.readline() == "held\n"
        holder.send_signal(signal.SIGTERM)
        for kind in ("run", "stop"):
            write(study, "INSERT INTO events (time, kind, text) VALUES (?, ?, 'of this run')", time.time(), kind)
        assert stop_study(study.out)
        assert holder.wait(60) == 1


def test_what_an_earlier_run_was_asked_is_not_taken_for_this_ones(tmp_path, study):
    """It holds the lock, and has not written yet that it runs: it is asked all the same."""
    write(study, "INSERT INTO events (time, kind, text) VALUES (?, 'stop', 'stopped by the user')", time.time() - 60)
    code = ("import sys; from pathlib import Path; from losstune.search.ledger.lock import RunLock\n"
            "lock = RunLock(Path(sys.argv[1]), 'run'); print('held', flush=True); sys.stdin.read()")  # fmt: skip
    with subprocess.Popen([sys.executable, "-c", code, study.out / "ledger"], stdout=subprocess.PIPE,
                          stdin=subprocess.PIPE, text=True) as holder:  # fmt: skip
        assert holder.stdout.readline() == "held\n"
        assert stop_study(study.out)
        assert holder.wait(60) == -signal.SIGTERM


def test_a_process_of_that_number_that_does_not_hold_the_study_is_left_alone(tmp_path, study):
    """Another container has numbers of its own, and may have this machine's name."""
    lock = RunLock(study.out / "ledger", "run")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        path = study.out / "ledger" / "lock"
        path.write_text(json.dumps({**json.loads(path.read_text()), "pid": stranger.pid}))
        with pytest.raises(InputError, match="in another container; allowed: to stop it there"):
            stop_study(study.out)
        assert stranger.poll() is None
        stranger.communicate(b"\n")
    lock.release()


def test_programs_that_ask_for_the_end_at_the_same_time_are_one_request(monkeypatch):
    """A second Ctrl-C is another matter, and so is a signal that comes much later."""
    ended = []
    monkeypatch.setattr(phases.os, "_exit", ended.append)
    with phases._interruptible() as asked:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert [number for number, _ in asked] == [signal.SIGINT] and ended == []
        os.kill(os.getpid(), signal.SIGINT)
        assert ended == [130]
        asked[0] = signal.SIGTERM, asked[0][1] - 2 * phases.SAME_SECONDS
        os.kill(os.getpid(), signal.SIGTERM)
        assert ended == [130, 130]


# --- a disk that cannot be written ---


@pytest.fixture
def read_only(finished_study, tmp_path):
    """The study on a disk of its own, mounted to be read only."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("no right to mount a disk here")
    shutil.copytree(finished_study.folder, place / "study")
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)
    yield place / "study"
    subprocess.run(["umount", "-l", place], check=True)


def test_a_study_on_a_read_only_disk_can_be_read(read_only, finished_study, losstune, monkeypatch, tmp_path):
    """An archive, say: everything but what would write there."""
    monkeypatch.chdir(read_only)
    trial = finished_study.trials("search", state="complete")[0]
    for command in (["status"], ["show", trial["id"]], ["export", "--as", "csv", "--to", tmp_path / "tables"]):
        ended = losstune(command[0], "my", *command[1:])
        assert ended.status == 0 and ended.err == "", ended
    assert losstune("run", "my.yaml").out.startswith("done")
    for command in ("report", "doctor", "export"):
        ended = losstune(command, "my")
        assert ended.status == 2 and ended.err.count("\n") == 1 and "Read-only file system" in ended.err, ended
