"""The Model Context Protocol over standard input and output."""

import asyncio
import os
import signal
import sys

from mcp.server.stdio import stdio_server

from pochade.server.config import Options
from pochade.server.dialects.mcp.tools import make_server
from pochade.server.service import Service

GRACE_S = 1.0
"""How long a running job may continue after the client has gone; clients kill the process after a few
seconds."""


def serve_stdio(options: Options) -> None:
    """Serve until the input ends or a signal arrives. Raises PochadeError if the service cannot be opened."""
    asyncio.run(_serve(options))


async def _serve(options: Options) -> None:
    service = Service(options)
    await service.open()
    signals: asyncio.Queue[int] = asyncio.Queue()
    if sys.platform != "win32":
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, number)
    talking = asyncio.ensure_future(_talk(service))
    signalled = asyncio.ensure_future(signals.get())
    try:
        await asyncio.wait({talking, signalled}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        service.leave()
        await service.close()
    if signalled.done() and not talking.done():
        # A thread is blocked reading input; only exiting the process ends it.
        os._exit(128 + signalled.result())
    signalled.cancel()
    talking.result()


async def _talk(service: Service) -> None:
    """Serve until the client closes the connection."""
    server = make_server(service)
    try:
        async with stdio_server() as (reading, writing):
            await server.run(reading, writing, server.create_initialization_options())
    except* BrokenPipeError:
        pass  # disconnected
