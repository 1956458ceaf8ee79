"""A store with a clock that stands still until a test moves it, and ids that count."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pochade.jobs import store
from pochade.jobs.database import Database
from pochade.jobs.job_request import JobRequest
from pochade.jobs.orders import Order
from pochade.jobs.records import LANES, QUEUED, FinishedPicture, Job, Lease
from pochade.jobs.storage import Storage

BEGIN = 1_764_000_000.0


@dataclass
class Studio:
    """now: seconds since 1970."""

    database: Database
    storage: Storage
    now: float = BEGIN
    made: int = field(default=0)

    def submit(self, owner: str = "ann", lane: str = "interactive", **changes: Any) -> str:
        """Submit a waiting job, a second after the previous one; return its id."""
        self.made += 1
        self.now += 1
        order = Order(kind="txt2img", model="starter", request=JobRequest(prompt="a Fox", steps=4))
        values: dict[str, Any] = {
            "id": f"20251124-{self.made:010x}",
            "owner": owner,
            "lane": LANES[lane],
            "state": QUEUED,
            "kind": "txt2img",
            "model": "starter",
            "label": "",
            "order": order.text(),
            "cost": 1.0,
            "created": self.now,
            **changes,
        }
        words = values.pop("words", "a fox")
        store.accept(self.database, Job(**values), words)
        return str(values["id"])

    def take(self, worker: str = "w") -> Lease | None:
        self.now += 0.001
        return store.take(self.database, worker, f"token-{self.now}", self.now)

    def taken(self, worker: str = "w") -> Lease:
        lease = self.take(worker)
        assert lease is not None
        return lease

    def drawn(self, lease: Lease, count: int = 1, size: int = 100) -> list[FinishedPicture]:
        return [
            FinishedPicture(
                path=f"2025-11-24/{lease.job.id}.{lease.job.attempts}-{number}.png",
                width=8,
                height=8,
                seed=2**63 + number,
                text="a Fox\nSteps: 4",
                prompt="a Fox",
                bytes=size,
            )
            for number in range(count)
        ]

    def finished(self, **changes: Any) -> str:
        """Add a finished job with a picture; return its id."""
        job = self.submit(**changes)
        lease = self.taken()
        assert lease.job.id == job
        store.finish(self.database, lease, self.drawn(lease), self.now)
        return job


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    storage = Storage(tmp_path / "data").make()
    database = Database(storage.database)
    yield Studio(database, storage)
    database.close()
