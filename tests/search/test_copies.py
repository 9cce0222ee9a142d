"""The copy of a ledger that a run keeps, and what the doctor does with it."""

import sqlite3
from pathlib import Path

import pytest
from test_ledger import trial

from losstune.search.doctor import examine
from losstune.search.ledger import read, write
from losstune.search.ledger.copies import COPY_SECONDS, Copies, copy, copy_of, mend, unsound, wrong_with
from losstune.search.ledger.database import Ledger, set_meta
from losstune.search.standing import ledger_path


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "runs" / "my"


def recorded(folder: Path, *numbers: int) -> Ledger:
    ledger = Ledger.create_or_open(ledger_path(folder))
    with ledger.transaction() as tx:
        for number in numbers:
            write.add_trial(tx, **trial(number))
        set_meta(tx, "study", {"name": "my"})
    return ledger


def asked(folder: Path) -> list[int]:
    ledger = Ledger.open(ledger_path(folder))
    with ledger.reading() as tx:
        numbers = [row["number"] for row in read.all_trials(tx)]
    ledger.close()
    return numbers


def damage(path: Path) -> None:
    """What a bad disk does to a page in the middle."""
    content = bytearray(path.read_bytes())
    for place in range(4096, len(content), 7):
        content[place] ^= 0xA5
    path.write_bytes(content)


def test_a_copy_holds_what_was_committed_while_others_write(folder):
    ledger = recorded(folder, 0, 1)
    with ledger.transaction() as tx:
        write.add_trial(tx, **trial(2))
        copy(ledger.path, copy_of(ledger.path))
    ledger.close()
    with sqlite3.connect(copy_of(ledger.path)) as connection:
        assert connection.execute("SELECT count(*) FROM trials").fetchone() == (2,)
    assert unsound(copy_of(ledger.path)) is None


def test_a_run_copies_now_and_then(folder, monkeypatch):
    """Neither at every look, nor never."""
    ledger = recorded(folder, 0)
    copies, clock = Copies(ledger.path), [0.0]
    monkeypatch.setattr("losstune.search.ledger.copies.time.monotonic", lambda: copies._due - COPY_SECONDS + clock[0])
    copies.keep()
    assert not copy_of(ledger.path).exists()
    clock[0] = COPY_SECONDS
    copies.keep()
    assert copy_of(ledger.path).exists()
    ledger.close()


def test_a_damaged_ledger_does_not_replace_a_sound_copy(folder):
    ledger = recorded(folder, *range(200))
    Copies(ledger.path).keep_now()
    ledger.close()
    before = copy_of(ledger.path).read_bytes()
    damage(ledger.path)
    Copies(ledger.path).keep_now()
    assert copy_of(ledger.path).read_bytes() == before
    assert sorted(path.name for path in ledger.path.parent.iterdir() if path.name.startswith(".")) == []


def test_the_doctor_puts_the_copy_in_a_damaged_ledgers_place(folder, losstune, monkeypatch):
    """The damaged one is kept: somebody may know better."""
    monkeypatch.setattr("losstune.search.doctor._mlflow", lambda _: ())
    ledger = recorded(folder, *range(200))
    Copies(ledger.path).keep_now()
    with ledger.transaction() as tx:
        write.add_trial(tx, **trial(200))
    ledger.close()
    damage(ledger.path)
    said = losstune("doctor", "my", "--out", folder.parent)
    assert said.status == 0 and "the ledger is damaged" in said.out and "is trained again" in said.out, said
    assert asked(folder) == list(range(200))
    assert len(list(ledger.path.parent.glob("damaged-*-ledger.db"))) == 1
    assert losstune("doctor", "my", "--out", folder.parent).out == "nothing is wrong\n"


def test_without_a_sound_copy_nothing_is_touched(folder):
    ledger = recorded(folder, *range(200))
    ledger.close()
    damage(ledger.path)
    before = ledger.path.read_bytes()
    (finding,) = examine(folder)
    assert finding.repaired is None and "damaged" in finding.what
    assert ledger.path.read_bytes() == before


@pytest.mark.parametrize("left", [None, b""])
def test_a_ledger_that_is_gone_or_empty_comes_back_from_its_copy(folder, left):
    """Neither is taken for a study that has not begun."""
    ledger = recorded(folder, *range(5))
    Copies(ledger.path).keep_now()
    ledger.close()
    for path in ledger.path.parent.glob("ledger.db*"):
        path.unlink()
    if left is not None:
        ledger.path.write_bytes(left)
    assert wrong_with(ledger.path)
    assert "the copy of" in mend(ledger.path) and asked(folder) == list(range(5))
