"""Opening the ledger, and its transactions: each checks that this run is still the one that may write."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, bindparam, create_engine, event, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DatabaseError

from losstune.search.ledger import schema
from losstune.search.ledger.lock import RunLock
from losstune.spaces import InputError, StudyStopped
from losstune.trainables.disk import disk_trouble

SMALLEST = 512  # bytes of a database


class Superseded(StudyStopped):
    """Another run has taken this ledger over; nothing that this one still sends may be written."""


class Ledger:
    """The durable record of one study: an SQLite file in write-ahead mode, every commit on the disk."""

    def __init__(self, path: Path, generation: int | None = None):
        self.path, self.generation = path, generation
        self.engine = _engine(path)

    @classmethod
    def create_or_open(cls, path: Path) -> Ledger:
        """The ledger at a path, made if there is none, with this run as its one writer from now on.

        For who holds the study's lock.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: not a file; allowed: a ledger, or nothing of that name")
        if not os.access(path.parent, os.W_OK):
            raise InputError(f"{path}: not a readable ledger to go on with (its folder is read-only); "
                             "allowed: an --out that can be written")  # fmt: skip
        if not path.is_file():
            # Made whole under another name: a run that dies in between leaves no ledger without tables.
            new = cls(path.with_name(f".{path.name}.{os.getpid()}"))
            schema.metadata.create_all(new.engine)
            new.close()
            for left in ("-wal", "-shm"):  # the journal of one that was removed is not this one's
                path.with_name(path.name + left).unlink(missing_ok=True)
            os.replace(new.path, path)
        ledger = cls(path)
        if ledger._is_older():
            ledger._upgrade()
        with ledger.engine.begin() as tx:
            ledger.generation = (get_meta(tx, "generation") or 0) + 1
            set_meta(tx, "generation", ledger.generation)
            set_meta(tx, "schema", schema.VERSION)
        return ledger

    @classmethod
    def open(cls, path: Path) -> Ledger:
        """The ledger at a path, to read; InputError when there is none or it is damaged or from a newer losstune."""
        if not path.is_file():
            raise InputError(f"{path}: no ledger there; allowed: the folder of a study that has been run")
        ledger = cls(path)
        try:
            if ledger._is_older():
                lock = RunLock(path.parent)  # an older losstune that runs the study would miss its columns
                try:
                    ledger._upgrade()
                finally:
                    lock.release()
        except BaseException:
            ledger.close()
            raise
        return ledger

    def _is_older(self) -> bool:
        """Whether it lacks what a newer losstune expects; InputError when it is of a newer one, or damaged."""
        if self.path.stat().st_size < SMALLEST:  # SQLite takes it for a new database, and would write into it
            raise InputError(f"{self.path}: not a readable ledger (it is {self.path.stat().st_size} bytes)")
        try:
            with self.reading() as tx:
                version = get_meta(tx, "schema")
        except (DatabaseError, ValueError) as error:  # InputError, of what is no JSON, among them
            raise InputError(f"{self.path}: not a readable ledger ({_said_of(error)})") from None
        if version is not None and (not isinstance(version, int) or version < 1):
            raise InputError(f"{self.path}: not a readable ledger (schema {version!r})")
        if version is not None and version > schema.VERSION:
            raise InputError(f"{self.path}: written by a newer losstune (schema {version}); "
                             f"allowed: up to {schema.VERSION}")  # fmt: skip
        return version is not None and version < schema.VERSION

    def _upgrade(self) -> None:
        """Give a ledger of an older losstune what it lacks."""
        with self.engine.begin() as tx:
            for version in range(get_meta(tx, "schema") + 1, schema.VERSION + 1):  # another may just have done it
                for statement in schema.UPGRADES[version]:
                    tx.exec_driver_sql(statement)
            set_meta(tx, "schema", schema.VERSION)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A write transaction, committed at the end; Superseded when a later run holds the ledger."""
        with self.engine.begin() as tx:
            if get_meta(tx, "generation") != self.generation:
                raise Superseded(f"{self.path}: another run has continued this study")
            yield tx

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A consistent view for reading, while others may write."""
        with self.engine.connect().execution_options(purpose="read") as connection:
            yield connection

    def close(self) -> None:
        self.engine.dispose()


# Made once: every transaction begins with it, and SQLAlchemy takes longer to make it than SQLite to answer.
_META = select(schema.meta.c.value).where(schema.meta.c.key == bindparam("of"))


def get_meta(tx: Connection, key: str) -> Any:
    return tx.execute(_META, {"of": key}).scalar_one_or_none()


def set_meta(tx: Connection, key: str, value: Any) -> None:
    statement = insert(schema.meta).values(key=key, value=value)
    tx.execute(statement.on_conflict_do_update(index_elements=["key"], set_={"value": value}))


@contextmanager
def understood(path: Path) -> Iterator[None]:
    """Around what reads a ledger: what a bad disk has made of it is said in one line, whatever it is that goes wrong.

    Within pages SQLite has no checksums, so that altered bytes come out as altered values.
    """
    try:
        yield
    except InputError:
        raise
    except DatabaseError as error:
        if "disk" in _said_of(error):
            raise  # the ledger itself may be sound
        raise InputError(f"{path}: not a readable ledger ({_said_of(error)})") from None
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise InputError(f"{path}: damaged, or not what losstune writes ({_said_of(error)}); allowed: a sound ledger, "
                         "such as a copy of it") from error  # fmt: skip


def _said_of(error: Exception) -> str:
    """What an error says, in a line."""
    if isinstance(error, DatabaseError):
        return disk_trouble(error) or str(error.orig)
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _loads(text: str) -> Any:
    """A value of a JSON column; TypeError where SQLite has stored a number, which SQLAlchemy expects."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the ledger is damaged: a value in it is no JSON ({error})") from None


def _url(path: Path, fixed: bool) -> str:
    """Where a ledger is. fixed: nothing can be written there, not even the index that SQLite makes of a journal."""
    if not fixed:
        return f"sqlite:///{path}"
    journal = path.with_name(f"{path.name}-wal").exists()
    return f"sqlite:///file:{quote(str(path))}?mode=ro&uri=true{'' if journal else '&immutable=1'}"


def _engine(path: Path) -> Engine:
    fixed = not os.access(path.parent, os.W_OK)
    engine = create_engine(_url(path, fixed), connect_args={"timeout": 60}, json_deserializer=_loads)

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
