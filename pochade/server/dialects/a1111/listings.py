"""Lists in the format of A1111's web UI: samplers, models and the like. Unsupported kinds are empty lists."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from pochade.adapters.library import names as names_in
from pochade.checkpoints.weight_files import open_tensors
from pochade.diffusion.samplers import SAMPLERS
from pochade.diffusion.schedule import AUTOMATIC, SCHEDULES
from pochade.errors import PochadeError
from pochade.images.upscaling import LATENT_UPSCALERS, UPSCALERS
from pochade.jobs import accounts
from pochade.machine import memory_bytes
from pochade.request import EMPHASES, RNG_NV
from pochade.server.dialects.a1111.conversion import chosen_of
from pochade.server.dialects.a1111.responses import (
    A1111EmbeddingsReply,
    FlagsReply,
    LatentUpscalerItem,
    LoraItem,
    MemoryReply,
    ModelItem,
    Nothing,
    SamplerItem,
    SchedulerItem,
    ScriptsReply,
    SetOptionsReply,
    StyleItem,
    UpscalerItem,
)
from pochade.server.dialects.a1111.scripts import CONTROLNET
from pochade.server.dialects.a1111.settings import check_settings
from pochade.server.request_bodies import MAX_REPORTED
from pochade.server.service import Service
from pochade.server.views import schedule_aliases

RHO = {"Karras": 7.0, "Polyexponential": 1.0}
EMPTY = ("sd-vae", "hypernetworks", "face-restorers", "realesrgan-models", "script-info", "extensions")
REFRESHED = ("refresh-checkpoints", "refresh-vae", "refresh-loras", "refresh-embeddings")


def add(routes: APIRouter, service: Service) -> None:
    """Add the routes."""

    def empty(name: str) -> None:
        @routes.get(f"/{name}", name=name, response_model=list[Any])
        async def nothing() -> Any:
            return []

    def refreshed(name: str) -> None:
        @routes.post(f"/{name}", name=name, response_model=None)
        async def refresh() -> None:
            await service.refresh()

    for name in EMPTY:
        empty(name)
    for name in REFRESHED:
        refreshed(name)

    @routes.get("/samplers", response_model=list[SamplerItem])
    async def samplers() -> Any:
        return [
            {"name": sampler.label, "aliases": [_alias(sampler.label)], "options": {}}
            for sampler in SAMPLERS.values()
        ]

    @routes.get("/schedulers", response_model=list[SchedulerItem])
    async def schedulers() -> Any:
        return [
            {
                "name": label.lower().replace(" ", "_"),
                "label": label,
                "aliases": schedule_aliases(label) or None,
                "default_rho": RHO.get(label, -1.0),
                "need_inner_model": label not in ("Karras", "Exponential", "Polyexponential"),
            }
            for label in (AUTOMATIC, *SCHEDULES)
        ]

    @routes.get("/upscalers", response_model=list[UpscalerItem])
    async def upscalers() -> Any:
        plain = ["None", *UPSCALERS]
        return [_upscaler(name, None, 1) for name in plain] + [
            _upscaler(name, name, 4) for name in service.catalogue.upscaler_files
        ]

    @routes.get("/latent-upscale-modes", response_model=list[LatentUpscalerItem])
    async def latent_upscale_modes() -> Any:
        return [{"name": name} for name in LATENT_UPSCALERS]

    @routes.get("/sd-models", response_model=list[ModelItem])
    async def sd_models() -> Any:
        return [
            {
                "title": model.name,
                "model_name": model.name.rpartition("/")[2],
                "hash": None,
                "sha256": None,
                "filename": model.path.name,
                "config": None,
            }
            for model in service.catalogue.models.values()
        ]

    @routes.get("/loras", response_model=list[LoraItem])
    async def loras() -> Any:
        return [
            {"name": name, "alias": name, "path": name, "metadata": {}} for name in service.catalogue.loras
        ]

    @routes.get("/prompt-styles", response_model=list[StyleItem])
    async def prompt_styles() -> Any:
        return [
            {"name": style.name, "prompt": style.prompt, "negative_prompt": style.negative_prompt}
            for style in service.catalogue.styles.values()
        ]

    @routes.get("/embeddings", response_model=A1111EmbeddingsReply)
    async def embeddings() -> Any:
        folders = service.options.folders.of("embedding")
        return await run_in_threadpool(_embeddings, folders, list(service.catalogue.embeddings))

    @routes.get("/scripts", response_model=ScriptsReply)
    async def scripts() -> Any:
        here = [CONTROLNET] if service.catalogue.controlnets else []
        return {"txt2img": here, "img2img": here}

    @routes.get("/cmd-flags", response_model=FlagsReply)
    async def cmd_flags() -> Any:
        return {"api": True}  # the server's command line is not disclosed

    @routes.get("/memory", response_model=MemoryReply)
    async def memory() -> Any:
        return {"ram": _ram(), "cuda": {"error": "unavailable"}}

    @routes.get("/options", response_model=dict[str, Any])
    async def options(request: Request) -> Any:
        return await options_of(service, request.state.owner)

    @routes.post("/options", response_model=SetOptionsReply | None)
    async def set_options(request: Request, body: dict[str, Any]) -> Any:
        options = chosen_of(body, service.catalogue)
        if options:
            await service.ask(accounts.choose, request.state.owner, options)
        unknown = [name[:100] for name in check_settings(body)[:MAX_REPORTED]]
        return {"left_out": unknown} if unknown else None

    @routes.post("/unload-checkpoint", response_model=Nothing)
    async def unload() -> Any:
        return {}  # models are loaded and unloaded per job

    @routes.post("/reload-checkpoint", response_model=Nothing)
    async def reload() -> Any:
        return {}


async def options_of(service: Service, owner: str) -> dict[str, Any]:
    """Return the user's options, with defaults for the rest and for a model that no longer exists."""
    chosen = await service.ask(accounts.choices_of, owner)
    if chosen.get("sd_model_checkpoint") not in service.catalogue.models:
        chosen["sd_model_checkpoint"] = service.catalogue.default
    return {
        "samples_format": "png",
        "sd_vae": "Automatic",
        "sd_checkpoint_hash": "",
        "CLIP_stop_at_last_layers": 1,
        "randn_source": RNG_NV,
        "emphasis": EMPHASES[0],
        **chosen,
    }


