"""The history: finding, pinning and removing jobs and pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, and_, delete, select, tuple_, update

from pochade.errors import InvalidRequest
from pochade.jobs import storage_usage
from pochade.jobs.database import Database
from pochade.jobs.records import ACTIVE, Job, Picture, columns
from pochade.jobs.store import as_job
from pochade.jobs.tables import jobs, pictures

REMOVED_AT_ONCE = 100
"""The maximum number of pictures that one transaction removes."""

MAX_WORDS = 16
"""The maximum number of words of a search; others are ignored."""


@dataclass(frozen=True)
class Page:
    """One page of results. next: cursor of the next page; None at the end."""

    found: Sequence[Any]
    next: tuple[float, str] | None


@dataclass(frozen=True, kw_only=True)
class Search:
    """Filters of a search; None or empty matches everything. before: `Page.next` of the previous page."""

    words: str = ""
    states: tuple[str, ...] = ()
    kind: str | None = None
    model: str | None = None
    label: str | None = None
    pinned: bool | None = None
    before: tuple[float, str] | None = None
    limit: int = 50


def find_job(database: Database, job: str, owner: str | None = None) -> Job | None:
    """Find a job. owner: None finds any user's."""
    which = jobs.c.id == job if owner is None else and_(jobs.c.id == job, jobs.c.owner == owner)
    with database.read() as connection:
        row = connection.execute(select(jobs).where(which)).one_or_none()
    return None if row is None else as_job(row)


def active_jobs(database: Database) -> list[Job]:
    """Return the unfinished jobs of all users, the oldest first."""
    query = select(jobs).where(jobs.c.state.in_(ACTIVE)).order_by(jobs.c.created, jobs.c.id)
    with database.read() as connection:
        return [as_job(row) for row in connection.execute(query)]


def active_ids(database: Database) -> set[str]:
    """Return the ids of the unfinished jobs of all users."""
    with database.read() as connection:
        return set(connection.execute(select(jobs.c.id).where(jobs.c.state.in_(ACTIVE))).scalars())


def find_jobs(database: Database, owner: str, search: Search) -> Page:
    """Return the owner's jobs, the newest first."""
    conditions = [*_conditions(jobs, owner, search)]
    if search.states:
        conditions.append(jobs.c.state.in_(search.states))
    if search.kind is not None:
        conditions.append(jobs.c.kind == search.kind)
    rows, after = _page(database, jobs, conditions, search)
    return Page([as_job(row) for row in rows], after)


def find_pictures(database: Database, owner: str, search: Search) -> Page:
    """Return the owner's pictures, the newest first."""
    conditions = [*_conditions(pictures, owner, search)]
    if search.pinned is not None:
        conditions.append(pictures.c.pinned == int(search.pinned))
    rows, after = _page(database, pictures, conditions, search)
    return Page([_as_picture(row) for row in rows], after)


def pictures_of(database: Database, job_ids: Sequence[str]) -> dict[str, list[Picture]]:
    """Return job id -> its pictures in order."""
    found: dict[str, list[Picture]] = {job: [] for job in job_ids}
    query = select(pictures).where(pictures.c.job.in_(job_ids)).order_by(pictures.c.number)
    with database.read() as connection:
        for row in connection.execute(query):
            found[row.job].append(_as_picture(row))
    return found


def find_picture(database: Database, picture: str, owner: str | None = None) -> Picture | None:
    """Find a picture. owner: None finds any user's."""
    query = select(pictures).where(pictures.c.id == picture)
    if owner is not None:
        query = query.where(pictures.c.owner == owner)
    with database.read() as connection:
        row = connection.execute(query).one_or_none()
    return None if row is None else _as_picture(row)


def pin(
    database: Database, picture: str, owner: str, pinned: bool, most_bytes: int | None = None
) -> Picture | None:
    """Set or clear a picture's pin. Returns the changed picture; None if it does not exist.

    most_bytes: total size that the owner may pin. Raises InvalidRequest if it would be exceeded.
    """
    which = and_(pictures.c.id == picture, pictures.c.owner == owner)
    with database.write() as connection:
        row = connection.execute(select(pictures).where(which)).one_or_none()
        if row is None:
            return None
        if bool(row.pinned) != pinned:
            taken = storage_usage.stored_in(connection, owner).pinned + row.bytes
            if pinned and most_bytes is not None and taken > most_bytes:
                raise InvalidRequest(
                    f"your pinned pictures would take {taken:,} bytes; at most {most_bytes:,} may be"
                    " pinned: unpin others first, or save a copy yourself"
                )
            connection.execute(update(pictures).where(which).values(pinned=int(pinned)))
            storage_usage.count(connection, owner, 0, row.bytes if pinned else -row.bytes)
    return replace(_as_picture(row), pinned=pinned)


