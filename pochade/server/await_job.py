"""For dialects whose clients wait for the picture within one request."""

import asyncio

from fastapi import Request

from pochade.jobs.live import LiveJob
from pochade.jobs.records import FAILED, Job, Picture
from pochade.server.middleware import ErrorReply
from pochade.server.service import Service

GONE = 499
"""The status that nobody reads: the client closed the connection."""


async def outcome(service: Service, request: Request, live: LiveJob) -> tuple[Job, list[Picture]]:
    """Until the job is over. A client that goes away takes its job along: nobody else knows of it.

    Raises Trouble if the job has failed.
    """
    over = asyncio.ensure_future(service.wait(live))
    gone = asyncio.ensure_future(vanished(request))
    try:
        await asyncio.wait({over, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not over.done():
            await service.cancel(live.owner, live.id)
            raise ErrorReply(GONE, "gone", "the client disconnected")
        job, pictures = over.result()
    finally:
        for task in (over, gone):
            task.cancel()
        await asyncio.gather(over, gone, return_exceptions=True)
    if job.state == FAILED:
        raise failure(live, job.error)
    return job, pictures


def failure(live: LiveJob, reason: str | None) -> ErrorReply:
    """What a failed job is to a client: its own fault, or ours, or our disk's."""
    if live.invalid:
        return ErrorReply(422, "invalid", reason or "it cannot be drawn")
    if live.no_room:
        return ErrorReply(507, "no_room", reason or "the server could not write to its disk")
    return ErrorReply(500, "failed", reason or "it could not be drawn")


async def vanished(request: Request) -> None:
    """Until the client disconnected. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
