"""Where the parts of a study are, and what the storage keeps for the day when a machine is lost; with folders."""

import json
import shutil
import socket

import pytest

from losstune.search import backup
from losstune.search.backup import Backup, fetch
from losstune.search.ledger import read, write
from losstune.search.ledger.database import Ledger, Superseded
from losstune.search.locations import Locations, files_of, ledger_at, ledger_path, locations_of, settle
from losstune.spaces import InputError
from losstune.trainables.disk import DiskError
from losstune.trainables.storage import place_of


@pytest.fixture
def folder(tmp_path):
    """A study's, with its files in another."""
    settle(tmp_path / "here" / "my", Locations(str(tmp_path / "there")))
    return tmp_path / "here" / "my"


@pytest.fixture
def ledger(folder):
    ledger = Ledger.create_or_open(ledger_path(folder))
    yield ledger
    ledger.close()


@pytest.fixture
def clock(monkeypatch):
    """A time that only sleep moves, and what is to happen while somebody sleeps."""

    class Clock:
        now, meanwhile = 1000.0, staticmethod(lambda: None)

        def sleep(self, seconds):
            self.now += seconds
            self.meanwhile()

    clock = Clock()
    monkeypatch.setattr(backup.time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(backup.time, "sleep", clock.sleep)
    return clock


def of(folder, notes=None) -> Backup:
    return Backup(ledger_at(folder), folder, (notes if notes is not None else []).append)


def sign(folder):
    return files_of(folder) / "ledger" / "run.json"


def elsewhere(folder, lives: str = "noon") -> None:
    """What a run of another machine says."""
    sign(folder).parent.mkdir(parents=True, exist_ok=True)
    sign(folder).write_text(json.dumps({"run": "another", "host": "other", "pid": 7, "since": "ten", "lives": lives}))


# --- where the parts are ---


def test_what_was_said_once_holds_for_all_commands(folder, tmp_path):
    settle(folder, Locations())
    settle(folder, Locations(str(tmp_path / "there")))
    assert files_of(folder) == tmp_path / "there" / "my"
    for other in (Locations(str(tmp_path / "elsewhere")), Locations(None, "postgresql://me@db/x")):
        with pytest.raises(InputError, match=r"my has it in .*; allowed: the same"):
            settle(folder, other)


def test_without_a_word_all_is_in_the_folder(tmp_path):
    assert locations_of(tmp_path) == Locations() and files_of(tmp_path) == tmp_path
    settle(tmp_path, Locations())
    assert list(tmp_path.iterdir()) == []


def test_a_study_that_has_begun_does_not_move(tmp_path):
    """Its checkpoints would be looked for where they are not."""
    Ledger.create_or_open(ledger_path(tmp_path / "my")).close()
    with pytest.raises(InputError, match=f"my has it in {tmp_path / 'my'}"):
        settle(tmp_path / "my", Locations(str(tmp_path / "there")))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"storage": 1, "ledger": null}', '{"storage": null}', "\x00"])
def test_a_note_that_is_damaged_is_one_line(folder, content):
    (folder / "ledger" / "locations.json").write_text(content)
    with pytest.raises(InputError, match="not what losstune writes"):
        locations_of(folder)


@pytest.mark.parametrize("place", ["s3://bucket", "s3://bucket/a/b", "gs://bucket/a", "s3://b/a?region=eu-west-1"])
def test_places_of_stores(place):
    """Their names do not change with what is below, and options are not shown."""
    child = place_of(place) / "my" / "checkpoints/a.pt"
    assert str(child) == place.partition("?")[0] + "/my/checkpoints/a.pt" and child.name == "a.pt"
    assert place_of(place + "/") == place_of(place) or "?" in place


# --- the ledger's copy ---


def test_a_lost_machines_ledger_comes_back(folder, ledger, tmp_path):
    with ledger.transaction() as tx:
        write.add_event(tx, "run", "recorded")
    with of(folder).held() as kept:
        kept.keep(now=True)
    ledger.close()
    shutil.rmtree(folder)
    notes = []
    settle(folder, Locations(str(tmp_path / "there")))
    fetch(folder, ledger_path(folder), notes.append)
    assert len(notes) == 1
    again = Ledger.open(folder / "ledger" / "copy.db")
    with again.reading() as tx:
        assert [event["text"] for event in read.all_events(tx)] == ["recorded"]
    again.close()


def test_what_is_here_is_not_replaced_by_an_older_copy(folder, ledger):
    with of(folder).held() as kept:
        kept.keep(now=True)
    (files_of(folder) / "ledger" / "copy.db").write_bytes(b"older")
    (folder / "ledger" / "copy.db").unlink()
    fetch(folder, ledger_path(folder), print)
    assert not (folder / "ledger" / "copy.db").exists()


def test_a_run_says_that_it_lives_and_when_it_ends(folder, ledger, clock):
    with of(folder).held() as kept:
        first = sign(folder).read_text()
        clock.now += backup.SIGN_SECONDS + 1
        sign(folder).write_text(first.replace(json.loads(first)["lives"], "earlier"))
        kept.keep()
        assert sign(folder).read_text() != first.replace(json.loads(first)["lives"], "earlier")
    assert not sign(folder).exists()


def test_a_run_of_another_machine_that_lives_is_named(folder, ledger, clock):
    elsewhere(folder)
    clock.meanwhile = lambda: elsewhere(folder, f"at {clock.now}")
    with pytest.raises(InputError, match="process 7 on other, since ten, is running this study; allowed: one run"):
        with of(folder).held():
            pass
    assert json.loads(sign(folder).read_text())["run"] == "another"


def test_a_run_of_another_machine_that_is_gone_does_not_block(folder, ledger, clock):
    elsewhere(folder)
    notes = []
    with of(folder, notes).held():
        assert json.loads(sign(folder).read_text())["host"] == socket.gethostname()
    assert len(notes) == 1 and "waiting up to 60 s" in notes[0] and clock.now >= 1000 + backup.GONE_SECONDS


def test_one_that_ends_meanwhile_is_not_waited_for(folder, ledger, clock):
    elsewhere(folder)
    clock.meanwhile = lambda: sign(folder).unlink(missing_ok=True)
    with of(folder).held():
        pass
    assert clock.now < 1000 + 5


def test_a_run_that_was_taken_for_gone_ends(folder, ledger, clock):
    """Two that write would mix what they know."""
    with of(folder).held() as kept:
        elsewhere(folder)
        kept.keep()  # it has just looked
        clock.now += backup.SIGN_SECONDS
        with pytest.raises(Superseded, match="a run on other has continued this study"):
            kept.keep()
    assert json.loads(sign(folder).read_text())["run"] == "another"  # whose word it is


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff", b'{"run": 3}'])
def test_a_word_that_cannot_be_understood_is_nobodys(folder, ledger, clock, content):
    sign(folder).parent.mkdir(parents=True, exist_ok=True)
    sign(folder).write_bytes(content)
    with of(folder).held():
        pass
    assert not sign(folder).exists()


def test_an_outage_is_said_once_and_ends_no_study(folder, ledger, clock, monkeypatch):
    notes, real = [], backup.write_bytes

    def fails(*_):
        raise DiskError(None, "no answer", "there")

    with of(folder, notes).held() as kept:
        monkeypatch.setattr(backup, "write_bytes", fails)
        for _ in range(3):
            clock.now += backup.SIGN_SECONDS
            kept.keep(now=True)
        assert notes == ["the storage does not take the ledger's copy now: no answer"]
        monkeypatch.setattr(backup, "write_bytes", real)
        kept.keep(now=True)
        assert (files_of(folder) / "ledger" / "copy.db").is_file()
