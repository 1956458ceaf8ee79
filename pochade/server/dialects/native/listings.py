"""The routes of the native API that list what is available."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request

import pochade
from pochade.diffusion.samplers import SAMPLERS
from pochade.diffusion.schedule import AUTOMATIC, SCHEDULES
from pochade.images.preprocessors import PREPROCESSORS
from pochade.images.upscaling import LATENT_UPSCALERS, UPSCALERS
from pochade.jobs import storage_usage
from pochade.jobs.records import QUEUED, RUNNING
from pochade.server.dialects.native.responses import (
    ControlNetsReply,
    EmbeddingsReply,
    LorasReply,
    ModelsReply,
    PreprocessorsReply,
    SamplersReply,
    SchedulesReply,
    StatusReply,
    StylesReply,
    UpscalersReply,
)
from pochade.server.dialects.native.schemas import JobBody
from pochade.server.service import Service
from pochade.server.views import model_descriptions, schedule_aliases


def add(routes: APIRouter, service: Service) -> None:
    """Add the routes to the native API."""

    @routes.get("/models", response_model=ModelsReply)
    async def models() -> Any:
        return {"models": model_descriptions(service)}

    @routes.post("/models/refresh", response_model=ModelsReply)
    async def refresh() -> Any:
        await service.refresh()
        return {"models": model_descriptions(service)}

    @routes.get("/samplers", response_model=SamplersReply)
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

    @routes.get("/schedules", response_model=SchedulesReply)
    async def schedules() -> Any:
        names = (AUTOMATIC, *SCHEDULES)
        return {"schedules": [{"name": name, "aliases": schedule_aliases(name)} for name in names]}

    @routes.get("/styles", response_model=StylesReply)
    async def styles() -> Any:
        return {"styles": [asdict(style) for style in service.catalogue.styles.values()]}

    @routes.get("/loras", response_model=LorasReply)
    async def loras() -> Any:
        return {"loras": [{"name": name, "title": name} for name in service.catalogue.loras]}

    @routes.get("/embeddings", response_model=EmbeddingsReply)
    async def embeddings() -> Any:
        return {"embeddings": [{"name": name, "title": name} for name in service.catalogue.embeddings]}

    @routes.get("/controlnets", response_model=ControlNetsReply)
    async def controlnets() -> Any:
        return {"controlnets": [{"name": name, "title": name} for name in service.catalogue.controlnets]}

    @routes.get("/preprocessors", response_model=PreprocessorsReply)
    async def preprocessors() -> Any:
        return {"preprocessors": [{"name": name} for name in PREPROCESSORS]}

    @routes.get("/upscalers", response_model=UpscalersReply)
    async def upscalers() -> Any:
        kinds = (
            ("picture", UPSCALERS),
            ("latent", LATENT_UPSCALERS),
            ("model", service.catalogue.upscaler_files),
        )
        return {"upscalers": [{"name": name, "kind": kind} for kind, names in kinds for name in names]}

    @routes.get("/defaults", response_model=JobBody)
    async def defaults() -> Any:
        default = service.catalogue.default
        usual = asdict(service.catalogue.model(default).defaults)
        return {**JobBody.model_validate({}).model_dump(), "model": default, **usual}

    def shows(job: str | None, owner: str) -> bool:
        """Whether a user may see a worker's model; the models of other users' jobs are hidden."""
        if len(service.keys.digests) < 2:
            return True
        live = None if job is None else service.live_jobs.live.get(job)
        return live is not None and live.owner == owner

    @routes.get("/status", response_model=StatusReply)
    async def status(request: Request) -> Any:
        owner, live_jobs = request.state.owner, service.live_jobs
        return {
            "version": pochade.__version__,
            "user": owner,
            "queue": {
                "queued": live_jobs.count(QUEUED),
                "running": live_jobs.count(RUNNING),
                "own_queued": live_jobs.count(QUEUED, owner),
                "own_running": live_jobs.count(RUNNING, owner),
                "seconds": round(live_jobs.seconds(), 3),
            },
            "workers": [
                {
                    "device": slot.device,
                    "state": slot.state,
                    "model": slot.model if shows(slot.job, owner) else "",
                    "restarts": slot.restarts,
                }
                for slot in service.workers.supervisor.slots
                if not slot.pulls
            ],
            "limits": asdict(service.limits),
            "storage": {
                "bytes": service.workers.stored_bytes,
                "budget_bytes": service.options.budget_bytes,
                "own_pinned_bytes": (await service.ask(storage_usage.stored, owner)).pinned,
                "pin_budget_bytes": service.options.pin_budget_bytes,
            },
        }
