"""What is kept of users besides their jobs: what they chose in A1111's dialect, and their logins."""

import hashlib
import json
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.dialects.sqlite import insert

from pochade.jobs.database import Database
from pochade.jobs.tables import choices, sessions


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


def open_session(database: Database, token: str, owner: str, proof: str, until: float) -> None:
    """token: what the cookie holds; only its hash is kept. proof: of the key that was shown."""
    with database.write() as connection:
        values = {"digest": _digest(token), "owner": owner, "proof": proof, "until": until}
        connection.execute(sessions.insert().values(**values))


def session(database: Database, token: str, now: float) -> tuple[str, str] | None:
    """(owner, proof) of a session that is open."""
    with database.read() as connection:
        query = select(sessions.c.owner, sessions.c.proof)
        row = connection.execute(
            query.where(sessions.c.digest == _digest(token), sessions.c.until > now)
        ).one_or_none()
    return None if row is None else (row.owner, row.proof)


def close_session(database: Database, token: str, now: float) -> None:
    """This one, and all that are over."""
    with database.write() as connection:
        over = (sessions.c.digest == _digest(token)) | (sessions.c.until <= now)
        connection.execute(delete(sessions).where(over))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
