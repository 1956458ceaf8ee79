"""Waiting for a job within one request, for dialects whose clients expect the picture in the response."""

import asyncio

from fastapi import Request

from pochade.jobs.live import LiveJob
from pochade.jobs.records import FAILED, Job, Picture
from pochade.server.middleware import ErrorReply
from pochade.server.service import Service

CLIENT_CLOSED = 499
"""Status if the client has closed the connection; nobody reads the reply."""


async def outcome(service: Service, request: Request, live: LiveJob) -> tuple[Job, list[Picture]]:
    """Wait until the job ends. If the client disconnects, the job is cancelled: no one else knows its id.

    Raises ErrorReply if the job failed.
    """
    over = asyncio.ensure_future(service.wait(live))
    gone = asyncio.ensure_future(disconnected(request))
    try:
        await asyncio.wait({over, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not over.done():
            await service.cancel(live.owner, live.id)
            raise ErrorReply(CLIENT_CLOSED, "gone", "the client disconnected")
        job, pictures = over.result()
    finally:
        for task in (over, gone):
            task.cancel()
        await asyncio.gather(over, gone, return_exceptions=True)
    if job.state == FAILED:
        raise failure(live, job.error)
    return job, pictures


def failure(live: LiveJob, reason: str | None) -> ErrorReply:
    """Return the error for a failed job: caused by the request, the server, or a full disk."""
    if live.invalid:
        return ErrorReply(422, "invalid", reason or "the picture cannot be drawn")
    if live.no_room:
        return ErrorReply(507, "no_room", reason or "the server could not write to its disk")
    return ErrorReply(500, "failed", reason or "the picture could not be drawn")


async def disconnected(request: Request) -> None:
    """Wait until the client disconnects. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
