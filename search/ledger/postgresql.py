"""The ledger on a PostgreSQL server, for a team, and for a head that may be replaced: a schema for each study."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateSchema

from losstune.search.ledger import schema
from losstune.spaces import InputError

LONGEST_NAME = 63  # bytes of an identifier; the server would cut a longer one short
GONE_SECONDS = 75.0  # after so long at most the server knows that a machine which holds a lock is gone
OPTIONS = ("host", "port", "sslmode", "sslrootcert", "sslcert", "sslkey")  # in an address, after "?"
_KEEPALIVE = {"keepalives_idle": 20, "keepalives_interval": 10, "keepalives_count": 4}  # seconds, seconds, probes
_HOLDER = text("""
    SELECT application_name, host(client_addr), backend_start
    FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND classid = CAST(:upper AS oid) AND objid = CAST(:lower AS oid)
""")


@dataclass(frozen=True)
class Server:
    """A study's ledger on a server. url: "postgresql://USER@HOST:PORT/DATABASE"; folder: the study's, by whose name it
    is kept. A password is found where psql finds it: in PGPASSWORD or ~/.pgpass."""

    url: str
    folder: Path

    def __str__(self) -> str:
        return f"{self.url} ({self.schema})"

    @property
    def schema(self) -> str:
        name = f"losstune_{self.folder.name}"
        if len(name.encode()) <= LONGEST_NAME:
            return name
        return f"losstune_{hashlib.sha256(name.encode()).hexdigest()[:40]}"

    def engine(self, **options: Any) -> Engine:
        """Connections that have the study's schema for their own."""
        engine = create_engine(_driven(self.url), connect_args={
            "connect_timeout": 20, "application_name": f"{_here()}, process {os.getpid()}",
            **_KEEPALIVE}, pool_pre_ping=True, **options)  # fmt: skip
        return engine.execution_options(schema_translate_map={None: self.schema})

    def make(self) -> None:
        """A ledger without trials, if there is none."""
        with self._asked() as engine, engine.begin() as tx:
            tx.execute(CreateSchema(self.schema, if_not_exists=True))
            schema.metadata.create_all(tx)

    def exists(self) -> bool:
        with self._asked() as engine:
            return inspect(engine).has_table("meta", schema=self.schema)

    def check(self) -> None:
        """InputError where there is no ledger of the study."""
        if not self.exists():
            raise InputError(f"{self}: no ledger there; allowed: that of a study that has been run")

    @contextlib.contextmanager
    def _asked(self) -> Iterator[Engine]:
        """An engine for a question; InputError where the server does not answer it."""
        engine = self.engine(poolclass=NullPool)
        try:
            yield engine
        except SQLAlchemyError as error:
            raise InputError(f"--ledger {self.url}: {_answer_in(error)}; allowed: a database of a PostgreSQL server "
                             "that answers, where schemas may be made") from None  # fmt: skip

    @contextlib.contextmanager
    def held(self, note: Callable[[str], Any], patience: float) -> Iterator[None]:
        """Hold the study for this process, on whatever machine; the server lets it go when its holder is gone.

        patience: seconds within which another machine that holds it and is gone would be known to be. InputError when
        another process holds it.
        """
        with contextlib.ExitStack() as stack:
            with self._asked() as engine:
                tx = engine.connect()
                stack.callback(self._let_go, tx)
                self._take(tx, note, patience)
            yield  # what fails from here on is the study's to say

    def _let_go(self, tx: Connection) -> None:
        with contextlib.suppress(SQLAlchemyError):  # the server may be gone, and the lock with it
            tx.close()

    def _take(self, tx: Connection, note: Callable[[str], Any], patience: float) -> None:
        until = time.monotonic() + patience
        while not self._takes(tx):
            who, ours = self._holder(tx)
            if not who:  # it has just ended
                time.sleep(0.2)
                continue
            if ours or time.monotonic() > until:
                raise InputError(f"{self}: {who} is running this study; allowed: one run at a time")
            note(f"{who} runs this study, or did and is gone: waiting up to {patience:g} s to know")
            self._wait(tx, until)

    def _takes(self, tx: Connection) -> bool:
        taken = tx.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": self._key}).scalar_one()
        # The server asks whether this machine lives; by itself it would do so after two hours.
        for name, value in _KEEPALIVE.items():
            tx.execute(text(f"SET tcp_{name} = {value}"))
        tx.commit()
        return taken

    def _wait(self, tx: Connection, until: float) -> None:
        while time.monotonic() < until and self._holder(tx)[0]:
            time.sleep(1.0)

    def _holder(self, tx: Connection) -> tuple[str, bool]:
        """Who holds the study, "" for nobody, and whether that is on this machine."""
        key = self._key % 2**64
        found = tx.execute(_HOLDER, {"upper": key >> 32, "lower": key % 2**32}).first()
        tx.commit()
        if found is None:
            return "", False
        # Of the sessions of other roles the server may not tell.
        name, address, since = found
        parts = [name or "another process", f"at {address}" if address else "",
                 f"since {since:%Y-%m-%d %H:%M:%S}" if since else ""]  # fmt: skip
        return f"{', '.join(filter(None, parts))},", (name or "").startswith(_here())

    @property
    def _key(self) -> int:
        """The number of the study's lock: 64 bits with a sign."""
        return int.from_bytes(hashlib.sha256(self.schema.encode()).digest()[:8], signed=True)


def _here() -> str:
    """This machine, short enough for a name of which the server keeps 63 bytes, a process's number too."""
    return f"losstune on {socket.gethostname()[:30]}"


def server_of(url: str, folder: Path) -> Server:
    """A study's ledger by the address of a server. InputError for an address that is none, or that holds a password."""
    try:
        parts = make_url(url)
    except (ArgumentError, ValueError):
        parts = None
    # What is wrong is not repeated: it may hold a secret.
    if parts is None or parts.drivername != "postgresql" or not parts.database:
        raise InputError("--ledger: is no address of a database; allowed: postgresql://USER@HOST:PORT/DATABASE")
    if parts.password or "password" in parts.query:
        raise InputError("--ledger: a password in it would be seen in the list of processes, and kept; allowed: "
                         "PGPASSWORD in the environment, or ~/.pgpass")  # fmt: skip
    odd = sorted(set(parts.query) - set(OPTIONS))
    if odd:
        raise InputError(f"--ledger: {', '.join(odd)} is no option of it; allowed: {', '.join(OPTIONS)}")
    return Server(url, folder)


def _driven(url: str) -> URL:
    try:
        import psycopg  # noqa: F401 (only whether it is there)
    except ImportError:
        raise InputError("--ledger: PostgreSQL's client is not installed: pip install 'losstune[postgresql]'") from None
    return make_url(url).set(drivername="postgresql+psycopg")


def _answer_in(error: SQLAlchemyError) -> str:
    """What a server says of a failure, in a line."""
    return " ".join(str(getattr(error, "orig", None) or error).split())[:300]
