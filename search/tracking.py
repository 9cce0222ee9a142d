"""The projection of a study's ledger into MLflow, in a process of its own: MLflow may be down, slow or wiped.

`python -m losstune.search.tracking FOLDER` projects until its standard input ends, which it does when the study's
process dies; the line "now" on it asks for a pass without delay, "finish" for a last one.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from losstune.search.locations import is_recorded, ledger_at
from losstune.spaces import InputError

PAUSE, LONGEST_PAUSE = 2.0, 30.0  # seconds between passes, and between tries to reach a store that is down
SHARE = 4  # a pass that takes t seconds is followed by SHARE * t of rest: long studies stay cheap to follow


class Projection:
    """Projects a study while it runs. Nothing that happens to it reaches the study.

    patience: the most seconds that `finish` waits; the end of an interrupted study waits at most 5 s. caught_up:
    whether MLflow is known to have all.
    """

    def __init__(self, folder: Path, study_name: str, patience: float = 60.0):
        self.folder, self.study_name, self.patience = folder, study_name, patience
        self._process: subprocess.Popen | None = None
        self._asked, self.caught_up = False, False

    def __enter__(self) -> Projection:
        _state_path(self.folder).unlink(missing_ok=True)
        # Without -P a file in the current folder, a user's own types.py for example, would stand in for a module.
        command = [sys.executable, "-P", "-m", "losstune.search.tracking", str(self.folder)]
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                             stderr=subprocess.DEVNULL)  # fmt: skip
        return self

    def finish(self) -> None:
        """Have all that the ledger and the report hold projected, and wait for it."""
        self._end(self.patience)

    @property
    def behind(self) -> str | None:
        """What MLflow lacks, in a line that says what to do about it; None when all is there or being written."""
        if self.caught_up:
            return None
        found = problem(self.folder)
        if found is None and self._asked:
            found = "MLflow does not have all of this study yet"
        return found and f"{found}; `losstune sync {self.study_name}` catches up"

    def hurry(self) -> None:
        """Have the next pass begin now: the lanes are done, and the report will take a while."""
        self._say(b"now\n")

    def _say(self, line: bytes) -> None:
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.write(line)
                self._process.stdin.flush()

    def _end(self, seconds: float) -> None:
        if self._process is None or self._asked:
            return
        self._asked = True
        self._say(b"finish\n")
        try:
            self.caught_up = self._process.wait(seconds) == 0
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if not self.caught_up and problem(self.folder) is None:
            with contextlib.suppress(OSError):  # it is a note, no more
                _write_state(self.folder, "the last pass did not come to its end", None, None)

    def __exit__(self, *_: Any) -> None:
        self._end(min(self.patience, 5.0))
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()


@dataclass(frozen=True)
class SyncResult:
    """What `sync` did. Counts are of runs. where: the store and the experiment."""

    created: int
    updated: int
    unchanged: int
    where: str


def sync(folder: Path) -> SyncResult:
    """Make MLflow show what the ledger of a study holds, or those of the studies that it is made of; InputError when
    there is no ledger or no MLflow.
    """
    from losstune.search.composed import folders_in
    from losstune.search.repeated import is_repeated

    parts = folders_in(folder)
    done = [_sync(place) for place in ((*parts, folder) if is_repeated(folder) or not parts else parts)]
    counts = (sum(getattr(one, name) for one in done) for name in ("created", "updated", "unchanged"))
    return SyncResult(*counts, done[-1].where)


def _sync(folder: Path) -> SyncResult:
    from losstune.search.mlflow_client import Unreachable, without_password

    wanted, store = _picture(folder), _store(folder)
    with _alone(folder, wait=False) as alone:
        if not alone:
            raise InputError(f"{folder}: this study is running and projects itself; allowed: sync when it has ended")
        try:
            counts = store.project(wanted)
        except Unreachable as error:
            with contextlib.suppress(OSError):  # it is a note, no more
                _write_state(folder, str(error), len(wanted.runs), None)
            raise InputError(f"{error}; allowed: MLFLOW_TRACKING_URI of a store that answers") from None
    with contextlib.suppress(OSError):
        _write_state(folder, None, 0, store.experiment)
    where = f"{without_password(store.uri)}, experiment {wanted.study}"
    return SyncResult(counts.created, counts.updated, counts.unchanged, where)


def _picture(folder: Path) -> Any:
    """What MLflow should show of the study in a folder, which may repeat its search."""
    from losstune.search.tracked_runs import picture

    if is_recorded(ledger_at(folder)):
        return picture(folder)
    # What it imports takes a second, and a study of one search needs none of it.
    from losstune.search.repeated import is_repeated
    from losstune.search.tracked_searches import picture_of_searches

    return picture_of_searches(folder) if is_repeated(folder) else picture(folder)


def tracking_uri(folder: Path) -> str:
    """Where a study is projected to: the environment's MLFLOW_TRACKING_URI, else mlflow.db beside its folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.resolve().parent / 'mlflow.db'}"


