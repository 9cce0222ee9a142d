"""The durable record: what is committed stays, one run writes at a time, and what is no ledger is said to be none."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys

import pytest

from losstune.search.ledger import read, schema, write
from losstune.search.ledger.database import Ledger, Superseded, get_meta, set_meta
from losstune.search.ledger.lock import RunLock
from losstune.spaces import InputError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger" / "ledger.db"


@pytest.fixture
def ledger(path):
    ledger = Ledger.create_or_open(path)
    yield ledger
    ledger.close()


def trial(number: int = 0, **changes) -> dict:
    return {"id": f"search-softmax-{number:04d}", "phase": "search", "round": 0, "loss": "softmax", "number": number,
            "parameters": {"learning_rate": 0.1}, "configuration": {"learning_rate": 0.1, "weight_decay": 1e-4},
            "seeds": [0, 1, 2], "epochs": 9, "state": "running", **changes}  # fmt: skip


def report(epoch: int, attempt: int = 1, **changes) -> dict:
    curve = [{"epoch": epoch, "train_loss": [0.5], "scores": {"accuracy": [0.9]}}]
    return {"trial": "search-softmax-0000", "epoch": epoch, "attempt": attempt, "decision": "go", "score": 0.9,
            "curve": curve, "time": 0.0, **changes}  # fmt: skip


# --- what is committed ---


def test_what_is_committed_is_read_back_by_another_reader(ledger, path):
    """Every field, as it was written."""
    with ledger.transaction() as tx:
        write.add_trial(tx, **trial())
        write.add_reports(tx, [report(3)])
        write.set_trial(tx, "search-softmax-0000", state="complete", score=0.9, best_epoch=3)
    other = Ledger.open(path)
    with other.reading() as tx:
        (row,), (news,) = read.all_trials(tx), read.all_reports(tx)
    other.close()
    assert trial(state="complete").items() <= row.items() and row["score"] == 0.9 and row["best_epoch"] == 3
    assert report(3).items() <= news.items()


def test_a_transaction_that_fails_leaves_nothing(ledger):
    """A report without its decision, or the reverse, would be worse than neither."""
    with pytest.raises(RuntimeError), ledger.transaction() as tx:
        write.add_trial(tx, **trial())
        raise RuntimeError
    with ledger.reading() as tx:
        assert read.all_trials(tx) == []


def test_what_a_killed_process_had_committed_is_there(path):
    """Durable means durable: kill -9 in the middle of the next transaction."""
    code = f"""
import os, signal
from pathlib import Path
from losstune.search.ledger import write
from losstune.search.ledger.database import Ledger
ledger = Ledger.create_or_open(Path({str(path)!r}))
for number in range(3):
    with ledger.transaction() as tx:
        write.add_trial(tx, **({trial()!r} | {{"id": str(number), "number": number}}))
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == -signal.SIGKILL
    ledger = Ledger.open(path)
    with ledger.reading() as tx:
        assert [row["id"] for row in read.all_trials(tx)] == ["0", "1"]
    ledger.close()


def test_trials_come_in_the_order_they_were_asked(ledger):
    """What replays them relies on it."""
    for number in (2, 0, 1):
        with ledger.transaction() as tx:
            write.add_trial(tx, **trial(number))
    with ledger.reading() as tx:
        assert [row["number"] for row in read.all_trials(tx)] == [2, 0, 1]


def test_a_trial_cannot_be_asked_twice(ledger):
    """Its id is the ledger's key."""
    with ledger.transaction() as tx:
        write.add_trial(tx, **trial())
    with pytest.raises(Exception, match="UNIQUE"), ledger.transaction() as tx:
        write.add_trial(tx, **trial())


def test_a_report_counts_once_per_trial_and_epoch(ledger):
    """Whatever attempt it comes from: the first one's decision stands."""
    with ledger.transaction() as tx:
        write.add_reports(tx, [report(3, decision="stop")])
        assert read.decisions(tx) == {("search-softmax-0000", 3): "stop"}
    with pytest.raises(Exception, match="UNIQUE"), ledger.transaction() as tx:
        write.add_reports(tx, [report(9), report(3, attempt=2)])
    with ledger.reading() as tx:
        assert list(read.decisions(tx)) == [("search-softmax-0000", 3)]


