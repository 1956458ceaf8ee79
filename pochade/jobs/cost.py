"""Prediction of how long a job takes: estimated at first, then learned from finished jobs.

A unit of work is one evaluation of the UNet for one picture of 512 x 512. Seconds per unit are stored for
each model and size, and for each model; every finished job moves them by SHARE. Attention grows faster than
the number of pixels, so the rate of the size itself is preferred where it is known.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, select
from sqlalchemy.dialects.sqlite import insert

from pochade.jobs.database import Database
from pochade.jobs.tables import rates

UNIT_PIXELS = 512 * 512
DECODING = 2.0
"""Cost of decoding a picture, in evaluations."""

SHARE = 0.3
FIRST_PER_BYTE = 0.5e-9
"""Seconds per unit and byte of the model's file, before anything is known: 1 s for 2 GB."""

OVERHEAD_S = 0.05
LIKELY = (1e-5, 1e4)
"""Plausible range of seconds per unit; setting the clock during a job yields others."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """The work of a job. evaluations: of the UNet per picture, two per guided step. count: pictures."""

    width: int
    height: int
    evaluations: float
    count: int

    @property
    def units(self) -> float:
        return self.count * (self.evaluations + DECODING) * self.width * self.height / UNIT_PIXELS


def predict(database: Database, model: str, work: Work, model_bytes: int) -> float:
    """Predict seconds from the rate of this model and size, else of this model, else from its file size."""
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
    """Record the duration of a job, within the caller's transaction."""
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
