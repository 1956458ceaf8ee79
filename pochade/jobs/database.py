"""The SQLite database, opened so that a committed transaction survives any crash."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError

from pochade.errors import OutputError
from pochade.jobs.tables import FORMAT, METADATA

BUSY_S = 30.0
"""How long a process waits for another one's write transaction, s."""

REFUSED = {
    sqlite3.SQLITE_FULL: "the disk is full; free some space on it",
    sqlite3.SQLITE_IOERR: "the disk reported an error; check its free space and its health",
    sqlite3.SQLITE_READONLY: "it is read-only; choose a folder that you can write to",
    sqlite3.SQLITE_PERM: "it is read-only; choose a folder that you can write to",
    sqlite3.SQLITE_CANTOPEN: (
        "it cannot be opened; check that the folder exists and is writable and that the disk has space"
    ),
    sqlite3.SQLITE_CORRUPT: "the file is damaged; restore it from a copy, or start with another folder",
    sqlite3.SQLITE_NOTADB: "the file is not a Pochade database; choose another folder",
}
"""SQLite's primary result codes for disk errors, with advice. Other errors are bugs."""

BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class StoreFailed(OutputError):
    """The database's disk is full, not writable or damaged. reason: what to do."""

    def __init__(self, path: Path, what: str, reason: str) -> None:
        super().__init__(f"the jobs in '{path}' {what}: {reason}")
        self.reason = reason


class StoreBusy(StoreFailed):
    """Another process held the write lock for longer than BUSY_S; a later attempt may succeed."""


class Database:
    """Connections to one database file, which other processes may use too. Thread-safe.

    Raises OutputError if the file cannot be opened, is not a Pochade database, or has a later version's
    format.
    """

    def __init__(self, path: Path) -> None:
        # Writers of this process queue here: SQLite waits in a loop of sleeps, which is unfair.
        self._writing = threading.Lock()
        self._path = path
        self._engine = _engine(path)
        try:
            with self.write() as connection:
                _prepare(connection, path)
        except StoreFailed as error:
            self.close()
            raise type(error)(path, "cannot be opened", error.reason) from error
        except BaseException:
            self.close()
            raise

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Return a transaction that holds the write lock from its first statement on.

        Raises StoreFailed on a disk error; nothing of the transaction is stored then.
        """
        with _report_errors(self._path), self._writing, self._engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Return a read transaction, which sees a consistent state and does not block writers.

        Raises StoreFailed as `write` does, since reading needs some disk space too.
        """
        with _report_errors(self._path), self._engine.connect().execution_options(reading=True) as connection:
            yield connection

    def close(self) -> None:
        self._engine.dispose()


@contextmanager
def _report_errors(path: Path) -> Iterator[None]:
    """Convert SQLite's disk errors to StoreFailed. path: of the database, for the message."""
    try:
        yield
    except DatabaseError as error:
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF  # the primary code of an extended one
        if code in BUSY:
            reason = f"another process has been writing for over {BUSY_S:g} s; try again later"
            raise StoreBusy(path, "could not be written", reason) from error
        if code in REFUSED:
            raise StoreFailed(path, "could not be written", REFUSED[code]) from error
        raise


def _engine(path: Path) -> Engine:
    # A URL object needs no escaping of ? and %; an absolute path is never ":memory:" or "file:".
    url = URL.create("sqlite", database=str(path.absolute()))
    engine = create_engine(url, connect_args={"timeout": BUSY_S})

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _: object) -> None:
        connection.isolation_level = None  # disable the driver's BEGIN, see below
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # accepted jobs survive a power failure
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads before it writes may fail if another one wrote in between.
        reading = connection.get_execution_options().get("reading", False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def _prepare(connection: Connection, path: Path) -> None:
    found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    if found > FORMAT:
        raise OutputError(
            f"the jobs in '{path}' were written by a later version of Pochade (format {found}; this"
            f" version reads {FORMAT}): use that version, or another folder"
        )
    METADATA.create_all(connection)
    connection.exec_driver_sql(f"PRAGMA user_version = {FORMAT}")
