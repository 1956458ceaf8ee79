"""The records that the store returns, as frozen dataclasses."""

from dataclasses import dataclass
from typing import Any

QUEUED, RUNNING, FINISHED, FAILED, CANCELLED = "queued", "running", "finished", "failed", "cancelled"
STATES = (QUEUED, RUNNING, FINISHED, FAILED, CANCELLED)
ACTIVE = (QUEUED, RUNNING)

LANES = {"interactive": 1, "batch": 0}
"""Name -> priority; higher ones are served first."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A row of `tables.jobs`. order: JSON, see `orders`."""

    id: str
    owner: str
    lane: int
    state: str
    kind: str
    model: str
    label: str
    order: str
    cost: float
    created: float
    started: float | None = None
    ended: float | None = None
    attempts: int = 0
    deaths: int = 0
    asked: str = ""
    error: str | None = None

    @property
    def over(self) -> bool:
        return self.state not in ACTIVE


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A row of `tables.pictures`. path: below the folder of outputs."""

    id: str
    job: str
    owner: str
    number: int
    path: str
    width: int
    height: int
    seed: int
    text: str
    prompt: str
    model: str
    label: str
    created: float
    pinned: bool
    bytes: int


@dataclass(frozen=True)
class Lease:
    """A job that a worker has taken, with the token of its lease."""

    job: Job
    token: str


@dataclass(frozen=True)
class ReclaimedJob:
    """A job taken back from a dead worker: queued again, failed or cancelled."""

    job: str
    owner: str
    state: str


@dataclass(frozen=True, kw_only=True)
class FinishedPicture:
    """A picture whose file is written but which has no row yet. path: below the folder of outputs."""

    path: str
    width: int
    height: int
    seed: int
    text: str
    prompt: str
    bytes: int


def columns(kind: type[Any]) -> tuple[str, ...]:
    """Return the names of the fields, which are those of the table's columns."""
    return tuple(kind.__dataclass_fields__)