def test_meta_is_replaced_and_may_be_nothing(ledger):
    """A limit is lifted by writing none."""
    with ledger.transaction() as tx:
        set_meta(tx, "cut_at", 3)
        set_meta(tx, "cut_at", None)
    with ledger.reading() as tx:
        assert get_meta(tx, "cut_at") is None and get_meta(tx, "never") is None


# --- one writer ---


def test_a_superseded_run_cannot_write(ledger, path):
    """An orphan of an earlier run may still send, but nothing of it enters."""
    later = Ledger.create_or_open(path)
    with pytest.raises(Superseded), ledger.transaction() as tx:
        write.add_trial(tx, **trial())
    with later.transaction() as tx:
        write.add_trial(tx, **trial(1))
    with later.reading() as tx:
        assert [row["number"] for row in read.all_trials(tx)] == [1]
    later.close()


def test_a_superseded_run_is_refused_between_any_two_transactions(ledger, path):
    """The check is part of each transaction, not of the opening."""
    with ledger.transaction() as tx:
        write.add_trial(tx, **trial())
    Ledger.create_or_open(path).close()
    with pytest.raises(Superseded), ledger.transaction() as tx:
        write.set_trial(tx, "search-softmax-0000", state="failed")
    with ledger.reading() as tx:
        assert read.all_trials(tx)[0]["state"] == "running"


def test_one_generation_may_write_from_several_processes(ledger, path):
    """The driver opens the ledger and its conductor, elsewhere, writes."""
    conductor = Ledger(path, ledger.generation)
    with conductor.transaction() as tx:
        write.add_trial(tx, **trial())
    with ledger.transaction() as tx:
        write.add_trial(tx, **trial(1))
    with ledger.reading() as tx:
        assert len(read.all_trials(tx)) == 2
    conductor.close()


def test_readers_do_not_wait_for_a_writer(ledger, path):
    """`losstune status` answers while a run commits, and sees only what is committed."""
    reader = Ledger.open(path)
    with ledger.transaction() as tx:
        write.add_trial(tx, **trial())
        with reader.reading() as seen:
            assert read.all_trials(seen) == []
    reader.close()


# --- the files of one that is gone ---


def leave_journal(path) -> None:
    """Have the journal of another database lie beside a path, as when only the database's own file was removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path.parent.parent / "other.db") as other:
        other.execute("PRAGMA journal_mode=WAL")
        other.execute("CREATE TABLE strangers (content)")
        other.executemany("INSERT INTO strangers VALUES (?)", [(f"{number:05d}" * 200,) for number in range(60)])
        other.commit()
        for suffix in ("-wal", "-shm"):
            shutil.copy(f"{path.parent.parent / 'other.db'}{suffix}", f"{path}{suffix}")
    other.close()


def test_the_journal_of_a_ledger_that_was_removed_is_not_that_of_a_new_one(path):
    """SQLite would take it for the new one's own, and its pages for newer ones."""
    leave_journal(path)
    for _ in range(2):
        ledger = Ledger.create_or_open(path)
        with ledger.reading() as tx:
            assert read.all_trials(tx) == read.all_reports(tx) == []
        ledger.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    assert tables >= set(schema.metadata.tables) and "strangers" not in tables
    assert [file.name for file in path.parent.iterdir() if file.name.startswith(".")] == []


# --- an older ledger ---


def make_older(path, version: int) -> sqlite3.Connection:
    """Take from a ledger's table what an older losstune did not have; a connection, which commits at its end."""
    connection = sqlite3.connect(path)
    for column in ("joined", "checkpoints", "files", *(["trained"] if version == 1 else [])):
        connection.execute(f"ALTER TABLE trials DROP COLUMN {column}")
    for column in ("checkpoint VARCHAR", "checkpoint_digest VARCHAR", "checkpoint_epoch INT NOT NULL DEFAULT 0"):
        connection.execute(f"ALTER TABLE trials ADD COLUMN {column}")
    return connection


