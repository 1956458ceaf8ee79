"""While an order is being kept nobody hears of it: it may still be refused."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from pochade.jobs.database import StoreFailed
from pochade.server import submission
from pochade.server.auth import LOCAL
from pochade.server.service import Service
from tests.jobs.test_board import unread_now
from tests.server.in_process import served


def test_an_order_that_the_store_refuses_was_never_queued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep, seen = submission.keep, list[Any]()

    async def use(service: Service, client: httpx.AsyncClient) -> None:
        first = (await client.post("/api/v1/jobs", json={"prompt": "a fox"})).json()["id"]
        watcher = service.live_jobs.watch(LOCAL)

        def refuse(*_: Any) -> Any:
            begun = service.live_jobs.watch(LOCAL)
            service.live_jobs.publish_positions()
            seen.append(
                (len(service.live_jobs.live), service.live_jobs.count("queued"), list(begun._unread.values()))
            )
            raise StoreFailed(tmp_path, "could not be written", "the disk is full")

        with monkeypatch.context() as patched:
            patched.setattr(submission, "keep", refuse)
            assert (await client.post("/api/v1/jobs", json={"prompt": "a fox"})).status_code == 507
        ((on_board, queued, begun),) = seen
        assert (on_board, queued) == (2, 1) and [each["job"] for each in begun] == [first]
        service.live_jobs.publish_positions()
        assert {job for _, job in await unread_now(watcher)} == {first}
        assert submission.keep is keep
        kept = (await client.post("/api/v1/jobs", json={"prompt": "a fox"})).json()
        assert kept["position"] == 2 and ("queued", kept["id"]) in await unread_now(watcher)

    served(tmp_path / "data", use)
