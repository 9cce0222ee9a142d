"""The copy of a ledger that a run keeps, and what the doctor does with it."""

import os
import shutil
import sqlite3
from itertools import count
from pathlib import Path

import pytest
from test_ledger import leave_journal, trial

from losstune.search.doctor import examine
from losstune.search.ledger import read, write
from losstune.search.ledger.copies import COPY_SECONDS, Copies, copy, copy_of, mend, unsound, wrong_with
from losstune.search.ledger.database import Ledger, set_meta
from losstune.search.locations import ledger_path


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
        copy(ledger.at, copy_of(ledger.at))
    ledger.close()
    with sqlite3.connect(copy_of(ledger.at)) as connection:
        assert connection.execute("SELECT count(*) FROM trials").fetchone() == (2,)
    assert unsound(copy_of(ledger.at)) is None


def test_a_run_copies_now_and_then(folder, monkeypatch):
    """Neither at every look, nor never."""
    ledger = recorded(folder, 0)
    copies, clock = Copies(ledger.at), [0.0]
    monkeypatch.setattr("losstune.search.ledger.copies.time.monotonic", lambda: copies._due - COPY_SECONDS + clock[0])
    copies.keep()
    assert not copy_of(ledger.at).exists()
    clock[0] = COPY_SECONDS
    copies.keep()
    assert copy_of(ledger.at).exists()
    ledger.close()


def test_a_damaged_ledger_does_not_replace_a_sound_copy(folder):
    ledger = recorded(folder, *range(200))
    Copies(ledger.at).keep_now()
    ledger.close()
    before = copy_of(ledger.at).read_bytes()
    damage(ledger.at)
    Copies(ledger.at).keep_now()
    assert copy_of(ledger.at).read_bytes() == before
    assert sorted(path.name for path in ledger.at.parent.iterdir() if path.name.startswith(".")) == []


def test_the_doctor_puts_the_copy_in_a_damaged_ledgers_place(folder, losstune, monkeypatch):
    """The damaged one is kept: somebody may know better."""
    monkeypatch.setattr("losstune.search.doctor._mlflow", lambda _: ())
    ledger = recorded(folder, *range(200))
    Copies(ledger.at).keep_now()
    with ledger.transaction() as tx:
        write.add_trial(tx, **trial(200))
    ledger.close()
    damage(ledger.at)
    said = losstune("doctor", "my", "--out", folder.parent)
    assert said.status == 0 and "the ledger is damaged" in said.out and "is trained again" in said.out, said
    assert asked(folder) == list(range(200))
    assert len(list(ledger.at.parent.glob("damaged-*-ledger.db"))) == 1
    assert losstune("doctor", "my", "--out", folder.parent).out == "nothing is wrong\n"


def test_without_a_sound_copy_nothing_is_touched(folder):
    ledger = recorded(folder, *range(200))
    ledger.close()
    damage(ledger.at)
    before = ledger.at.read_bytes()
    (finding,) = examine(folder)
    assert finding.repaired is None and "damaged" in finding.what
    assert ledger.at.read_bytes() == before


@pytest.mark.parametrize("left", [None, b""])
def test_a_ledger_that_is_gone_or_empty_comes_back_from_its_copy(folder, left):
    """Neither is taken for a study that has not begun."""
    ledger = recorded(folder, *range(5))
    Copies(ledger.at).keep_now()
    ledger.close()
    for path in ledger.at.parent.glob("ledger.db*"):
        path.unlink()
    if left is not None:
        ledger.at.write_bytes(left)
    assert wrong_with(ledger.at)
    assert "the copy of" in mend(ledger.at) and asked(folder) == list(range(5))


class Killed(BaseException):
    """Nothing catches it, as nothing catches kill -9."""


def mend_and_die(ledger: Path, call: int, done: bool) -> str | None:
    """Mend a ledger and be killed in a call that alters a file, after it or half-way; what was done, if it was."""
    calls = count(1)

    def mortal(real, half):
        def die_in(source, target):
            number = next(calls)
            if number < call:
                real(source, target)
            elif number == call:
                real(source, target) if done else half(source, target)
                patch.setattr(Path, "unlink", lambda *_, **__: None)  # who is killed clears nothing away
                raise Killed

        return die_in

    def half_a_file(source, target):
        content = Path(source).read_bytes()
        Path(target).write_bytes(content[: len(content) // 2])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", mortal(os.replace, lambda *_: None))
        patch.setattr(shutil, "copyfile", mortal(shutil.copyfile, half_a_file))
        return mend(ledger)


def journal_of_another(folder: Path) -> list[int]:
    """Its own file is sound, but not with what lies beside it. What the ledger should hold in the end."""
    ledger = recorded(folder, *range(20))
    Copies(ledger.at).keep_now()
    with ledger.transaction() as tx:
        write.add_trial(tx, **trial(20))
    ledger.close()
    leave_journal(ledger.at)
    return list(range(21))


def bad_disk(folder: Path) -> list[int]:
    """Its own file is damaged, and there is a journal."""
    expected = journal_of_another(folder)[:-1]
    damage(ledger_path(folder))
    return expected


def only_the_copy(folder: Path) -> list[int]:
    """Its own file is gone, and the journal is not."""
    expected = journal_of_another(folder)[:-1]
    ledger_path(folder).unlink()
    return expected


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("broken", [journal_of_another, bad_disk, only_the_copy])
def test_killed_at_any_moment_of_the_mending_the_next_one_ends_it(folder, broken, done):
    """The ledger's own file never leaves its place: a run would take the study for a new one."""
    for call in count(1):
        place = folder / str(call)
        expected, path = broken(place), ledger_path(place)
        before = path.read_bytes() if path.exists() else None
        assert wrong_with(path) and (before is None or path.read_bytes() == before)  # who looks alters nothing
        try:
            assert "is trained again" in mend_and_die(path, call, done)
            break
        except Killed:
            # The old one whole, or what has replaced it.
            there = path.read_bytes() if path.exists() else None
            assert there == before or unsound(path) is None
            assert "is trained again" in mend(path)
        assert wrong_with(path) is None and asked(place) == expected
    assert wrong_with(path) is None and asked(place) == expected
    assert call > 3  # it was killed in each of the calls


@pytest.mark.parametrize("broken", [journal_of_another, bad_disk])
def test_what_is_set_aside_is_whole(folder, broken):
    """Somebody may know better than the mending what can be read of it."""
    broken(folder)
    path = ledger_path(folder)
    parts = [path, *(path.with_name(f"ledger.db{suffix}") for suffix in ("-wal", "-shm"))]
    before = [part.read_bytes() for part in parts]
    assert mend(path)
    kept = [sorted(path.parent.glob(f"damaged-*-{number}-{part.name}")) for number, part in enumerate(parts)]
    assert [len(found) for found in kept] == [1, 1, 1]
    assert [found.read_bytes() for (found,) in kept] == before
    assert sorted(file.name for file in path.parent.iterdir() if not file.name.startswith("damaged-")) == [
        "copy.db", "ledger.db"]  # fmt: skip