@pytest.mark.parametrize("open_", [Ledger.open, Ledger.create_or_open])
@pytest.mark.parametrize("version", [1, 2])
def test_a_ledger_of_an_older_losstune_is_brought_up_to_date(ledger, path, open_, version):
    """Version 1 did not count what was trained beside what was reported; version 2 knew one checkpoint of a trial."""
    with ledger.transaction() as tx:
        for name in ("saved", "unsaved"):
            write.add_trial(tx, **trial(id=name, epoch=9, trained=9))
        set_meta(tx, "schema", version)
    ledger.close()
    with make_older(path, version) as connection:
        connection.execute("UPDATE trials SET checkpoint='/a/7.pt', checkpoint_digest='d', checkpoint_epoch=7 "
                           "WHERE id='saved'")  # fmt: skip
    for _ in range(2):
        later = open_(path)
        with later.reading() as tx:
            rows = {row["id"]: row for row in read.all_trials(tx)}
            assert get_meta(tx, "schema") == schema.VERSION
        later.close()
        assert {row["trained"] for row in rows.values()} == {9} and {row["joined"] for row in rows.values()} == {0}
        assert rows["saved"]["checkpoints"] == [{"path": "/a/7.pt", "digest": "d", "epoch": 7}]
        assert rows["unsaved"]["checkpoints"] == [] and "checkpoint" not in rows["saved"]


@pytest.mark.parametrize("version", [1, 2])
def test_an_older_ledger_is_left_as_it_is_while_its_study_runs(ledger, path, holder, version):
    """The older losstune that runs it would not find its columns any more; once it has ended, all is as ever."""
    with ledger.transaction() as tx:
        write.add_trial(tx, **trial(epoch=9, trained=9))
        set_meta(tx, "schema", version)
    ledger.close()
    with make_older(path, version):
        pass
    before = layout(path)
    for _ in range(2):
        said = one_line(path)
        assert f"process {holder.pid} on {socket.gethostname()}" in said and "is running this study" in said
        assert layout(path) == before
    assert before["schema"] == version
    holder.kill()
    holder.wait(60)
    Ledger.open(path).close()
    assert layout(path) != before and layout(path)["schema"] == schema.VERSION
    RunLock(path.parent).release()  # it was not kept


def test_a_ledger_of_this_version_is_read_while_its_study_runs(ledger, path, holder):
    """Nobody's lock is asked for what is only read."""
    with ledger.transaction() as tx:
        write.add_trial(tx, **trial())
    reader = Ledger.open(path)
    with reader.reading() as tx:
        assert len(read.all_trials(tx)) == 1
    reader.close()


def layout(path) -> dict[str, str | int]:
    """A ledger's columns by table, and the version that it says."""
    connection = sqlite3.connect(path)
    found = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall())
    found |= dict(connection.execute("SELECT key, value FROM meta WHERE key = 'schema'").fetchall())
    connection.close()
    return found


# --- what is no ledger ---


