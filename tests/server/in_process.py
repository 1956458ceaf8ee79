"""A server within the test's own process, without workers: what is accepted waits."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx

from pochade.server.app import make_app
from pochade.server.desk import Desk
from pochade.server.options import Options

T = TypeVar("T")


def served(data: Path, use: Callable[[Desk, httpx.AsyncClient], Awaitable[T]], **options: Any) -> T:
    """What `use` gives, between the opening and the closing of a desk. options: of `Options`."""

    async def run() -> T:
        desk = Desk(Options(data=data, devices=(), grace_s=0.1, **options))
        await desk.open()
        transport = httpx.ASGITransport(make_app(desk))
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return await use(desk, client)
        finally:
            desk.leave()
            await desk.close()

    return asyncio.run(run())
