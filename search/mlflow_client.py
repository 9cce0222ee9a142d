"""A connection to an MLflow store: one of our own is made where there is none; whatever fails is one error."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event


class Unreachable(Exception):
    """The store cannot be read or written now. The message is one line and holds no password."""


def connect(uri: str, artifacts: Path | None) -> Any:
    """A client whose store exists and answers."""
    # MLflow's own patience is minutes long; here the next pass is the next try.
    for name, value in {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
                        "MLFLOW_DISABLE_TELEMETRY": "true"}.items():  # fmt: skip
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if artifacts is None:
        return MlflowClient(uri)
    file = Path(uri.removeprefix("sqlite:///"))
    file.parent.mkdir(parents=True, exist_ok=True)
    _OWN.add(file)
    event.listen(Engine, "connect", _write_ahead)
    # Two studies that begin at once must not both create the tables.
    with open(file.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            # Made whole under another name: MLflow cannot go on with tables of which a part is there.
            new = file.with_name(f".{file.name}.new")
            for left in file.parent.glob(f"{new.name}*"):  # with its journal
                left.unlink()
            MlflowClient(f"sqlite:///{new}").search_experiments(max_results=1)
            for left in file.parent.glob(f"{file.name}-*"):  # the journal of one that was removed is not this one's
                left.unlink()
            os.replace(new, file)
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
    return client


def inode(path: Path) -> int | None:
    return path.stat().st_ino if path.exists() else None


_OWN: set[Path] = set()  # the stores that losstune made, and that hold nothing but projections


def _write_ahead(connection: Any, _: Any) -> None:
    """Have connections to a store of our own wait for the disk at checkpoints only.

    MLflow commits seven times per run; on a busy disk the waiting took 25 s of a study's 281 runs. What a power cut
    takes from a projection is found missing and written again.
    """
    if not isinstance(connection, sqlite3.Connection):
        return
    file = connection.execute("PRAGMA database_list").fetchone()[2]
    if file and Path(file) in _OWN:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")


@contextlib.contextmanager
def translated(uri: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # from the client as from below it: MLflow's, requests', SQLAlchemy's, the system's
        text = " ".join(str(error).split()) or type(error).__name__
        raise Unreachable(f"MLflow at {without_password(uri)}: {without_password(text)[:300]}") from error


def without_password(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//", text)
