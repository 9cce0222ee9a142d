"""The files beside a ledger: what processes that are gone have left, and what vanishes while somebody looks."""

import os
import subprocess
import sys
from dataclasses import asdict

import pytest

from losstune.search.ledger.files import needless, sizes
from losstune.trainables.messages import Saved

NOBODY = 4194305  # no process of Linux has a number as high


@pytest.fixture
def folder(tmp_path):
    """A study's folder, with files of each kind that is needed."""
    for name in ("ledger/ledger.db", "ledger/ledger.db-wal", "ledger/.hidden", "report/report.html", "winner.2.yaml"):
        put(tmp_path / "my" / name)
    return tmp_path / "my"


@pytest.fixture
def sleeper():
    """A living process other than this one."""
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def put(path, size: int = 10) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)


def names(folder, rows=()) -> set[str]:
    return {str(path.relative_to(folder)) for path in needless(folder, folder, rows)}


@pytest.mark.parametrize("journal", ["", "-wal", "-shm", "-journal"])
@pytest.mark.parametrize("pid", [NOBODY, os.getpid()], ids=["gone", "this"])
def test_what_a_process_that_is_gone_has_left_of_a_write_is_needless(folder, pid, journal):
    """Databases have journals while they are written; nothing but this lock's holder has this process's number."""
    left = {f"ledger/.ledger.db.{pid}{journal}", f"ledger/.copy.db.{pid}{journal}", f"report/.table.csv.{pid}{journal}"}
    for name in left:
        put(folder / name)
    assert names(folder) == left


@pytest.mark.parametrize("journal", ["", "-wal", "-shm", "-journal"])
def test_what_a_living_process_writes_is_left_alone(folder, sleeper, journal):
    """Its rename would fail, until it has ended without having done it."""
    put(folder / "ledger" / f".mlflow.json.{sleeper.pid}{journal}")
    assert names(folder) == set()
    sleeper.kill()
    sleeper.wait(60)
    assert names(folder) == {f"ledger/.mlflow.json.{sleeper.pid}{journal}"}


@pytest.mark.parametrize("name", ["ledger.db.{}", ".ledger.db.{}-old", ".ledger.db.{}x", ".{}", ".ledger.db-{}"])
def test_other_names_are_left_alone(folder, name):
    """They are somebody's own files."""
    put(folder / "ledger" / name.format(NOBODY))
    assert names(folder) == set()


@pytest.mark.parametrize("phase", ["search", "confirm"])
@pytest.mark.parametrize("state", ["running", "cut", "complete", "stopped", "failed"])
def test_checkpoints_are_needed_by_what_goes_on(folder, state, phase):
    """Those that the ledger names, of a trial that is not over; a member of a confirm that was given up is."""
    kept, other = "checkpoints/search-softmax-0000/001-00002.pt", "checkpoints/search-softmax-0000/001-00001.pt"
    for name in (kept, other):
        put(folder / name)
    rows = [{"state": state, "phase": phase, "checkpoints": [asdict(Saved(kept, "digest", 2))]}]
    goes_on = state == "running" or (state, phase) == ("cut", "search")
    assert names(folder, rows) == ({other} if goes_on else {kept, other})


def test_sizes_are_of_files_the_largest_folder_first(folder):
    """Folders and what lies beside them take no room."""
    put(folder / "report" / "tables" / "results.md", 500)
    assert list(sizes(folder).items()) == [("report", 510), ("ledger", 30)]


def test_sizes_of_what_vanishes_meanwhile(folder):
    """A dangling link is listed, and has no size: as a checkpoint that a running study has just removed."""
    before = sizes(folder)
    (folder / "report" / "gone").symlink_to(folder / "nowhere")
    assert sizes(folder) == before


def test_sizes_of_a_file_that_is_removed_while_it_is_looked_at(folder, monkeypatch):
    """It is a file when it is listed, and not there when its size is read."""
    checkpoint, looks = folder / "checkpoints" / "trial" / "001-00001.pt", []
    put(checkpoint)
    stat = os.stat

    def vanish(path, **options):
        if str(path) == str(checkpoint) and not looks:
            looks.append(path)
            checkpoint.unlink()
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", vanish)
    sizes(folder)
    assert looks and not checkpoint.exists()
