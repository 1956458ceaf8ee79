"""How long a job will take: guessed at first, then learned from those that were drawn.

A unit of work is one evaluation of the UNet, for one picture of 512 x 512. Seconds per unit are kept for each
model and size, and for each model as a whole; each new drawing moves them by SHARE. Attention grows faster
than the number of pixels, so the rate of a size itself is the better one once there is one.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, select
from sqlalchemy.dialects.sqlite import insert

from pochade.jobs.database import Database
from pochade.jobs.tables import rates

UNIT_PIXELS = 512 * 512
DECODING = 2.0
"""Of a picture: about as much work as so many evaluations."""

SHARE = 0.3
FIRST_PER_BYTE = 0.5e-9
"""Seconds per unit and byte of the model's file, before anything is known: of two gigabytes, 1 s."""

OVERHEAD_S = 0.05
LIKELY = (1e-5, 1e4)
"""Seconds per unit that are believed; a clock that was set in the middle of a drawing gives others."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """evaluations: of the UNet for one picture, both halves of guidance counted. count: of pictures."""

    width: int
    height: int
    evaluations: float
    count: int

    @property
    def units(self) -> float:
        return self.count * (self.evaluations + DECODING) * self.width * self.height / UNIT_PIXELS


def predict(database: Database, model: str, work: Work, model_bytes: int) -> float:
    """Seconds. The rate of this model and size counts, else that of the model, else a guess from its file."""
    with database.read() as connection:
        known = {
            (row.model, row.width, row.height): row.seconds
            for row in connection.execute(select(rates).where(rates.c.model == model))
        }
        size, whole = (model, work.width, work.height), (model, 0, 0)
        rate = known.get(size, known.get(whole))
    if rate is None:
        rate = FIRST_PER_BYTE * model_bytes
    return OVERHEAD_S + rate * work.units


def learn(connection: Connection, model: str, work: Work, seconds: float) -> None:
    """Remember how long this took, within the caller's transaction."""
    low, high = LIKELY
    rate = max(0.0, seconds - OVERHEAD_S) / work.units
    if not low <= rate <= high:
        return
    for width, height in ((work.width, work.height), (0, 0)):
        row = {"model": model, "width": width, "height": height, "seconds": rate, "count": 1}
        moved = rates.c.seconds + SHARE * (rate - rates.c.seconds)
        change = {"seconds": moved, "count": rates.c.count + 1}
        connection.execute(
            insert(rates).values(**row).on_conflict_do_update(["model", "width", "height"], set_=change)
        )
