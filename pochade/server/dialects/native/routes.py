"""The native API, /api/v1; see docs/api.md."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from pochade.jobs import history, idempotency
from pochade.jobs.history import Search
from pochade.jobs.live import Watcher
from pochade.jobs.orders import Order, read_order
from pochade.jobs.records import FAILED, FINISHED, LANES, QUEUED, RUNNING, STATES, Job, Picture
from pochade.server import login as session
from pochade.server.dialects.native import known_models, listings
from pochade.server.dialects.native.responses import (
    CancelledReply,
    ErrorBody,
    InfoReply,
    JobReply,
    JobsReply,
    LoginReply,
    PictureReply,
    PicturesReply,
    SessionReply,
    shown,
    shown_event,
    timestamp,
)
from pochade.server.dialects.native.schemas import CancelBody, InfoBody, JobBody, LoginBody, PinBody
from pochade.server.events import EventStream, written_event
from pochade.server.middleware import ErrorReply
from pochade.server.request_bodies import Route
from pochade.server.service import Service
from pochade.server.thumbnails import Thumbnails
from pochade.server.uploads import Inputs
from pochade.server.views import own_picture, picture_parameters

PREFIX = "/api/v1"
BODIES: Mapping[str, int | None] = {"/jobs": None, "/info": None}
"""Routes whose bodies may be large, see `receive.BodyLimits`."""
PING_S = 15.0
MOST_STREAMS = 100
"""Maximum number of open event streams of one user."""

ERRORS: Mapping[int | str, dict[str, Any]] = {key: {"model": ErrorBody} for key in ("4XX", "5XX")}

LANE_NAMES = {number: name for name, number in LANES.items()}
FOR_EVER = "private, max-age=31536000, immutable"


def answer(trouble: ErrorReply, request_id: str) -> Response:
    """Format an error for the native API."""
    error = {"code": trouble.code, "message": trouble.message}
    if trouble.field is not None:
        error["field"] = trouble.field
    return JSONResponse({"error": error}, trouble.status, headers=dict(trouble.headers or {}))


def router(service: Service, thumbnails: Thumbnails) -> APIRouter:
    """Return the routes of a service."""
    routes = APIRouter(prefix=PREFIX, tags=["native"], route_class=Route, responses=dict(ERRORS))

    def inputs_of(owner: str) -> Inputs:
        return Inputs(lambda own: own_picture(service, owner, own), service.check_picture)

    # --- jobs -----------------------------------------------------------------------------------------------

    @routes.post("/jobs", response_model=JobReply, status_code=202)
    async def submit(
        request: Request,
        body: JobBody,
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
    ) -> Any:
        owner, once = owner_of(request), None
        if idempotency_key is not None:
            once = await run_in_threadpool(lambda: idempotency.once(idempotency_key, body.model_dump_json()))
            before = await service.ask(idempotency.find, owner, once, service.clock())
            if before is not None:
                return await repeated(request, before)
        prepare = service.decoding if body.has_pictures else run_in_threadpool
        order = await prepare(body.to_order, inputs_of(owner))
        try:
            live = await service.submit(owner, order, once)
        except idempotency.RepeatedRequest as again:
            return await repeated(request, again.job)
        job = await service.ask(history.find_job, live.id)
        assert job is not None
        return show(service, job, []) | ({"left_out": body.left_out} if body.left_out else {})

    async def repeated(request: Request, job_id: str) -> dict[str, Any]:
        """Return the current state of the job of an earlier request."""
        try:
            return await shown_job(request, job_id)
        except ErrorReply as gone:
            why = (
                "the job with this Idempotency-Key was removed from the history; send the request again"
                " with another key"
            )
            raise ErrorReply(409, "conflict", why) from gone

    @routes.get("/jobs", response_model=JobsReply)
    async def jobs(
        request: Request,
        q: Annotated[str, Query(max_length=1000)] = "",
        state: Annotated[str, Query(max_length=100)] = "",
        kind: str | None = None,
        model: str | None = None,
        label: str | None = None,
        before: str | None = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> Any:
        wanted = state.replace("active", f"{QUEUED},{RUNNING}")
        states = tuple(each for each in wanted.split(",") if each)
        for each in states:
            if each not in STATES:
                raise ErrorReply(
                    422, "invalid", f"state is '{each}'; one of: active, {', '.join(STATES)}", "state"
                )
        search = Search(
            words=q,
            states=states,
            kind=kind,
            model=model,
            label=label,
            before=_cursor(before),
            limit=limit,
        )
        page = await service.ask(history.find_jobs, owner_of(request), search)
        pictures = await service.ask(history.pictures_of, [job.id for job in page.found])
        found = [show(service, job, pictures[job.id]) for job in page.found]
        return {"jobs": found, "next": _written(page.next)}

    @routes.post("/jobs/cancel", response_model=CancelledReply)
    async def cancel_all(request: Request) -> Any:
        return {"cancelled": await service.cancel_all(owner_of(request))}

    @routes.get("/jobs/{job_id}", response_model=JobReply)
    async def job(request: Request, job_id: str) -> Any:
        return await shown_job(request, job_id)

    @routes.post("/jobs/{job_id}/cancel", response_model=JobReply)
    async def cancel(request: Request, job_id: str, body: Annotated[CancelBody | None, Body()] = None) -> Any:
        how = "keep" if body is not None and body.keep else "cancel"
        state = await service.cancel(owner_of(request), job_id, how)
        if state not in (None, QUEUED, RUNNING):
            raise ErrorReply(409, "conflict", f"the job has already ended: {state}")
        return await shown_job(request, job_id)

    @routes.post("/jobs/{job_id}/skip", response_model=JobReply)
    async def skip(request: Request, job_id: str) -> Any:
        state = await service.cancel(owner_of(request), job_id, "skip")
        if state not in (None, RUNNING):
            raise ErrorReply(
                409, "conflict", f"the job is {state}; only a job that is being drawn can be skipped"
            )
        return await shown_job(request, job_id)

    @routes.delete("/jobs/{job_id}", status_code=204)
    async def remove_job(request: Request, job_id: str) -> Response:
        owner = owner_of(request)
        found = await service.ask(history.find_job, job_id, owner)
        if found is None:
            raise not_found("job")
        if not found.over:
            await service.cancel(owner, job_id)
            return Response(status_code=204)
        gone = await service.workers.remove(history.remove_job, job_id, owner)
        await service.remove_pictures(gone or [])
        return Response(status_code=204)

    async def shown_job(request: Request, job_id: str) -> dict[str, Any]:
        found = await service.ask(history.find_job, job_id, owner_of(request))
        if found is None:
            raise not_found("job")
        pictures = await service.ask(history.pictures_of, [job_id])
        return show(service, found, pictures[job_id])

    # --- events ---------------------------------------------------------------------------------------------

    @routes.get("/jobs/{job_id}/events", response_class=EventStream, status_code=200)
    async def job_events(request: Request, job_id: str) -> Response:
        owner = owner_of(request)
        if job_id not in service.live_jobs.live:
            found = await service.ask(history.find_job, job_id, owner)
            if found is None:
                raise not_found("job")
            if found.over:
                pictures = (await service.ask(history.pictures_of, [job_id]))[job_id]
                return EventStream(_once(_last_event(found, pictures)))
        elif service.live_jobs.live[job_id].owner != owner:
            raise not_found("job")
        return stream(service, owner, job_id)

    @routes.get("/events", response_class=EventStream, status_code=200)
    async def events(request: Request) -> Response:
        return stream(service, owner_of(request), None)

    # --- pictures -------------------------------------------------------------------------------------------

    @routes.get("/pictures", response_model=PicturesReply)
    async def pictures(
        request: Request,
        q: Annotated[str, Query(max_length=1000)] = "",
        model: str | None = None,
        label: str | None = None,
        pinned: bool | None = None,
        before: str | None = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> Any:
        search = Search(words=q, model=model, label=label, pinned=pinned, before=_cursor(before), limit=limit)
        page = await service.ask(history.find_pictures, owner_of(request), search)
        return {"pictures": [shown(each) for each in page.found], "next": _written(page.next)}

    async def found_picture(request: Request, picture_id: str) -> Picture:
        found = await service.ask(history.find_picture, picture_id, owner_of(request))
        if found is None:
            raise not_found("picture")
        return found

    @routes.get("/pictures/{picture_id}", response_class=FileResponse)
    async def picture(request: Request, picture_id: str, download: bool = False) -> Response:
        found = await found_picture(request, picture_id)
        path = service.storage.output(found.path)
        if not path.is_file():
            raise not_found("picture")
        name = f"{found.id}.png" if download else None
        return FileResponse(path, media_type="image/png", filename=name, headers={"cache-control": FOR_EVER})

    @routes.get("/pictures/{picture_id}/thumbnail", response_class=Response)
    async def thumbnail(request: Request, picture_id: str) -> Response:
        found = await found_picture(request, picture_id)
        content = await thumbnails.of(service.storage.output(found.path))
        return Response(content, media_type="image/jpeg", headers={"cache-control": FOR_EVER})

    @routes.get("/pictures/{picture_id}/about", response_model=PictureReply)
    async def about(request: Request, picture_id: str) -> Any:
        return shown(await found_picture(request, picture_id))

    @routes.post("/pictures/{picture_id}/pin", response_model=PictureReply)
    async def pin(request: Request, picture_id: str, body: PinBody) -> Any:
        pinned = picture_id, owner_of(request), body.pinned
        found = await service.ask(history.pin, *pinned, service.options.pin_budget_bytes)
        if found is None:
            raise not_found("picture")
        return shown(found)

    @routes.delete("/pictures/{picture_id}", status_code=204)
    async def remove_picture(request: Request, picture_id: str) -> Response:
        gone = await service.workers.remove(history.remove_picture, picture_id, owner_of(request))
        if gone is None:
            raise not_found("picture")
        await service.remove_pictures([gone])
        return Response(status_code=204)

    @routes.post("/info", response_model=InfoReply)
    async def info(request: Request, body: InfoBody) -> Any:
        owner = owner_of(request)

        def read() -> dict[str, Any]:
            inputs = inputs_of(owner)
            inputs.add(body.image, "image")
            return picture_parameters(service, inputs.contents[0])

        return await service.decoding(read)

    # --- sessions -------------------------------------------------------------------------------------------

    @routes.get("/session", response_model=SessionReply)
    async def who(request: Request) -> Any:
        return {"user": request.state.owner, "login_required": bool(service.keys)}

    @routes.post("/login", response_model=LoginReply)
    async def login(request: Request, body: LoginBody) -> Response:
        return await session.login(service, request, body.key)

    @routes.post("/logout", response_model=LoginReply)
    async def logout(request: Request) -> Response:
        return await session.logout(service, request)

    listings.add(routes, service)
    known_models.add(routes, service, show)
    return routes


def owner_of(request: Request) -> str:
    """Return the user, as set by the middleware."""
    owner: str = request.state.owner
    return owner


def not_found(what: str) -> ErrorReply:
    return ErrorReply(404, "not_found", f"there is no such {what} of yours")


def show(service: Service, job: Job, pictures: list[Picture]) -> dict[str, Any]:
    """Format a job, see docs/api.md. The live state takes precedence over the row."""
    live = service.live_jobs.live.get(job.id)
    place = service.live_jobs.queue_position(job.id)
    order = read_order(job.order)
    request = _shown_request(order)
    progress = None
    if live is not None and live.state == RUNNING and (live.steps or live.to_fetch):
        state = service.live_jobs.progress(live)
        progress = {name: state[name] for name in state if name != "seconds_left"}
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "model": job.model,
        "lane": LANE_NAMES[job.lane],
        "label": job.label,
        "created": timestamp(job.created),
        "started": None if job.started is None else timestamp(job.started),
        "ended": None if job.ended is None else timestamp(job.ended),
        "position": place.position if place is not None and job.state == QUEUED else None,
        "predicted_seconds": round(job.cost, 3),
        "seconds_left": None if place is None or job.over else round(place.seconds_left, 3),
        "progress": progress,
        "request": request,
        "pictures": [shown(each) for each in pictures],
        "error": job.error,
        "attempts": job.attempts,
    }


def _shown_request(order: Order) -> dict[str, Any]:
    """Return the request without the pictures that were sent with it."""
    if order.pull is not None:
        return {"licence": order.pull.licence, "commit": order.pull.commit}
    request: dict[str, Any] = {**asdict(order.request), "count": order.count, "expand": order.expand}
    if request["source"] is not None:
        request["source"] |= {"image": None, "mask": None}
    request["controls"] = [{**each, "image": None} for each in request["controls"]]
    if order.upscale is not None:
        request["upscale"] = {"scale": order.upscale.scale, "upscaler": order.upscale.upscaler, "image": None}
    return request


def stream(service: Service, owner: str, job: str | None) -> Response:
    if sum(watcher.owner == owner for watcher in service.live_jobs.watchers) >= MOST_STREAMS:
        raise ErrorReply(
            429,
            "too_many",
            f"{MOST_STREAMS} streams of yours are open; close some",
            headers={"Retry-After": "5"},
        )
    watcher = service.live_jobs.watch(owner, job)
    return EventStream(_events(watcher), lambda: service.live_jobs.unwatch(watcher))


async def _events(watcher: Watcher) -> AsyncIterator[str]:
    yield ": here\n\n"
    while True:
        try:
            event = await watcher.next(PING_S)
        except StopAsyncIteration:
            return
        if event is None:
            yield ": still here\n\n"
        elif event["type"] != "partial":  # of another dialect
            yield written_event(event["type"], shown_event(event))


async def _once(event: dict[str, Any]) -> AsyncIterator[str]:
    yield written_event(event["type"], shown_event(event))


def _last_event(job: Job, pictures: list[Picture]) -> dict[str, Any]:
    event: dict[str, Any] = {"type": job.state, "job": job.id, "label": job.label}
    if job.state == FINISHED:
        event["pictures"] = pictures
        event["seconds"] = round((job.ended or 0.0) - (job.started or 0.0), 3)
    elif job.state == FAILED:
        event["error"] = job.error
    return event


def _cursor(text: str | None) -> tuple[float, str] | None:
    if text is None:
        return None
    created, _, row = text.partition("_")
    try:
        return float.fromhex(created), row
    except (ValueError, OverflowError) as wrong:
        raise ErrorReply(
            422, "invalid", "before must be the 'next' value of an earlier page", "before"
        ) from wrong


def _written(place: tuple[float, str] | None) -> str | None:
    return None if place is None else f"{place[0].hex()}_{place[1]}"