def _alias(label: str) -> str:
    return "k_" + label.lower().replace("++", "pp").replace(" ", "_")


def _upscaler(name: str, model: str | None, scale: int) -> dict[str, Any]:
    return {"name": name, "model_name": model, "model_path": None, "model_url": None, "scale": scale}


def _embeddings(folders: Sequence[Path], names: list[str]) -> dict[str, Mapping[str, Any]]:
    loaded, skipped = dict[str, Any](), dict[str, Any]()
    files = names_in(folders, "embeddings")
    for name in names:
        details = {"step": None, "sd_checkpoint": None, "sd_checkpoint_name": None, "shape": 0, "vectors": 0}
        try:
            (file,) = files.get(name, [])
            shape = _shape(file)
            loaded[name] = {**details, "shape": shape[-1], "vectors": shape[0] if len(shape) > 1 else 1}
        except (ValueError, PochadeError):  # removed meanwhile, ambiguous, or damaged
            skipped[name] = details
    return {"loaded": loaded, "skipped": skipped}


def _shape(path: Path) -> tuple[int, ...]:
    """Return the shape of the first tensor in an embedding's file."""
    tensors = open_tensors(path)
    return next((tuple(array.shape) for array in tensors.values() if array.ndim), (0,))


def _ram() -> dict[str, Any]:
    """Return memory in bytes, if the operating system reports it."""
    memory = memory_bytes()
    if memory is None:
        return {"error": "unavailable"}
    total, free = memory
    return {"free": free, "used": total - free, "total": total}
