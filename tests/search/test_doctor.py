"""`losstune doctor` on a really run study: what is sound is left alone, what is damaged is named, and repaired."""

import contextlib
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import asdict

import pytest
import yaml
from ran import Ran

from losstune.search.ledger import read, write
from losstune.search.ledger.copies import copy_of
from losstune.search.ledger.database import Ledger, set_meta
from losstune.search.locations import ledger_path
from losstune.search.plan import make_plan
from losstune.search.provenance import record
from losstune.search.reporting import report_inputs
from losstune.search.study import load_study
from losstune.trainables import checkpoint
from losstune.trainables.messages import Saved


@pytest.fixture
def doctor(study, losstune, monkeypatch):
    """doctor(): the outcome of `losstune doctor` on the copy; its lines are its findings."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def call():
        ended = losstune("doctor", "my", "--out", study.folder / "runs")
        assert "Traceback" not in ended.err and ended.status in (0, 2, 3), ended
        return ended

    call()  # MLflow, which knows its artifacts by their absolute paths, is brought to the copy's place
    return call


@pytest.fixture
def run(study, losstune, monkeypatch, undrawn):
    """run(*arguments): the outcome of `losstune run` on the copy, in this process, where nothing is left to train."""
    monkeypatch.chdir(study.folder)
    return lambda *arguments: losstune("run", "my.yaml", *arguments)


def alter(study: Ran, trial: str, **values) -> None:
    """Write into the ledger what a run has not written."""
    ledger = Ledger.create_or_open(ledger_path(study.out))
    with ledger.transaction() as tx:
        write.set_trial(tx, trial, **values)
    ledger.close()


def sql(study: Ran, statement: str, *values) -> None:
    connection = sqlite3.connect(ledger_path(study.out))
    connection.execute(statement, values)
    connection.commit()
    connection.close()


def leave_running(study: Ran, trial: str = "search-softmax-0001") -> list[Saved]:
    """Have a trial run, with two checkpoints, as when its run was killed."""
    kept = []
    for epoch in (2, 1):
        path = f"checkpoints/{trial}/001-{epoch:05d}.pt"
        kept.append(Saved(path, checkpoint.write(study.out / path, {"epoch": epoch}), epoch))
    alter(study, trial, state="running", ended=None, checkpoints=[asdict(saved) for saved in kept])
    return kept


# --- sound studies ---


def test_nothing_is_wrong_with_a_study_that_has_ended(doctor, study, run):
    """And looking changes nothing."""

    def look():
        """All but the folder of the ledger: the lock names its holder, the ledger counts its openings."""
        return {name: digest for name, digest in study.files(".").items() if not name.startswith("ledger/")}

    before = look(), study.trials()
    ended = doctor()
    assert "nothing is wrong" in ended.out and ended.status == 0 and ended.err == "", ended
    assert (look(), study.trials()) == before
    assert run().out.startswith("done: nothing is left to do")


def test_nothing_is_wrong_with_a_study_that_was_killed(doctor, study):
    """What a run leaves for the next one is no damage."""
    leave_running(study)
    ended = doctor()
    assert "checkpoint is damaged" not in ended.out and "removed" not in ended.out, ended
    assert study.trials(id="search-softmax-0001")[0]["state"] == "running"
    assert len(list((study.out / "checkpoints").rglob("*.pt"))) == 2


def test_a_running_study_is_refused(doctor, study):
    """Both would write."""
    code = ("import sys; from pathlib import Path; from losstune.search.ledger.lock import RunLock\n"
            "lock = RunLock(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()")  # fmt: skip
    holder = subprocess.Popen([sys.executable, "-c", code, study.out / "ledger"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)  # fmt: skip
    try:
        assert holder.stdout.readline() == "held\n"
        ended = doctor()
        assert ended.status == 2 and f"process {holder.pid} on" in ended.err and ended.err.count("\n") == 1, ended
    finally:
        holder.kill()
        holder.communicate()


@pytest.mark.parametrize("name", ["none", "ran/my"])
def test_no_study(losstune, tmp_path, name):
    """One line, as everywhere."""
    ended = losstune("doctor", name, "--out", tmp_path)
    assert ended.status == 2 and ended.err.count("\n") == 1 and ended.out == "", ended


# --- files ---


def test_what_nothing_needs_is_removed(doctor, study):
    """Checkpoints of trials that have ended, and halves of files that a kill has left; nothing else.

    No process of Linux has a number as high as those.
    """
    before = study.files(".")
    orphans = ["checkpoints/search-softmax-0000/001-00002.pt", "checkpoints/gone/001-00001.pt",
               "predictions/.confirm0-softmax-0000.npz.4194305", "report/.winner.yaml.4194306",
               ".x.y.4194307"]  # fmt: skip
    for name in orphans:
        (study.out / name).parent.mkdir(parents=True, exist_ok=True)
        (study.out / name).write_bytes(b"x" * 1000)
    ended = doctor()
    assert ended.status == 0 and "5 files that nothing needs" in ended.out and "removed" in ended.out, ended
    assert study.files(".").keys() == before.keys()
    assert "nothing is wrong" in doctor().out


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b""),
                                    lambda path: path.write_bytes(path.read_bytes()[:-1]),
                                    lambda path: path.write_bytes(path.read_bytes() + b"x")])  # fmt: skip
def test_a_damaged_newest_checkpoint(doctor, study, damage):
    """The trial goes on from the one before."""
    newest, before = leave_running(study)
    damage(study.out / newest.path)
    ended = doctor()
    assert ended.status == 0 and newest.path in ended.out and "it goes on from epoch 1" in ended.out, ended
    assert study.trials(id="search-softmax-0001")[0]["checkpoints"] == [asdict(before)]
    assert [path.name for path in (study.out / "checkpoints").rglob("*.pt")] == ["001-00001.pt"]


def test_what_is_lost_is_trained_again_to_the_same_bits(doctor, study):
    """By the next run, whatever is lost of a member, and a trial without a whole checkpoint; all else stays.

    A run that cannot write what it has trained stops, blames no trial and names what stands in the way; when that is
    gone the same command goes on.
    """
    kept, before = ("id", "parameters", "state", "epoch", "score", "results", "files", "asked"), study.trials()
    files = {folder: study.files(folder) for folder in ("predictions", "weights", "features")}
    table = (study.report / "table.csv").read_text()
    lost = {"confirm0-softmax-0000": "weights", "confirm0-softmax-0001": "predictions",
            "confirm0-squared_error-0000": "features"}  # fmt: skip
    for trial, folder in lost.items():
        (damaged,) = (study.out / folder).glob(f"{trial}.*")
        damaged.write_bytes(damaged.read_bytes()[:500]) if folder == "weights" else damaged.unlink()
    for saved in leave_running(study):
        (study.out / saved.path).write_bytes(b"no state")
    ended = doctor()
    assert ended.status == 0 and "it goes on from its start" in ended.out, ended
    for trial, folder in lost.items():
        assert f"{trial}: what was kept of it is damaged ({folder}/" in ended.out, ended
    assert sorted(row["id"] for row in study.trials(state="running")) == sorted([*lost, "search-softmax-0001"])
    assert study.trials(id="search-softmax-0001")[0]["checkpoints"] == []

    in_the_way = study.out / "predictions" / "confirm0-softmax-0001.npz"
    in_the_way.mkdir()
    ended = study.run().ended
    assert ended.status == 3 and "the study stopped: a file cannot be read or written" in ended.err, ended
    assert in_the_way.name in ended.err and "Traceback" not in ended.err and not study.trials(state="failed")

    in_the_way.rmdir()
    assert study.run().ended.status == 0
    assert {folder: study.files(folder) for folder in files} == files
    assert (study.report / "table.csv").read_text() == table
    assert [[row[name] for name in kept] for row in study.trials()] == [[row[name] for name in kept] for row in before]
    assert "nothing is wrong" in doctor().out


@pytest.mark.parametrize(("device", "choice", "said"), [
    ("cpu, auto", {"kind": "batched", "together": 16}, "to the same numbers, on a processor of the same kind"),
    ("cpu, vmap", {"kind": "vmap", "together": 16}, "that may differ by rounding (vmap on cpu keeps no bits)"),
    ("NVIDIA H100, auto", {"kind": "batched", "together": 16}, "(batched on NVIDIA H100 keeps no bits)"),
])  # fmt: skip
def test_the_same_numbers_are_promised_only_where_they_will_be(doctor, study, device, choice, said):
    """By what the study was computed with."""
    sql(study, "DELETE FROM meta WHERE key LIKE 'backend on %'")
    with contextlib.closing(Ledger.create_or_open(ledger_path(study.out))) as ledger, ledger.transaction() as tx:
        set_meta(tx, f"backend on {device}", {"choice": choice, "width": 16})
    (study.out / "predictions" / "confirm0-softmax-0000.npz").write_bytes(b"")
    assert said in doctor().out


def test_what_a_report_has_dropped_is_not_missed(doctor, study):
    """However often it is looked at, and though the report is to be made again: one member is damaged, not all."""
    trial = "confirm0-softmax-0000"
    (study.out / "predictions" / f"{trial}.npz").write_bytes(b"")
    assert f"{trial}: what was kept of it is damaged" in doctor().out
    assert "damaged" not in doctor().out
    assert [row["id"] for row in study.trials(state="running")] == [trial]


def test_a_study_that_has_recorded_no_features_lacks_none(doctor, study, run):
    """As those from before there were any."""
    shutil.rmtree(study.out / "features")
    for row in study.trials("confirm"):
        alter(study, row["id"], files={kind: row["files"][kind] for kind in ("predictions", "weights")})
    assert "nothing is wrong" in doctor().out
    assert run("--set", "record=null").out.startswith("done")


def test_a_loss_that_was_taken_out_comes_back_with_its_weights(study, run):
    """They are kept, though no report names them for a while."""
    first = (study.report / "runs.csv").read_text()
    assert run("--set", "losses=[softmax]").status == 0
    assert (study.report / "runs.csv").read_text() != first
    assert run().status == 0
    assert (study.report / "runs.csv").read_text() == first


# --- the ledger ---


def test_gaps_and_strangers_in_the_ledger_are_named(doctor, study):
    """They cannot be repaired: nobody knows what was there."""
    sql(study, "DELETE FROM reports WHERE trial = 'search-softmax-0000' AND epoch = 1")
    sql(study, "UPDATE reports SET trial = 'search-focal-0000' WHERE trial = 'search-squared_error-0000'")
    sql(study, "UPDATE trials SET number = 7, id = 'search-softmax-0007' WHERE id = 'search-softmax-0001'")
    ended = doctor()
    assert ended.status == 3 and "not repaired" in ended.out, ended
    said = ended.out.splitlines()
    for words in ("softmax: its configurations are numbered [0, 7]", "search-softmax-0000: its",
                  "search-focal-0000: it was reported, but never asked for"):  # fmt: skip
        assert any(line.startswith(words) for line in said), ended
    assert said[-1].endswith("left")


def test_a_trial_of_more_epochs_than_are_recorded_is_named(doctor, study):
    """Its last report is gone, or a disk has altered the number."""
    epoch = study.trials(id="search-softmax-0000")[0]["epoch"]
    alter(study, "search-softmax-0000", epoch=epoch + 1)
    said = f"search-softmax-0000: it has trained {epoch + 1} epochs, and {epoch} are recorded: not repaired"
    assert said in doctor().out.splitlines()


def test_a_member_that_has_ended_without_results(doctor, study):
    """It is named."""
    alter(study, "confirm0-softmax-0000", results=None)
    assert "confirm0-softmax-0000: it has ended without results" in doctor().out


def test_a_report_of_fewer_members_than_have_ended_is_not_the_last_word(doctor, study, run):
    """It was asked for while the others were trained, whose run was killed before it made its own."""
    last = study.trials(id="confirm0-softmax-0001")[0]
    alter(study, last["id"], results=None, state="running", ended=None)
    with contextlib.closing(Ledger.create_or_open(ledger_path(study.out))) as ledger, ledger.transaction() as tx:
        set_meta(tx, "report_of", report_inputs(tx))  # as `losstune report` does
    alter(study, last["id"], **{name: last[name] for name in ("results", "state", "ended")})
    assert not run().out.startswith("done")
    assert run().out.startswith("done")


def test_seeds_that_are_added_after_a_repair_were_added_after_a_look(doctor, study):
    """The member that is to be trained again has been seen like the others."""
    path = study.out / "predictions" / "confirm0-softmax-0000.npz"
    path.write_bytes(path.read_bytes() + b"x")
    doctor()
    plan = make_plan(load_study(study.folder / "my.yaml", ("confirm.seeds=3",)))
    with contextlib.closing(Ledger.create_or_open(ledger_path(study.out))) as ledger:
        record(plan, ledger)
    said = [event["text"] for event in study.read(read.all_events) if event["kind"] == "seeds"]
    assert said == ["seeds added: 2 to 3"]


def test_a_report_while_the_winners_weights_are_to_be_trained_again(doctor, study, losstune, monkeypatch, undrawn):
    """Has no winner to use yet, and blames nothing."""
    monkeypatch.chdir(study.folder)
    winner = yaml.safe_load((study.out / "report" / "winner.yaml").read_text())["loss"]
    (study.out / "predictions" / f"confirm0-{winner}-0000.npz").unlink()
    doctor()
    assert losstune("report", "my").status == 0
    assert not (study.out / "report" / "winner.yaml").exists()


def test_a_damaged_ledger_is_replaced_by_its_copy(doctor, study, run):
    """And what was recorded since then is done again."""
    before = study.trials()
    path = ledger_path(study.out)
    assert copy_of(path).is_file()
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    content = bytearray(path.read_bytes())
    content[4096:8192] = bytes(4096)
    path.write_bytes(content)
    ended = doctor()
    assert "the ledger is damaged" in ended.out and "is in its place" in ended.out, ended
    assert list(path.parent.glob("damaged-*"))
    assert {row["id"] for row in study.trials()} <= {row["id"] for row in before}
    assert run().status == 0
    same = ("id", "parameters", "state", "epoch", "score", "results", "files")
    assert [[row[name] for name in same] for row in study.trials()] == [[row[name] for name in same] for row in before]


def test_a_damaged_ledger_without_a_copy(doctor, study):
    """Nothing is made up, and nothing is overwritten."""
    path = ledger_path(study.out)
    for other in (copy_of(path), path.with_name("ledger.db-wal"), path.with_name("ledger.db-shm")):
        other.unlink(missing_ok=True)
    path.write_bytes(b"garbage" * 1000)
    ended = doctor()
    assert ended.status == 3 and "the ledger is damaged" in ended.out and "1 left" in ended.out, ended
    assert path.read_bytes() == b"garbage" * 1000


# --- MLflow ---


def test_mlflow_runs_that_are_missing_or_altered_are_brought_up_to_date(doctor, study):
    """Each exactly once."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{study.folder / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("my").experiment_id
    runs = client.search_runs([experiment], max_results=1000)
    client.delete_run(runs[0].info.run_id)
    client.set_tag(runs[1].info.run_id, "losstune.written", "something else")
    ended = doctor()
    assert ended.status == 0 and "MLflow lacked 1 runs and showed 1 otherwise: brought up to date" in ended.out, ended
    names = [run.data.tags["losstune.id"] for run in client.search_runs([experiment], max_results=1000)]
    assert len(names) == len(set(names)) == len(runs)
    assert "nothing is wrong" in doctor().out


def test_an_mlflow_store_that_cannot_be_read_is_left_as_it_is(doctor, study):
    """The ledger does not suffer."""
    (study.folder / "runs" / "mlflow.db").write_bytes(b"no database" * 100)
    for suffix in ("-wal", "-shm"):
        (study.folder / "runs" / f"mlflow.db{suffix}").unlink(missing_ok=True)
    ended = doctor()
    assert ended.status == 3 and "MLflow" in ended.out and "not repaired" in ended.out, ended


def test_what_was_found_is_an_event_of_the_study(doctor, study):
    """Whoever reads the ledger later sees that it was repaired."""
    newest, _ = leave_running(study)
    (study.out / newest.path).unlink()
    doctor()
    assert any(event["kind"] == "repair" and newest.path in event["text"] for event in study.read(read.all_events))
