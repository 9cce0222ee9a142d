"""Opening the ledger, and its transactions: each checks that this run is still the one that may write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DatabaseError

from losstune.search.ledger import schema
from losstune.search.ledger.lock import RunLock
from losstune.search.ledger.postgresql import Server
from losstune.search.ledger.sqlite import check_file, engine_of, make_file
from losstune.spaces import InputError, StudyStopped
from losstune.trainables.disk import disk_trouble


class Superseded(StudyStopped):
    """Another run has taken this ledger over; nothing that this one still sends may be written."""


class Ledger:
    """The durable record of one study: an SQLite file, or a schema of a PostgreSQL server.

    at: which. generation: that of the run that may write; None: for reading.
    """

    def __init__(self, at: Path | Server, generation: int | None = None):
        self.at, self.generation = at, generation
        self.engine = engine_of(at) if isinstance(at, Path) else at.engine()

    @property
    def folder(self) -> Path:
        """The study's."""
        return self.at.parent.parent if isinstance(self.at, Path) else self.at.folder

    @classmethod
    def create_or_open(cls, at: Path | Server) -> Ledger:
        """The ledger at a place, made if there is none, with this run as its one writer from now on.

        For who holds the study's lock.
        """
        make_file(at) if isinstance(at, Path) else at.make()
        ledger = cls(at)
        if ledger._is_older():
            ledger._upgrade()
        with ledger.engine.begin() as tx:
            ledger.generation = (_generation(tx) or 0) + 1
            set_meta(tx, "generation", ledger.generation)
            set_meta(tx, "schema", schema.VERSION)
        return ledger

    @classmethod
    def open(cls, at: Path | Server) -> Ledger:
        """The ledger at a place, to read; InputError when there is none or it is damaged or from a newer losstune."""
        check_file(at) if isinstance(at, Path) else at.check()
        ledger = cls(at)
        try:
            if ledger._is_older():
                # An older losstune that runs the study would miss its columns.
                lock = RunLock(ledger.folder / "ledger")
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
        if isinstance(self.at, Path):
            check_file(self.at)
        try:
            with self.reading() as tx:
                version = get_meta(tx, "schema")
        except (DatabaseError, ValueError) as error:  # InputError, of what is no JSON, among them
            raise InputError(f"{self.at}: not a readable ledger ({_said_of(error)})") from None
        if version is not None and (not isinstance(version, int) or version < 1):
            raise InputError(f"{self.at}: not a readable ledger (schema {version!r})")
        if version is not None and version > schema.VERSION:
            raise InputError(f"{self.at}: written by a newer losstune (schema {version}); "
                             f"allowed: up to {schema.VERSION}")  # fmt: skip
        return version is not None and version < schema.VERSION

    def _upgrade(self) -> None:
        """Give a ledger of an older losstune what it lacks."""
        with self.engine.begin() as tx:
            if isinstance(self.at, Server):  # whose statements are not translated
                tx.exec_driver_sql(f"SET LOCAL search_path TO {tx.dialect.identifier_preparer.quote(self.at.schema)}")
            for version in range(get_meta(tx, "schema") + 1, schema.VERSION + 1):  # another may just have done it
                for statement in schema.UPGRADES[version]:
                    tx.exec_driver_sql(statement)
            set_meta(tx, "schema", schema.VERSION)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A write transaction, committed at the end; Superseded when a later run holds the ledger."""
        with self.engine.begin() as tx:
            if _generation(tx) != self.generation:
                raise Superseded(f"{self.at}: another run has continued this study")
            yield tx

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A consistent view for reading, while others may write."""
        # A server's own default would show the state of another instant to each statement; SQLite knows no other.
        options = {} if isinstance(self.at, Path) else {"isolation_level": "REPEATABLE READ"}
        with self.engine.connect().execution_options(purpose="read", **options) as connection:
            yield connection

    def close(self) -> None:
        self.engine.dispose()


# Made once: every transaction begins with one, and SQLAlchemy takes longer to make it than SQLite to answer.
_META = select(schema.meta.c.value).where(schema.meta.c.key == bindparam("of"))
_GENERATION = select(schema.meta.c.value).where(schema.meta.c.key == "generation").with_for_update()


def _generation(tx: Connection) -> int | None:
    """Which run may write. On a server others wait from here on until this transaction has ended."""
    return tx.execute(_GENERATION).scalar_one_or_none()


def get_meta(tx: Connection, key: str) -> Any:
    return tx.execute(_META, {"of": key}).scalar_one_or_none()


def set_meta(tx: Connection, key: str, value: Any) -> None:
    insert = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[tx.dialect.name]
    statement = insert(schema.meta).values(key=key, value=value)
    tx.execute(statement.on_conflict_do_update(index_elements=["key"], set_={"value": value}))


@contextmanager
def understood(path: Path | Server) -> Iterator[None]:
    """Around what reads a ledger: what a bad disk has made of it is said in one line, whatever it is that goes wrong.

    Within pages SQLite has no checksums, so that altered bytes come out as altered values.
    """
    try:
        yield
    except InputError:
        raise
    except DatabaseError as error:
        if any(word in _said_of(error) for word in ("disk", "server fails")):
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
