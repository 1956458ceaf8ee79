"""A server in the test's process, without workers: accepted jobs stay in the queue."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx

from pochade.server.app import make_app
from pochade.server.config import Options
from pochade.server.service import Service

T = TypeVar("T")


def served(data: Path, use: Callable[[Service, httpx.AsyncClient], Awaitable[T]], **options: Any) -> T:
    """Return the result of `use(service)` on an open service. options: of `Options`."""

    async def run() -> T:
        service = Service(Options(data=data, devices=(), grace_s=0.1, **options))
        await service.open()
        transport = httpx.ASGITransport(make_app(service))
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return await use(service, client)
        finally:
            service.leave()
            await service.close()

    return asyncio.run(run())
