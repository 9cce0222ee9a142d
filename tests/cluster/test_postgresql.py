"""The ledger on a PostgreSQL server: the same study as with a file, and one that outlives its machine."""

import json
import math
import os
import signal

import pytest
from processes import told
from ran import Ran, folder_with
from servers import PASSWORD

from losstune.search.ledger import read, write
from losstune.search.ledger.database import Ledger, Superseded, get_meta, set_meta
from losstune.search.ledger.postgresql import Server, server_of
from losstune.spaces import InputError

ONE = """\
data: digits
network: mlp
losses: [softmax, squared_error]
recipe: {epochs: 18, batch_size: 8}
search: {trials: 4, seeds: 2, halving: {first: 3, factor: 3}}
confirm: {seeds: 3}
resources: {max_lanes: 1, backend: sequential}
"""


@pytest.fixture
def server(postgres, tmp_path):
    found = server_of(postgres.url(), tmp_path / f"study of {tmp_path.name}")
    found.folder.mkdir()
    return found


@pytest.fixture
def ledger(server):
    ledger = Ledger.create_or_open(server)
    yield ledger
    ledger.close()


# --- the database ---


def test_what_is_committed_is_read_back(ledger, server):
    """Every bit of a number, what is not finite, letters of any alphabet, and nothing."""
    values = [0.1 + 0.2, 5e-324, -0.0, float("nan"), float("inf"), 2**53 + 1, "ß \u2603 \\u0000", None, {"a": [True]}]
    with ledger.transaction() as tx:
        set_meta(tx, "values", values)
        set_meta(tx, "values", [*values, 1])
        set_meta(tx, "none", None)
        write.add_event(tx, "run", "it's 100% \"said\"")
    other = Ledger.open(server)
    with other.reading() as tx:
        *found, last = get_meta(tx, "values")
        assert json.dumps(found) == json.dumps(values) and last == 1 and math.isnan(found[3])
        assert get_meta(tx, "none") is None and get_meta(tx, "no such") is None
        assert [event["text"] for event in read.all_events(tx)] == ["it's 100% \"said\""]
    other.close()


def test_a_transaction_that_fails_leaves_nothing(ledger):
    with pytest.raises(ZeroDivisionError), ledger.transaction() as tx:
        set_meta(tx, "half", 1)
        raise ZeroDivisionError
    with ledger.reading() as tx:
        assert get_meta(tx, "half") is None


def test_a_reader_sees_one_instant(ledger, server):
    """Though it asks twice, and something is committed in between."""
    other = Ledger.open(server)
    with other.reading() as tx:
        assert read.all_events(tx) == []
        with ledger.transaction() as writing:
            write.add_event(writing, "run", "meanwhile")
        assert read.all_events(tx) == []
    with other.reading() as tx:
        assert len(read.all_events(tx)) == 1
    other.close()


def test_a_later_run_takes_over(ledger, server):
    later = Ledger.create_or_open(server)
    with pytest.raises(Superseded, match="another run has continued this study"), ledger.transaction():
        pass
    later.close()


def test_studies_do_not_see_each_other(ledger, server, tmp_path):
    """Of one database, with names that are no identifiers, and longer than one may be."""
    with ledger.transaction() as tx:
        set_meta(tx, "of", "the first")
    for name in ("x" * 100, "x" * 101, 'quoted "name"; drop', "study of another"):
        other = Server(server.url, tmp_path / name)
        with pytest.raises(InputError, match="no ledger there"):
            Ledger.open(other)
        opened = Ledger.create_or_open(other)
        with opened.transaction() as tx:
            assert get_meta(tx, "of") is None
            set_meta(tx, "of", name)
        opened.close()
    with ledger.reading() as tx:
        assert get_meta(tx, "of") == "the first"


def test_a_newer_schema_is_refused(ledger, server):
    with ledger.transaction() as tx:
        set_meta(tx, "schema", 99)
    with pytest.raises(InputError, match="written by a newer losstune"):
        Ledger.open(server)


def test_one_process_holds_a_study_until_it_ends(server):
    notes = []
    with server.held(notes.append, 0.0), pytest.raises(InputError, match=rf"process {os.getpid()}, .*is running this"):
        with server.held(notes.append, 0.0):
            pass
    with server.held(notes.append, 0.0):
        assert notes == []


# --- what is asked for ---


@pytest.mark.parametrize(
    ("url", "said"),
    [("postgresql://me:secret@127.0.0.1/db", "PGPASSWORD in the environment, or ~/.pgpass"),
     ("postgresql://127.0.0.1/db?password=secret", "PGPASSWORD"), ("mysql://127.0.0.1/db", "postgresql://USER@"),
     ("postgresql://127.0.0.1", "postgresql://USER@"), ("nonsense", "postgresql://USER@")],
)  # fmt: skip
def test_an_address_that_will_not_do_is_one_line(losstune, tmp_path, url, said):
    """And no password is repeated."""
    ended = losstune("run", "digits", "--out", tmp_path / "runs", "--ledger", url)
    assert ended.status == 2 and said in ended.err and ended.err.count("\n") == 1 and "secret" not in ended.err
    assert not (tmp_path / "runs").exists()


