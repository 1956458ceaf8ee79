"""The routes of the native API that download models known by a short name."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from pochade.jobs import history, pulls
from pochade.server.dialects.native.responses import JobReply, KnownModelsReply, OfferReply
from pochade.server.dialects.native.schemas import PullBody
from pochade.server.middleware import ErrorReply
from pochade.server.service import Service


def add(routes: APIRouter, service: Service, show: Callable[..., dict[str, Any]]) -> None:
    """Add the routes to the native API. show: formats a job, as in `native.routes`."""

    @routes.get("/known-models", response_model=KnownModelsReply)
    async def known_models(request: Request) -> Any:
        """The models with a short name, and which of them are present. The hub is not contacted."""
        owner, here = request.state.owner, await service.present_models()
        fetched = {live.model: live for live in service.live_jobs.live.values() if live.pulls}
        listed = []
        for model in pulls.all_known():
            live = fetched.get(model.name)
            state = "here" if model.name in here else "missing" if live is None else live.state
            listed.append(
                {
                    **model.as_json(),
                    "state": state,
                    "job": None if live is None or live.owner != owner else live.id,
                    "fetched_bytes": 0 if live is None else live.fetched,
                    "total_bytes": 0 if live is None else live.to_fetch,
                }
            )
        return {"models": listed, "may_fetch": service.options.is_admin(owner)}

    @routes.post("/known-models/{name}/look-up", response_model=OfferReply)
    async def look_up(request: Request, name: str) -> Any:
        """Look up a model's licence and size on the hub. Nothing is downloaded."""
        check_admin(request)
        try:
            return asdict(await run_in_threadpool(pulls.look_up, name, service.options.folders))
        except pulls.HubError as error:
            raise ErrorReply(502, "hub", str(error)) from error

    @routes.post("/pulls", response_model=JobReply, status_code=202)
    async def pull(request: Request, body: PullBody) -> Any:
        """Download a model under the licence that the body accepts."""
        check_admin(request)
        live = await service.fetch(request.state.owner, body.model, body.licence, body.commit, body.label)
        job = await service.ask(history.find_job, live.id)
        assert job is not None
        return show(service, job, [])

    def check_admin(request: Request) -> None:
        if not service.options.is_admin(request.state.owner):
            raise ErrorReply(
                403,
                "forbidden",
                "only an administrator of this server may download models; administrators are named"
                " with --admin when it is started",
            )
