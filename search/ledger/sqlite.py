"""The ledger as an SQLite file in the study's folder: in write-ahead mode, every commit on the disk."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event

from losstune.search.ledger import schema
from losstune.search.ledger.values import loads
from losstune.spaces import InputError

SMALLEST = 512  # bytes of a database


def check_file(path: Path) -> None:
    """InputError where there is no file that could be a ledger."""
    if not path.is_file():
        raise InputError(f"{path}: no ledger there; allowed: the folder of a study that has been run")
    if path.stat().st_size < SMALLEST:  # SQLite takes it for a new database, and would write into it
        raise InputError(f"{path}: not a readable ledger (it is {path.stat().st_size} bytes)")


def make_file(path: Path) -> None:
    """A ledger without trials at a path, if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: not a file; allowed: a ledger, or nothing of that name")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{path}: not a readable ledger to go on with (its folder is read-only); "
                         "allowed: an --out that can be written")  # fmt: skip
    if path.is_file():
        return
    # Made whole under another name: a run that dies in between leaves no ledger without tables.
    new = path.with_name(f".{path.name}.{os.getpid()}")
    engine = engine_of(new)
    schema.metadata.create_all(engine)
    engine.dispose()
    for left in ("-wal", "-shm"):  # the journal of one that was removed is not this one's
        path.with_name(path.name + left).unlink(missing_ok=True)
    os.replace(new, path)


def _url(path: Path, fixed: bool) -> str:
    """Where a ledger is. fixed: nothing can be written there, not even the index that SQLite makes of a journal."""
    if not fixed:
        return f"sqlite:///{path}"
    journal = path.with_name(f"{path.name}-wal").exists()
    return f"sqlite:///file:{quote(str(path))}?mode=ro&uri=true{'' if journal else '&immutable=1'}"


def engine_of(path: Path) -> Engine:
    fixed = not os.access(path.parent, os.W_OK)
    engine = create_engine(_url(path, fixed), connect_args={"timeout": 60}, json_deserializer=loads)

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # sqlite3 would otherwise begin and commit on its own
        if fixed:
            return
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        # Few commits are in the journal alone: what a bad disk does to it costs no more than those.
        connection.execute("PRAGMA wal_autocheckpoint=1")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # Taking the write lock at once: a transaction that starts by reading could not be upgraded beside another.
        writes = connection.get_execution_options().get("purpose") != "read"
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine
