"""Data stored per user besides jobs: the options set through A1111's dialect, and login sessions."""

import hashlib
import json
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.dialects.sqlite import insert

from pochade.jobs.database import Database
from pochade.jobs.tables import choices, sessions

SLOW_PROOF = "scrypt:"
"""Prefix of the proof of a key that a session stores."""


def choices_of(database: Database, owner: str) -> dict[str, Any]:
    with database.read() as connection:
        text = connection.execute(select(choices.c["values"]).where(choices.c.owner == owner)).scalar()
    return {} if text is None else dict(json.loads(text))


def choose(database: Database, owner: str, changes: dict[str, Any]) -> None:
    """Merge `changes` into the user's stored options."""
    values = json.dumps({**choices_of(database, owner), **changes})
    row = insert(choices).values(owner=owner, values=values)
    with database.write() as connection:
        connection.execute(row.on_conflict_do_update(["owner"], set_={"values": values}))


def open_session(
    database: Database, token: str, owner: str, proof: str, until: float, now: float = 0.0
) -> None:
    """Store a session. token: the cookie's value, of which only the hash is stored. proof: of the key used to
    log in.

    Expired sessions are removed.
    """
    with database.write() as connection:
        connection.execute(delete(sessions).where(sessions.c.until <= now))
        values = {"digest": _digest(token), "owner": owner, "proof": proof, "until": until}
        connection.execute(sessions.insert().values(**values))


def session(database: Database, token: str, now: float) -> tuple[str, str, float] | None:
    """Return the owner, proof and expiry of an open session."""
    with database.read() as connection:
        query = select(sessions.c.owner, sessions.c.proof, sessions.c.until)
        row = connection.execute(
            query.where(sessions.c.digest == _digest(token), sessions.c.until > now)
        ).one_or_none()
    return None if row is None else (row.owner, row.proof, row.until)


def close_session(database: Database, token: str, now: float) -> None:
    """Remove this session and all expired ones. Nothing is written for an unknown session, since anyone can
    request this."""
    if session(database, token, now) is None:
        return
    with database.write() as connection:
        over = (sessions.c.digest == _digest(token)) | (sessions.c.until <= now)
        connection.execute(delete(sessions).where(over))


def forget_fast_proofs(database: Database) -> None:
    """Remove the sessions of earlier versions, whose proofs allow a key to be guessed quickly."""
    with database.write() as connection:
        connection.execute(delete(sessions).where(~sessions.c.proof.startswith(SLOW_PROOF)))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
