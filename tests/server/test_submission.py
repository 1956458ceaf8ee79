"""An order is not announced before it is stored, since it may still be refused."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from pochade.jobs import history, store
from pochade.jobs.database import StoreFailed
from pochade.server import submission
from pochade.server.auth import LOCAL
from pochade.server.service import Service
from tests.jobs.test_live import unread_now
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


def test_a_job_that_was_kept_is_live_although_its_request_was_cancelled_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that writes it goes on; the worker draws it, and those who watch see it from its start."""
    keep, begun, go_on = submission.keep, threading.Event(), threading.Event()

    def slow(*arguments: Any) -> Any:
        begun.set()
        assert go_on.wait(60)
        return keep(*arguments)

    async def use(service: Service, client: httpx.AsyncClient) -> None:
        async def ask() -> None:
            await client.post("/api/v1/jobs", json={"prompt": "a fox"})

        watcher = service.live_jobs.watch(LOCAL)
        with monkeypatch.context() as patched:
            patched.setattr(submission, "keep", slow)
            task = asyncio.create_task(ask())
            await asyncio.to_thread(begun.wait, 60)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            go_on.set()
            for _ in range(1000):
                if all(live.accepted for live in service.live_jobs.live.values()):
                    break
                await asyncio.sleep(0.01)
        (live,) = service.live_jobs.live.values()
        assert live.accepted and ("queued", live.id) in await unread_now(watcher)
        (kept,) = await service.ask(history.active_jobs)
        assert kept.id == live.id and live.cost == kept.cost > 0

    served(tmp_path / "data", use)


def test_a_cancel_is_told_although_its_request_was_cancelled_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel, begun, go_on = store.cancel, threading.Event(), threading.Event()

    def slow(*arguments: Any) -> Any:
        begun.set()
        assert go_on.wait(60)
        return cancel(*arguments)

    async def use(service: Service, client: httpx.AsyncClient) -> None:
        job = (await client.post("/api/v1/jobs", json={"prompt": "a fox"})).json()["id"]
        watcher = service.live_jobs.watch(LOCAL)
        with monkeypatch.context() as patched:
            patched.setattr(store, "cancel", slow)
            task = asyncio.create_task(service.cancel(LOCAL, job))
            await asyncio.to_thread(begun.wait, 60)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            go_on.set()
            for _ in range(1000):
                if not service.live_jobs.live:
                    break
                await asyncio.sleep(0.01)
        assert not service.live_jobs.live and ("cancelled", job) in await unread_now(watcher)

    served(tmp_path / "data", use)