def test_a_server_that_does_not_answer_or_refuses_is_one_line(postgres, losstune, tmp_path, monkeypatch):
    ended = losstune("run", "digits", "--out", tmp_path / "a", "--ledger", "postgresql://me@127.0.0.1:9/db")
    assert ended.status == 2 and "refused" in ended.err and ended.err.count("\n") == 1, ended
    monkeypatch.setenv("PGPASSWORD", "wrong")
    ended = losstune("run", "digits", "--out", tmp_path / "b", "--ledger", postgres.url())
    assert ended.status == 2 and "password authentication failed" in ended.err and ended.err.count("\n") == 1, ended


# --- studies ---


@pytest.fixture(scope="module")
def with_file(tmp_path_factory, start):
    return Ran(folder_with(tmp_path_factory, "file", my__yaml=ONE), start).run()


@pytest.fixture(scope="module")
def moved(tmp_path_factory, start, postgres):
    """Killed in the search, told to go on while its server is gone, and ended from another machine's empty folder."""
    ran = Ran(folder_with(tmp_path_factory, "moved", my__yaml=ONE), start)
    places = "--ledger", postgres.url(), "--storage", ran.folder / "shared"
    running = ran.begin(*places)
    running.until(lambda: len(ran.trials("search", state="complete") + ran.trials("search", state="stopped")) > 1)
    ran.second = told(ran.folder, "run", "my.yaml")
    running.kill()
    confirmed = len(ran.trials("confirm", state="complete"))
    ran.ended_before = {row["id"]: row for row in ran.trials() if row["state"] != "running"}
    postgres.stop()
    ran.without = told(ran.folder, "run", "my.yaml")
    postgres.start()
    (ran.folder / "runs").rename(ran.folder / "of the lost machine")
    running = ran.begin(*places)
    running.until(lambda: len(ran.trials("confirm", state="complete")) > confirmed)
    postgres.stop()
    ran.interrupted = running.wait()
    postgres.start()
    return ran.run()


def test_the_second_of_two_runs_says_who_holds_the_study(moved):
    assert moved.second.status == 2 and "is running this study" in moved.second.err, moved.second


def test_a_server_that_is_gone_is_said_and_costs_nothing(moved):
    """Before a run in a line of the user's; in the midst of one it stops, and the same command goes on."""
    assert moved.without.status == 2 and "refused" in moved.without.err and moved.without.err.count("\n") == 1
    assert moved.interrupted.status == 3 and "the ledger's server fails" in moved.interrupted.err, moved.interrupted
    assert moved.ended.status == 0, moved.ended
    now = {row["id"]: row for row in moved.trials()}
    assert moved.ended_before and {trial: now[trial] for trial in moved.ended_before} == moved.ended_before


def test_it_is_the_study_that_a_file_would_hold(moved, with_file):
    """Asks, curves, choices and numbers, bit for bit: it has one slot."""
    assert moved.members().equals(with_file.members())
    for row, other in zip(moved.trials(), with_file.trials(), strict=True):
        same = ("id", "parameters", "seeds", "state", "epoch", "score", "best_epoch", "results", "files")
        assert {name: row[name] for name in same} == {name: other[name] for name in same}
        assert moved.curve(row["id"]) == with_file.curve(other["id"])


def test_all_commands_find_it(moved, start):
    """Without being told again where it is."""
    for command in ("status", "report", "doctor", "export", "sync"):
        ended = told(moved.folder, command, "my")
        assert ended.status == 0, (command, ended)
    assert "its ledger is postgresql://" in told(moved.folder, "status", "my").out
    assert told(moved.folder, "show", "my", "confirm0-softmax-0000").status == 0
    assert not list((moved.out / "ledger").glob("*.db*"))


def test_no_password_is_kept_or_shown(moved):
    for path in moved.folder.rglob("*"):
        if path.is_file():
            assert PASSWORD.encode() not in path.read_bytes(), path


def test_ctrl_c_parks_it(postgres, tmp_path_factory, start):
    ran = Ran(folder_with(tmp_path_factory, "parked", my__yaml=ONE), start)
    running = ran.begin("--ledger", postgres.url(), "--name", "parked", "--storage", ran.folder / "shared")
    parked = Ran(ran.folder, start, "parked.yaml")
    running.until(lambda: parked.trials("search"))
    os.killpg(running.process.pid, signal.SIGINT)
    assert running.wait().status == 130
    assert all(row["lane"] is None for row in parked.trials())
