"""Idempotency keys: a client that repeats a request after a lost response gets the same job."""

import hashlib
from dataclasses import dataclass

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects.sqlite import insert

from pochade.errors import InvalidRequest, PochadeError
from pochade.jobs.database import Database
from pochade.jobs.tables import idempotency_keys as keys

KEPT_S = 24 * 3600
"""How long a key is stored, s."""


class KeyReused(InvalidRequest):
    """The key was used for a different request."""


class RepeatedRequest(PochadeError):
    """A job with this key exists. job: its id."""

    def __init__(self, job: str) -> None:
        super().__init__(f"the job '{job}' has this Idempotency-Key already")
        self.job = job


@dataclass(frozen=True)
class IdempotencyKey:
    """An idempotency key and its request, both as hashes."""

    key: str
    request: str


def once(key: str, request: str) -> IdempotencyKey:
    """Make a key. request: the request, as text."""
    return IdempotencyKey(
        *(hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in (key, request))
    )


def find(database: Database, owner: str, key: IdempotencyKey, now: float) -> str | None:
    """Return the id of the job with this owner's key. Raises KeyReused."""
    with database.read() as connection:
        return _found(connection, owner, key, now)


def save(connection: Connection, owner: str, key: IdempotencyKey, job: str, now: float) -> None:
    """Store a job's key within the transaction that accepts the job. Raises RepeatedRequest and KeyReused."""
    connection.execute(delete(keys).where(keys.c.created <= now - KEPT_S))
    row = insert(keys).values(owner=owner, key=key.key, request=key.request, job=job, created=now)
    if connection.execute(row.on_conflict_do_nothing()).rowcount == 1:
        return
    found = _found(connection, owner, key, now)
    raise RepeatedRequest(found or job)


def _found(connection: Connection, owner: str, key: IdempotencyKey, now: float) -> str | None:
    known = (keys.c.owner == owner) & (keys.c.key == key.key) & (keys.c.created > now - KEPT_S)
    row = connection.execute(select(keys.c.request, keys.c.job).where(known)).one_or_none()
    if row is None:
        return None
    if row.request != key.request:
        raise KeyReused(
            "this Idempotency-Key was already used for another request; use a new key for each request"
        )
    return str(row.job)
