"""Where the parts of a study are, and what the storage keeps for the day when a machine is lost; with folders."""

import json
import os
import shutil
import socket
import threading
import time
from dataclasses import asdict

import pytest

from losstune.search import backup
from losstune.search.backup import Backup, held
from losstune.search.doctor import examine
from losstune.search.ledger import read, write
from losstune.search.ledger.book import Book
from losstune.search.ledger.copies import brought_note
from losstune.search.ledger.database import Ledger, Superseded
from losstune.search.ledger.files import digest_of
from losstune.search.locations import Locations, confirm, files_of, ledger_at, ledger_path, locations_of, settle
from losstune.spaces import InputError
from losstune.trainables.disk import DiskError
from losstune.trainables.messages import Report, Saved
from losstune.trainables.storage import place_of


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """machine(name): the study's folder on a machine of that name, with the storage that all machines see."""

    def on(name: str):
        monkeypatch.setattr(backup.socket, "gethostname", lambda: name)
        folder = tmp_path / name / "my"
        settle(folder, Locations(str(tmp_path / "there")))
        return folder

    return on


@pytest.fixture
def clock(monkeypatch):
    """A time that only sleep moves, and what happens while somebody sleeps."""

    class Clock:
        now, meanwhile = 1000.0, staticmethod(lambda: None)

        def sleep(self, seconds):
            self.now += seconds
            self.meanwhile()

    clock = Clock()
    monkeypatch.setattr(backup.time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(backup.time, "sleep", clock.sleep)
    return clock


def begun(folder, notes=None):
    return held(folder, ledger_at(folder), (notes if notes is not None else []).append)


def run(folder, *events: str) -> list[str]:
    """A run that records something; what its ledger holds then."""
    with begun(folder) as kept, kept.opened() as ledger:
        with ledger.transaction() as tx:
            for text in events:
                write.add_event(tx, "run", text)
        return recorded_in(ledger)


def recorded_in(ledger) -> list[str]:
    with ledger.reading() as tx:
        return [event["text"] for event in read.all_events(tx)]


def lose(kept: Backup) -> None:
    """Its machine is gone: nothing more is said or done."""
    kept._ending.set()
    kept.superseded = "it is gone"


def sign(folder):
    return files_of(folder) / "ledger" / "run.json"


# --- where the parts are ---


def test_what_was_said_once_holds_for_all_commands(machine, tmp_path):
    folder = machine("a")
    run(folder, "one")
    settle(folder, Locations())
    settle(folder, Locations(str(tmp_path / "there")))
    assert files_of(folder) == tmp_path / "there" / "my"
    for other in (Locations(str(tmp_path / "elsewhere")), Locations(None, "postgresql://me@db/x")):
        with pytest.raises(InputError, match=r"my has it in .*; allowed: the same"):
            settle(folder, other)


def test_a_place_that_was_only_tried_may_change(machine, tmp_path):
    """A slip in an address is mended by the right one."""
    folder = machine("a")
    settle(folder, Locations(str(tmp_path / "elsewhere"), "postgresql://me@hsot/x"))
    settle(folder, Locations(None, "postgresql://me@host/x"))
    assert locations_of(folder) == Locations(None, "postgresql://me@host/x")
    confirm(folder)
    with pytest.raises(InputError, match="my has it in postgresql://me@host/x"):
        settle(folder, Locations(None, "postgresql://me@hsot/x"))


def test_without_a_word_all_is_in_the_folder(tmp_path):
    assert locations_of(tmp_path) == Locations() and files_of(tmp_path) == tmp_path
    settle(tmp_path, Locations())
    confirm(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_study_that_has_begun_does_not_move(tmp_path):
    """Its checkpoints would be looked for where they are not."""
    Ledger.create_or_open(ledger_path(tmp_path / "my")).close()
    with pytest.raises(InputError, match=f"my has it in {tmp_path / 'my'}"):
        settle(tmp_path / "my", Locations(str(tmp_path / "there")))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"storage": 1, "ledger": null, "recorded": true}', "\x00"])
def test_a_note_that_is_damaged_is_one_line(machine, content):
    folder = machine("a")
    (folder / "ledger" / "locations.json").write_text(content)
    with pytest.raises(InputError, match="not what losstune writes"):
        locations_of(folder)


@pytest.mark.parametrize("place", ["s3://bucket", "s3://bucket/a/b", "gs://bucket/a", "s3://b/a?region=eu-west-1"])
def test_places_of_stores(place):
    """Their names do not change with what is below, and options are not shown."""
    child = place_of(place) / "my" / "checkpoints/a.pt"
    assert str(child) == place.partition("?")[0] + "/my/checkpoints/a.pt" and child.name == "a.pt"


@pytest.mark.parametrize("option", ["storage", "ledger"])
@pytest.mark.parametrize(
    "value", ["s3://key:SECRET@b/x", "s3://b/x?secret_key=SECRET", "s3a://b/x?a=SECRET", "s3://b/x#SECRET",
              "s3://b/x?endpoint_override=http://k:SECRET@host", "postgresql://u:SECRET@host:port/db",
              "postgresql://u:SECRET@host/db", "postgresql+psycopg://u@h/db?password=SECRET",
              "postgresql://u@h/db?sslpassword=SECRET", "mysql://u:SECRET@h/db"],
)  # fmt: skip
def test_a_secret_is_neither_taken_nor_repeated(losstune, tmp_path, option, value):
    ended = losstune("run", "digits", "--out", tmp_path, f"--{option}", value)
    assert ended.status == 2 and "SECRET" not in ended.out + ended.err and ended.err.count("\n") == 1, ended
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


# --- which ledger is the newest ---


def test_another_machine_goes_on_with_the_copy(machine):
    assert run(machine("a"), "one") == ["one"]
    shutil.rmtree(machine("a"))
    notes, folder = [], machine("b")
    with begun(folder, notes) as kept, kept.opened() as ledger:
        assert recorded_in(ledger) == ["one"]
    assert len(notes) == 1 and "the ledger is the copy of" in notes[0]


def test_it_goes_back_and_forth(machine):
    """Whichever has run last has the newest; what the others have is set aside, and nothing is lost."""
    for number, name in enumerate("ababba"):
        assert run(machine(name), str(number)) == [str(n) for n in range(number + 1)]


def test_one_that_was_refused_takes_the_newest_later(machine, clock):
    """It came while another ran, and what it saw then is old."""
    with begun(machine("a")) as kept, kept.opened() as ledger:
        with ledger.transaction() as tx:
            write.add_event(tx, "run", "one")
        kept.keep(now=True)
        clock.meanwhile = kept._tell
        with pytest.raises(InputError, match="process .* on a, since .* is running this study; allowed: one run"):
            run(machine("b"))
        machine("a")
        with ledger.transaction() as tx:
            write.add_event(tx, "run", "two")
    assert run(machine("b")) == ["one", "two"]


def test_one_that_waits_for_the_end_of_another_takes_what_that_left(machine, clock):
    first = begun(machine("a"))
    kept = first.__enter__()
    opened = kept.opened()
    ledger = opened.__enter__()

    def end():
        clock.meanwhile = lambda: None
        with ledger.transaction() as tx:
            write.add_event(tx, "run", "the last")
        opened.__exit__(None, None, None)
        first.__exit__(None, None, None)

    clock.meanwhile = end
    folder = machine("b")
    assert run(folder) == ["the last"] and clock.now < 1000 + backup.GONE_SECONDS


def test_a_run_that_died_before_it_recorded_anything_changes_nothing(machine):
    """The machine that it died on has the newest ledger, though the storage's word is of a run that this lacks."""
    folder = machine("a")
    run(folder, "one")
    (files_of(folder) / "ledger" / "copy.db").write_bytes(b"what is older")
    said = json.loads(sign(folder).read_text())
    sign(folder).write_text(json.dumps({**said, "run": "died", "recorded": False, "before": said["run"]}))
    assert run(folder) == ["one"]


def test_a_damaged_copy_is_refused(machine):
    """Rather than to begin anew, and to put that in its place."""
    run(machine("a"), "one")
    (files_of(machine("a")) / "ledger" / "copy.db").write_bytes(b"garbage" * 1000)
    with pytest.raises(InputError, match="not a readable ledger"):
        run(machine("b"))


def test_doctor_looks_at_the_newest(machine):
    """On a machine whose own ledger is old it would remove what the newest names."""
    run(machine("b"), "one")
    saved = files_of(machine("a")) / "checkpoints" / "t" / "001-00001.pt"
    with begun(machine("a")) as kept, kept.opened() as ledger, ledger.transaction() as tx:
        saved.parent.mkdir(parents=True)
        saved.write_bytes(b"x")
        write.add_trial(tx, id="t", phase="search", round=0, loss="softmax", number=0, parameters={}, configuration={},
                        seeds=[0], epochs=9, state="running",
                        checkpoints=[asdict(Saved("checkpoints/t/001-00001.pt", digest_of(saved), 1))])  # fmt: skip
    examine(machine("b"))
    assert saved.is_file()


# --- the one run ---


def test_a_run_says_that_it_lives_and_that_it_has_ended(machine, monkeypatch):
    monkeypatch.setattr(backup, "SIGN_SECONDS", 0.05)
    folder = machine("a")
    with begun(folder):
        first = json.loads(sign(folder).read_text())
        end = time.monotonic() + 60
        while json.loads(sign(folder).read_text())["lives"] == first["lives"]:
            assert time.monotonic() < end
        assert not first["ended"]
    assert json.loads(sign(folder).read_text())["ended"]
    with pytest.raises(ZeroDivisionError), begun(folder):
        raise ZeroDivisionError
    assert json.loads(sign(folder).read_text())["ended"]
    assert not [thread for thread in threading.enumerate() if "_go_on_telling" in thread.name]


def test_a_run_of_another_machine_that_is_gone_does_not_block(machine, clock):
    with begun(machine("a")) as kept, kept.opened():
        lose(kept)
        notes, folder = [], machine("b")
        with begun(folder, notes):
            assert json.loads(sign(folder).read_text())["host"] == "b"
    assert "waiting up to 90 s" in notes[0] and clock.now >= 1000 + backup.GONE_SECONDS


def test_one_that_was_killed_here_is_not_waited_for(machine, clock):
    """Its lock is ours now."""
    folder = machine("a")
    run(folder, "one")
    said = json.loads(sign(folder).read_text())
    sign(folder).write_text(json.dumps({**said, "ended": False}))
    assert run(folder) == ["one"] and clock.now == 1000.0


def test_two_folders_of_one_machine_are_two(machine, clock, tmp_path):
    """Of one name of a machine, as containers have it: the lock of one is not that of the other."""
    with begun(machine("a")) as kept, kept.opened():
        other = tmp_path / "b" / "my"
        settle(other, Locations(str(tmp_path / "there")))
        clock.meanwhile = kept._tell
        with pytest.raises(InputError, match="is running this study"):
            run(other)


def test_a_run_that_was_taken_for_gone_ends(machine, clock):
    """Two that write would mix what they know; and it does not bring its own copy any more."""
    with pytest.raises(Superseded, match="a run on b has continued this study"):
        with begun(machine("a")) as kept, kept.opened() as ledger:
            assert run(machine("b"), "of b") == ["of b"]
            with ledger.transaction() as tx:
                write.add_event(tx, "run", "of a")
            kept.keep(now=True)  # here it finds out
            kept.keep()
    assert json.loads(sign(machine("a")).read_text())["host"] == "b" and run(machine("c")) == ["of b"]


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff", b'{"run": 3}'])
def test_a_word_that_cannot_be_understood_is_nobodys(machine, clock, content):
    folder = machine("a")
    run(folder, "one")
    sign(folder).write_bytes(content)
    assert run(folder, "two") == ["one", "two"]


def test_an_outage_is_said_once_and_ends_no_study(machine, monkeypatch):
    notes, real, folder = [], backup.write_bytes, machine("a")

    def fails(*_):
        raise DiskError(None, "no answer", "there")

    with begun(folder, notes) as kept, kept.opened():
        monkeypatch.setattr(backup, "write_bytes", fails)
        for _ in range(3):
            kept.keep(now=True)
        assert notes == ["the storage takes no copy of the ledger now: no answer"]
        monkeypatch.setattr(backup, "write_bytes", real)
        kept.keep(now=True)
        assert (files_of(folder) / "ledger" / "copy.db").is_file()


# --- what the copy names stays ---


def test_checkpoints_stay_until_a_copy_without_them_is_in_the_storage(machine):
    """Another machine goes on from that copy."""
    folder = machine("a")
    with begun(folder) as kept, kept.opened() as ledger:
        book, place = Book(ledger), files_of(folder) / "checkpoints" / "t"
        place.mkdir(parents=True)
        with book.transaction():
            row = book.add({"id": "t", "phase": "search", "round": 0, "loss": "softmax", "number": 0, "parameters": {},
                            "configuration": {}, "seeds": [0], "epochs": 9, "state": "running"})  # fmt: skip

        def saved(epoch: int) -> None:
            name = f"checkpoints/t/001-{epoch:05d}.pt"
            (files_of(folder) / name).write_bytes(b"x")
            with book.transaction():
                book.keep(row, Saved(name, "d", epoch), 0)
            book.discard_checkpoints(Report("t", 1, epoch, [], 0.0, Saved(name, "d", epoch)))

        def there() -> list[int]:
            return sorted(int(path.name[4:9]) for path in place.iterdir())

        for epoch in range(1, 6):
            saved(epoch)
        assert there() == [1, 2, 3, 4, 5] and not brought_note(ledger.at).exists()
        time.sleep(0.01)
        kept.keep(now=True)
        saved(6)
        assert there() == [4, 5, 6]  # 4 was needed until now
        os.utime(brought_note(ledger.at), ns=(0, 0))  # as if a copy of long ago were the last one there
        saved(7)
        assert there() == [4, 5, 6, 7]


def test_host_names_are_those_of_the_machine(tmp_path):
    """What tests play with is what is written."""
    settle(tmp_path / "my", Locations(str(tmp_path / "there")))
    run(tmp_path / "my")
    assert json.loads(sign(tmp_path / "my").read_text())["host"] == socket.gethostname()
