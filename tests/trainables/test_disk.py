"""What ails a disk is told from what is wrong with a trial: by the system's own errors, from really full disks."""

import contextlib
import errno
import os
import sqlite3
import subprocess
from pathlib import Path

import pytest

from losstune.search.ledger import write
from losstune.search.ledger.database import Ledger
from losstune.spaces import InputError
from losstune.trainables import checkpoint
from losstune.trainables.disk import disk_trouble


def trouble_of(action) -> str | None:
    """What is said of the error that an action raises."""
    with pytest.raises(Exception) as raised:
        action()
    return disk_trouble(raised.value)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 256 KiB, where this process may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no right to mount a disk here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> None:
    with contextlib.suppress(OSError), open(place / "filler", "wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass


def test_a_full_device():
    """The system's own word for it."""

    def write_there():
        with open("/dev/full", "wb", buffering=0) as file:
            file.write(b"x")

    assert trouble_of(write_there) == "the disk is full"


@pytest.mark.parametrize("where", ["file/a.pt", "folder"])
def test_whatever_keeps_a_checkpoint_from_being_written_ails_the_disk(tmp_path, where):
    """Rights, a file for a folder, a network disk that is gone: no trial is to blame; of other errors one may be."""
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    said = trouble_of(lambda: checkpoint.write_bytes(tmp_path / where, b"x"))
    assert said.startswith("a file cannot be read or written: ") and str(tmp_path) in said
    assert trouble_of(lambda: (tmp_path / "folder").read_bytes()) is None


def test_a_checkpoint_on_a_full_disk(small_disk):
    """The file is named, and no part of it takes the last room."""
    path = small_disk / "checkpoints" / "a.pt"
    said = trouble_of(lambda: checkpoint.write_bytes(path, os.urandom(1 << 20)))
    assert said.startswith("the disk is full")
    assert [file for file in small_disk.rglob("*") if file.is_file()] == []


def test_a_file_that_was_there_survives_a_full_disk(small_disk):
    """A write that fails leaves what was under the name."""
    path = small_disk / "a.pt"
    checkpoint.write_bytes(path, b"the old one")
    trouble_of(lambda: checkpoint.write_bytes(path, os.urandom(1 << 20)))
    assert path.read_bytes() == b"the old one"


def test_a_ledger_on_a_full_disk(small_disk):
    """SQLite's error, through SQLAlchemy; and what was committed is there when there is room again."""
    ledger = Ledger.create_or_open(small_disk / "ledger.db")
    with ledger.transaction() as tx:
        write.add_event(tx, "run", "before")
    fill(small_disk)

    def commit_much():
        with ledger.transaction() as tx:
            write.add_event(tx, "run", "x" * (1 << 20))

    assert trouble_of(commit_much) == "the disk is full"
    (small_disk / "filler").unlink()
    with ledger.transaction() as tx:
        write.add_event(tx, "run", "after")
    ledger.close()
    with sqlite3.connect(small_disk / "ledger.db") as connection:
        assert connection.execute("SELECT text FROM events").fetchall() == [("before",), ("after",)]


def test_a_read_only_disk(small_disk):
    """Files and ledgers alike."""
    Ledger.create_or_open(small_disk / "ledger.db").close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert trouble_of(lambda: checkpoint.write_bytes(small_disk / "a.pt", b"x")).startswith("the disk is read-only")
    with pytest.raises(InputError, match="ledger.db: not a readable ledger .*(cannot be opened|read-only)"):
        Ledger.create_or_open(small_disk / "ledger.db")


def test_a_damaged_ledger(tmp_path):
    """What is no database says so."""
    (tmp_path / "ledger.db").write_bytes(b"no database " * 100)
    connection = sqlite3.connect(tmp_path / "ledger.db")
    assert trouble_of(lambda: connection.execute("SELECT * FROM meta")) == "the ledger is damaged"
    connection.close()


def test_a_ledger_that_cannot_be_opened(tmp_path):
    """Its folder is gone."""
    said = trouble_of(lambda: sqlite3.connect(tmp_path / "gone" / "ledger.db").execute("SELECT 1"))
    assert said == "the ledger's file cannot be opened"


@pytest.mark.parametrize("code", [errno.EROFS, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ENOSPC])
def test_the_systems_errors_of_a_disk(code):
    """Each in plain words, with the file where it is known."""
    bare = disk_trouble(OSError(code, os.strerror(code)))
    assert bare and disk_trouble(OSError(code, os.strerror(code), "/some/file")) == f"{bare} (/some/file)"


@pytest.mark.parametrize(
    "error",
    [ValueError("disk is full"), FileNotFoundError(errno.ENOENT, "none", "x"), RuntimeError(), OSError("no number"),
     sqlite3.IntegrityError("UNIQUE"), sqlite3.OperationalError("no such table")],
)  # fmt: skip
def test_what_is_not_the_disks_fault(error):
    """A trial's own errors stay its own."""
    assert disk_trouble(error) is None


def test_a_disk_that_was_full_is_only_the_cause_of_what_was_raised():
    """What another error hides is not looked for: whoever caught it has dealt with it."""
    try:
        try:
            raise OSError(errno.ENOSPC, "full")
        except OSError as full:
            raise KeyError("weights") from full
    except KeyError as error:
        assert disk_trouble(error) is None
