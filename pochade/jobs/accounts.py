"""What is kept of users besides their jobs: what they chose in A1111's dialect, and their logins."""

import hashlib
import json
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.dialects.sqlite import insert

from pochade.jobs.database import Database
from pochade.jobs.tables import choices, sessions

SLOW_PROOF = "scrypt:"
"""How a session's proof of its key begins."""


def choices_of(database: Database, owner: str) -> dict[str, Any]:
    with database.read() as connection:
        text = connection.execute(select(choices.c["values"]).where(choices.c.owner == owner)).scalar()
    return {} if text is None else dict(json.loads(text))


def choose(database: Database, owner: str, changes: dict[str, Any]) -> None:
    """Add to what was chosen; a later choice of the same thing counts."""
    values = json.dumps({**choices_of(database, owner), **changes})
    row = insert(choices).values(owner=owner, values=values)
    with database.write() as connection:
        connection.execute(row.on_conflict_do_update(["owner"], set_={"values": values}))


def open_session(
    database: Database, token: str, owner: str, proof: str, until: float, now: float = 0.0
) -> None:
    """token: what the cookie holds; only its hash is kept. proof: of the key that was shown.

    Sessions that are over by now are forgotten.
    """
    with database.write() as connection:
        connection.execute(delete(sessions).where(sessions.c.until <= now))
        values = {"digest": _digest(token), "owner": owner, "proof": proof, "until": until}
        connection.execute(sessions.insert().values(**values))


def session(database: Database, token: str, now: float) -> tuple[str, str, float] | None:
    """(owner, proof, until) of a session that is open."""
    with database.read() as connection:
        query = select(sessions.c.owner, sessions.c.proof, sessions.c.until)
        row = connection.execute(
            query.where(sessions.c.digest == _digest(token), sessions.c.until > now)
        ).one_or_none()
    return None if row is None else (row.owner, row.proof, row.until)


def close_session(database: Database, token: str, now: float) -> None:
    """This one, and all that are over. Of one that is not there nothing is written: anybody can ask."""
    if session(database, token, now) is None:
        return
    with database.write() as connection:
        over = (sessions.c.digest == _digest(token)) | (sessions.c.until <= now)
        connection.execute(delete(sessions).where(over))


def forget_fast_proofs(database: Database) -> None:
    """Close the sessions of earlier versions, whose proofs let a key be guessed quickly."""
    with database.write() as connection:
        connection.execute(delete(sessions).where(~sessions.c.proof.startswith(SLOW_PROOF)))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