def problem(folder: Path) -> str | None:
    """That MLflow is down, since when, and how many runs it lacks; None when all is well or nothing is known."""
    state = read_state(folder)
    if state.get("reachable", True):
        return None
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(state["since"]))
    behind = "behind" if state.get("behind") is None else f"{state['behind']} runs behind"
    return f"MLflow cannot be written since {since}, {behind}: {state.get('error')}"


def _state_path(folder: Path) -> Path:
    return folder / "ledger" / "mlflow.json"


def read_state(folder: Path) -> dict[str, Any]:
    """What was noted last; nothing where that cannot be read: it says how things are going, no more."""
    try:
        state = json.loads(_state_path(folder).read_text(encoding="utf-8"))
        time.localtime(state["since"])
        return {**state}
    except (OSError, ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return {}


def _write_state(folder: Path, error: str | None, behind: int | None, experiment: str | None) -> None:
    """Note how the projection is doing, and since when in seconds since 1970.

    behind: how many runs MLflow lacks; None: some. experiment: its number in MLflow.
    """
    path, before = _state_path(folder), read_state(folder)
    same = before.get("reachable") == (error is None)
    state = {"reachable": error is None, "error": error, "since": before["since"] if same else time.time(),
             "behind": behind, "experiment": experiment or before.get("experiment")}  # fmt: skip
    if state == before:
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(state), encoding="utf-8")
    os.replace(temporary, path)


def artifacts_of(folder: Path) -> Path:
    return folder.resolve().parent / "mlartifacts"


def _store(folder: Path) -> Any:
    from losstune.search.mlflow_store import Store

    own = "MLFLOW_TRACKING_URI" not in os.environ or not os.environ["MLFLOW_TRACKING_URI"]
    return Store(tracking_uri(folder), artifacts_of(folder) if own else None)


@contextlib.contextmanager
def _alone(folder: Path, wait: bool) -> Iterator[bool]:
    """Hold the study's projection, so that no two processes create the same run; False when another holds it."""
    path = folder / "ledger" / "mlflow.lock"
    path.parent.mkdir(parents=True, exist_ok=True)  # of a study that repeats its search nothing else need be there
    if path.is_dir():
        raise InputError(f"{path}: is a folder; allowed: a file, or nothing of that name")
    with open(path, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def _follow(parent: int, asked: threading.Event, woken: threading.Event) -> None:
    """Set asked when the study's process asks for the last pass, and woken for any; end this process when that one has
    died."""
    while os.getppid() == parent:
        ready, _, _ = select.select([0], [], [], 1.0)
        said = os.read(0, 64) if ready else b"nothing"
        if not said:
            break
        if b"finish" in said:
            asked.set()
        if ready:
            woken.set()
    os._exit(1)


def _project_on(folder: Path, asked: threading.Event, woken: threading.Event) -> bool:
    """Pass after pass until asked for the last one; whether that one left nothing behind."""
    store, pause = _store(folder), PAUSE
    while True:
        last, began = asked.is_set(), time.monotonic()
        if store.wiped():
            # MLflow keeps its connections for the life of a process, so this one begins again.
            arguments = [sys.executable, "-P", "-m", "losstune.search.tracking", str(folder)]
            os.execv(sys.executable, [*arguments, "finish"] if last else arguments)
        if last:
            store.forget()
        done = _pass(folder, store)
        if last:
            return done or _pass(folder, store)
        took = time.monotonic() - began
        pause = max(PAUSE, SHARE * took) if done else min(LONGEST_PAUSE, 2 * pause)
        woken.wait(pause)
        woken.clear()


def _pass(folder: Path, store: Any) -> bool:
    error, behind, experiment = None, 0, None
    try:
        wanted = _picture(folder)
        behind = len(wanted.runs)
        try:
            store.project(wanted)
        finally:
            behind, experiment = store.behind(wanted), store.experiment
    except Exception as problem_:  # whatever it is, the study goes on and `status` shows it
        error = " ".join(str(problem_).split()) or type(problem_).__name__
        store.forget()
    with contextlib.suppress(OSError):
        _write_state(folder, error, behind, experiment)
    return error is None


def main(folder: Path, last: bool) -> int:
    """Follow a study until its process ends; the exit status is 0 when MLflow has all of it. last: one pass only."""
    # Ctrl-C reaches every process of the terminal; what it means is the study's process's to decide.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(19 - os.nice(0))  # below the lanes, which Ray starts at 15
    asked, woken = threading.Event(), threading.Event()
    if last:
        asked.set()
    threading.Thread(target=_follow, args=(os.getppid(), asked, woken), daemon=True).start()
    with _alone(folder, wait=True):
        return 0 if _project_on(folder, asked, woken) else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), last=sys.argv[2:] == ["finish"]))