def one_line(path) -> str:
    with pytest.raises(InputError) as error:
        Ledger.open(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_newer_schema_is_refused(ledger, path):
    """Writing into what a newer losstune keeps there would break it."""
    with ledger.transaction() as tx:
        set_meta(tx, "schema", 99)
    assert "written by a newer losstune (schema 99); allowed: up to" in one_line(path)
    with pytest.raises(InputError, match="newer losstune"):
        Ledger.create_or_open(path)


@pytest.mark.parametrize("content", [os.urandom(5000), b"SQLite format 3\x00" + bytes(200), b"# a text file\n"])
def test_a_file_that_is_no_ledger_is_refused(tmp_path, content):
    """Garbage, half a header, text."""
    (tmp_path / "ledger.db").write_bytes(content)
    assert f"{tmp_path / 'ledger.db'}: not a readable ledger" in one_line(tmp_path / "ledger.db")


def test_a_truncated_ledger_is_refused(ledger, path):
    """A full disk or a broken copy leaves one."""
    with ledger.transaction() as tx:
        for number in range(200):
            write.add_trial(tx, **trial(number))
    ledger.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    os.truncate(path, path.stat().st_size // 2)
    assert "not a readable ledger" in one_line(path)


def test_another_programs_database_is_refused(tmp_path):
    """It has tables, but not ours."""
    connection = sqlite3.connect(tmp_path / "ledger.db")
    connection.execute("CREATE TABLE trials (id INTEGER)")
    connection.commit()
    connection.close()
    assert "not a readable ledger" in one_line(tmp_path / "ledger.db")


def test_no_ledger_at_all(tmp_path):
    """A study that has not been run."""
    assert "no ledger there; allowed: the folder of a study that has been run" in one_line(tmp_path / "ledger.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [os.urandom(5000), b"# a text file\n"])
def test_a_run_refuses_a_broken_ledger_in_one_line(tmp_path, losstune, content):
    """And leaves it as it is: somebody may want to rescue it."""
    broken = tmp_path / "runs" / "digits" / "ledger" / "ledger.db"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(content)
    ended = losstune("run", "digits", "--out", tmp_path / "runs")
    assert ended.status == 2 and ended.err.count("\n") == 1 and "not a readable ledger" in ended.err
    assert broken.read_bytes() == content


def test_a_run_killed_while_it_makes_the_ledger_does_not_lock_the_study(tmp_path, losstune, monkeypatch):
    """kill -9 between the file and its tables: the same command has to go on."""
    path = tmp_path / "runs" / "digits" / "ledger" / "ledger.db"
    code = f"""
import os, signal
from pathlib import Path
from losstune.search.ledger import schema
from losstune.search.ledger.database import Ledger
schema.metadata.create_all = lambda engine: engine.connect() and os.kill(os.getpid(), signal.SIGKILL)
Ledger.create_or_open(Path({str(path)!r}))
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == -signal.SIGKILL
    # Where training would start.
    monkeypatch.setattr("losstune.search.phases._go_on", lambda *_: sys.exit(77))
    ended = losstune("run", "digits", "--out", tmp_path / "runs")
    assert ended.status == 77, ended


# --- the lock ---

HOLD = """
import sys, time
from pathlib import Path
from losstune.search.ledger.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A real process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "ledger"], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)  # fmt: skip
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_run_is_told_who_holds_the_study(holder, tmp_path):
    """Process and machine, in one line."""
    with pytest.raises(InputError) as error:
        RunLock(tmp_path / "ledger")
    assert f"process {holder.pid} on {socket.gethostname()}" in str(error.value) and "\n" not in str(error.value)


def test_being_refused_does_not_take_the_lock_away(holder, tmp_path):
    """Nor does it wipe out who holds it."""
    for _ in range(2):
        with pytest.raises(InputError, match=f"process {holder.pid} on"):
            RunLock(tmp_path / "ledger")


def test_the_lock_is_free_once_its_holder_is_killed(holder, tmp_path):
    """kill -9 leaves no stale lock behind."""
    holder.kill()
    holder.wait(60)
    RunLock(tmp_path / "ledger").release()


def test_somebody_who_looks_does_not_keep_a_run_out(tmp_path):
    """`losstune status` takes the lock for an instant, to see whether anybody has it."""
    looks = ("import fcntl, sys, time; file = open(sys.argv[1]); fcntl.flock(file, fcntl.LOCK_SH)\n"
             "print('held', flush=True); time.sleep(0.05)")  # fmt: skip
    RunLock(tmp_path / "ledger").release()
    with subprocess.Popen([sys.executable, "-c", looks, tmp_path / "ledger" / "lock"], stdout=subprocess.PIPE,
                          text=True) as looking:  # fmt: skip
        assert looking.stdout.readline() == "held\n"
        RunLock(tmp_path / "ledger").release()


def test_the_lock_is_free_once_it_is_released(tmp_path):
    """A run in the same process may follow."""
    RunLock(tmp_path / "ledger").release()
    RunLock(tmp_path / "ledger").release()
