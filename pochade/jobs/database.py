"""The SQLite file: opened so that whatever was told to be kept is kept, whoever is killed when."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError

from pochade.errors import OutputError
from pochade.jobs.tables import FORMAT, METADATA

BUSY_S = 30.0
"""How long a process waits for another one that is writing."""


class Database:
    """Connections to one file, of which several processes may have some. Threads may share it.

    Raises OutputError if the file cannot be opened, is none of ours, or of a later version.
    """

    def __init__(self, path: Path) -> None:
        # Within a process, writers queue here: SQLite's own waiting is a loop of sleeps, and unfair.
        self._writing = threading.Lock()
        self._engine = _engine(path)
        try:
            with self.write() as connection:
                _prepare(connection, path)
        except DatabaseError as error:
            self.close()
            raise OutputError(
                f"the jobs in '{path}' cannot be opened: {error.orig}; is it ours, and writable?"
            ) from error

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that has the right to write from its first statement on."""
        with self._writing, self._engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of everything and keeps nobody from writing."""
        with self._engine.connect().execution_options(reading=True) as connection:
            yield connection

    def close(self) -> None:
        self._engine.dispose()


def _engine(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_S})

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _: object) -> None:
        connection.isolation_level = None  # the driver's own BEGINs come too late, see below
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # accepted is accepted, also if the power fails
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads first and writes then may fail in between if another one wrote.
        reading = connection.get_execution_options().get("reading", False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def _prepare(connection: Connection, path: Path) -> None:
    found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    if found > FORMAT:
        raise OutputError(
            f"the jobs in '{path}' were written by a later version of Pochade (format {found}, this one knows"
            f" {FORMAT}): use that one, or another folder"
        )
    METADATA.create_all(connection)
    connection.exec_driver_sql(f"PRAGMA user_version = {FORMAT}")
