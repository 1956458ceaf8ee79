"""Disk usage of each user's pictures, updated in the transactions that add and remove them.

The budget is shared by all users. Pinned pictures are never removed for it. To leave space for new pictures,
pinned ones may take a share of the budget (PINNED_SHARE), divided equally among the users; unpinned pictures
may always take the rest, even if more is pinned because the budget was once larger.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects.sqlite import insert

from pochade.jobs.database import Database
from pochade.jobs.tables import pictures, storage

PINNED_SHARE = 0.5
"""Share of the budget that pinned pictures may take."""


@dataclass(frozen=True)
class StorageUsage:
    """Bytes of pictures. pinned: bytes of the pinned ones."""

    bytes: int
    pinned: int

    def to_remove(self, budget_bytes: int) -> int:
        """Return the bytes of unpinned pictures that exceed the budget."""
        room = max(budget_bytes - self.pinned, round(budget_bytes * (1 - PINNED_SHARE)))
        return max(0, self.bytes - self.pinned - room)


def pin_budget(budget_bytes: int, users: int) -> int:
    """Return the bytes that each of `users` users may pin."""
    return round(budget_bytes * PINNED_SHARE) // max(1, users)


def stored(database: Database, owner: str | None = None) -> StorageUsage:
    """Return the usage of one user or of all. Reads one row per user, not one per picture."""
    with database.read() as connection:
        return stored_in(connection, owner)


def stored_in(connection: Connection, owner: str | None = None) -> StorageUsage:
    """Like `stored`, within the caller's transaction."""
    sums = (func.coalesce(func.sum(column), 0) for column in (storage.c.bytes, storage.c.pinned))
    query = select(*sums) if owner is None else select(*sums).where(storage.c.owner == owner)
    return StorageUsage(*connection.execute(query).one())


def count(connection: Connection, owner: str, bytes_: int, pinned: int = 0) -> None:
    """Add to a user's usage, within the transaction that changes it. Both may be negative."""
    row = insert(storage).values(owner=owner, bytes=bytes_, pinned=pinned)
    more = {"bytes": storage.c.bytes + bytes_, "pinned": storage.c.pinned + pinned}
    connection.execute(row.on_conflict_do_update(["owner"], set_=more))


def recount(database: Database) -> None:
    """Recount from the pictures, since databases of earlier versions have no counts."""
    of_pinned = func.sum(pictures.c.bytes * pictures.c.pinned)
    sums = select(pictures.c.owner, func.sum(pictures.c.bytes), of_pinned).group_by(pictures.c.owner)
    with database.write() as connection:
        connection.execute(delete(storage))
        connection.execute(insert(storage).from_select(["owner", "bytes", "pinned"], sums))