# --- removing: the row first, so that no row ever refers to a missing file --------------------------------


def remove_picture(database: Database, picture: str, owner: str) -> Picture | None:
    """Delete a picture's row. The caller removes its file."""
    which = and_(pictures.c.id == picture, pictures.c.owner == owner)
    with database.write() as connection:
        found = [_as_picture(row) for row in connection.execute(select(pictures).where(which))]
        _forget(connection, found)
    return found[0] if found else None


def remove_job(database: Database, job: str, owner: str) -> list[Picture] | None:
    """Delete a finished job and its pictures. Returns None if there is no such job or it is not finished."""
    with database.write() as connection:
        over = and_(jobs.c.id == job, jobs.c.owner == owner, jobs.c.state.not_in(ACTIVE))
        if connection.execute(delete(jobs).where(over)).rowcount != 1:
            return None
        rows = connection.execute(select(pictures).where(pictures.c.job == job))
        found = [_as_picture(row) for row in rows]
        _forget(connection, found)
    return found


def known_paths(database: Database) -> set[str]:
    """Return the paths of all pictures that have rows."""
    with database.read() as connection:
        return set(connection.execute(select(pictures.c.path)).scalars())


def make_room(database: Database, budget_bytes: int, most: int = REMOVED_AT_ONCE) -> list[Picture]:
    """Delete the rows of the oldest unpinned pictures until the rest fits; return the pictures, whose files
    are to be removed.

    One call deletes at most `most`, because other writers have to wait; call it until it returns none.
    """
    if not storage_usage.stored(database).to_remove(budget_bytes):
        return []
    with database.write() as connection:
        left, gone = storage_usage.stored_in(connection).to_remove(budget_bytes), list[Picture]()
        oldest = select(pictures).where(pictures.c.pinned == 0).order_by(pictures.c.created, pictures.c.id)
        for row in connection.execute(oldest.limit(most)).all():
            if left <= 0:
                break
            gone.append(_as_picture(row))
            left -= row.bytes
        _forget(connection, gone)
    return gone


# --- inside -----------------------------------------------------------------------------------------------


def _forget(connection: Connection, gone: Sequence[Picture]) -> None:
    if not gone:
        return
    connection.execute(delete(pictures).where(pictures.c.id.in_([picture.id for picture in gone])))
    for owner in {picture.owner for picture in gone}:
        theirs = [picture for picture in gone if picture.owner == owner]
        pinned = sum(picture.bytes for picture in theirs if picture.pinned)
        storage_usage.count(connection, owner, -sum(picture.bytes for picture in theirs), -pinned)


def _conditions(table: Table, owner: str, search: Search) -> list[ColumnElement[bool]]:
    conditions = [table.c.owner == owner]
    for word in search.words.lower().split()[:MAX_WORDS]:
        conditions.append(table.c.words.contains(word, autoescape=True))
    if search.model is not None:
        conditions.append(table.c.model == search.model)
    if search.label is not None:
        conditions.append(table.c.label == search.label)
    if search.before is not None:
        conditions.append(tuple_(table.c.created, table.c.id) < tuple_(*search.before))
    return conditions


def _page(
    database: Database, table: Table, conditions: Sequence[ColumnElement[bool]], search: Search
) -> tuple[Sequence[Row[Any]], tuple[float, str] | None]:
    newest = table.c.created.desc(), table.c.id.desc()
    query = select(table).where(*conditions).order_by(*newest).limit(search.limit + 1)
    with database.read() as connection:
        rows = connection.execute(query).all()
    page = rows[: search.limit]
    return page, (page[-1].created, page[-1].id) if len(rows) > len(page) else None


def _as_picture(row: Row[Any]) -> Picture:
    values = {name: getattr(row, name) for name in columns(Picture)}
    return Picture(**{**values, "seed": int(row.seed), "pinned": bool(row.pinned)})
