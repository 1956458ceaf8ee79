"""Keys by which a client says that a request is the same one again: its answer was lost, not the job."""

import hashlib
from dataclasses import dataclass

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects.sqlite import insert

from pochade.errors import InvalidRequest, PochadeError
from pochade.jobs.database import Database
from pochade.jobs.tables import idempotency_keys as keys

KEPT_S = 24 * 3600
"""For so long a key stands for its job."""


class KeyReused(InvalidRequest):
    """The key came with another request before."""


class RepeatedRequest(PochadeError):
    """There is a job of this key already. job: its id."""

    def __init__(self, job: str) -> None:
        super().__init__(f"the job '{job}' has this Idempotency-Key already")
        self.job = job


@dataclass(frozen=True)
class IdempotencyKey:
    """A key, and the request that it came with; of both, hashes."""

    key: str
    request: str


def once(key: str, request: str) -> IdempotencyKey:
    """request: what was asked for, as text."""
    return IdempotencyKey(
        *(hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in (key, request))
    )


def find(database: Database, owner: str, asked: IdempotencyKey, now: float) -> str | None:
    """The id of the job that an owner's key stands for. Raises KeyReused."""
    with database.read() as connection:
        return _found(connection, owner, asked, now)


def remember(connection: Connection, owner: str, asked: IdempotencyKey, job: str, now: float) -> None:
    """Keep a key for a job, within the transaction that accepts it. Raises RepeatedRequest and KeyReused."""
    connection.execute(delete(keys).where(keys.c.created <= now - KEPT_S))
    row = insert(keys).values(owner=owner, key=asked.key, request=asked.request, job=job, created=now)
    if connection.execute(row.on_conflict_do_nothing()).rowcount == 1:
        return
    found = _found(connection, owner, asked, now)
    raise RepeatedRequest(found or job)


def _found(connection: Connection, owner: str, asked: IdempotencyKey, now: float) -> str | None:
    known = (keys.c.owner == owner) & (keys.c.key == asked.key) & (keys.c.created > now - KEPT_S)
    row = connection.execute(select(keys.c.request, keys.c.job).where(known)).one_or_none()
    if row is None:
        return None
    if row.request != asked.request:
        raise KeyReused(
            "this Idempotency-Key was already used for another request; use a new key for each request"
        )
    return str(row.job)
