"""The part of the native API that tells what there is."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request

import pochade
from pochade.diffusion.samplers import SAMPLERS
from pochade.diffusion.schedule import AUTOMATIC, SCHEDULES
from pochade.images.preprocessors import PREPROCESSORS
from pochade.images.upscaling import LATENT_UPSCALERS, UPSCALERS
from pochade.jobs import storage
from pochade.jobs.records import QUEUED, RUNNING
from pochade.server.desk import Desk
from pochade.server.dialects.native_bodies import JobBody
from pochade.server.telling import schedule_aliases, shown_models


def add(routes: APIRouter, desk: Desk) -> None:
    """Adds the routes to those of the native API."""

    @routes.get("/models")
    async def models() -> Any:
        return {"models": shown_models(desk)}

    @routes.post("/models/refresh")
    async def refresh() -> Any:
        await desk.refresh()
        return {"models": shown_models(desk)}

    @routes.get("/samplers")
    async def samplers() -> Any:
        return {
            "samplers": [
                {
                    "name": sampler.label,
                    "aliases": list(sampler.aliases),
                    "schedule": sampler.schedule,
                    "stochastic": sampler.stochastic,
                    "eta": "eta" in sampler.options,
                }
                for sampler in SAMPLERS.values()
            ]
        }

    @routes.get("/schedules")
    async def schedules() -> Any:
        names = (AUTOMATIC, *SCHEDULES)
        return {"schedules": [{"name": name, "aliases": schedule_aliases(name)} for name in names]}

    @routes.get("/styles")
    async def styles() -> Any:
        return {"styles": [asdict(style) for style in desk.catalogue.styles.values()]}

    @routes.get("/loras")
    async def loras() -> Any:
        return {"loras": [{"name": name, "title": name} for name in desk.catalogue.loras]}

    @routes.get("/embeddings")
    async def embeddings() -> Any:
        return {"embeddings": [{"name": name, "title": name} for name in desk.catalogue.embeddings]}

    @routes.get("/controlnets")
    async def controlnets() -> Any:
        return {"controlnets": [{"name": name, "title": name} for name in desk.catalogue.controlnets]}

    @routes.get("/preprocessors")
    async def preprocessors() -> Any:
        return {"preprocessors": [{"name": name} for name in PREPROCESSORS]}

    @routes.get("/upscalers")
    async def upscalers() -> Any:
        kinds = (
            ("picture", UPSCALERS),
            ("latent", LATENT_UPSCALERS),
            ("model", desk.catalogue.upscaler_files),
        )
        return {"upscalers": [{"name": name, "kind": kind} for kind, names in kinds for name in names]}

    @routes.get("/defaults")
    async def defaults() -> Any:
        default = desk.catalogue.default
        usual = asdict(desk.catalogue.model(default).usual)
        return {**JobBody.model_validate({}).model_dump(), "model": default, **usual}

    def shows(job: str | None, owner: str) -> bool:
        """Whether the model of a worker is this user's business: what others draw with is not."""
        if len(desk.keys.digests) < 2:
            return True
        live = None if job is None else desk.board.live.get(job)
        return live is not None and live.owner == owner

    @routes.get("/status")
    async def status(request: Request) -> Any:
        owner, board = request.state.owner, desk.board
        return {
            "version": pochade.__version__,
            "user": owner,
            "queue": {
                "queued": board.count(QUEUED),
                "running": board.count(RUNNING),
                "own_queued": board.count(QUEUED, owner),
                "own_running": board.count(RUNNING, owner),
                "seconds": round(board.seconds(), 3),
            },
            "workers": [
                {
                    "device": hand.device,
                    "state": hand.state,
                    "model": hand.model if shows(hand.job, owner) else "",
                    "restarts": hand.restarts,
                }
                for hand in desk.foreman.supervisor.hands
                if not hand.pulls
            ],
            "limits": asdict(desk.limits),
            "storage": {
                "bytes": desk.foreman.stored_bytes,
                "budget_bytes": desk.options.budget_bytes,
                "own_pinned_bytes": (await desk.ask(storage.stored, owner)).pinned,
                "pin_budget_bytes": desk.options.pin_budget_bytes,
            },
        }
