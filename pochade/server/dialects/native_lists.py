"""The part of the native API that tells what there is."""

from collections.abc import Container
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request

import pochade
from pochade.diffusion.samplers import SAMPLERS
from pochade.diffusion.schedule import ALIASES, AUTOMATIC, SCHEDULES
from pochade.errors import InvalidRequest
from pochade.images.metadata import Parameters, read_parameters
from pochade.images.opening import opened
from pochade.images.preprocessors import PREPROCESSORS
from pochade.images.reading import text_of
from pochade.images.upscaling import LATENT_UPSCALERS, UPSCALERS
from pochade.jobs import limits
from pochade.jobs.records import QUEUED, RUNNING
from pochade.server.desk import Desk
from pochade.server.dialects.native_bodies import NOT_DRAWN, JobBody


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
                    "model": hand.model,
                    "restarts": hand.restarts,
                }
                for hand in desk.supervisor.hands
            ],
            "limits": asdict(desk.limits),
            "storage": {"bytes": desk.stored_bytes, "budget_bytes": desk.options.budget_bytes},
        }


def schedule_aliases(label: str) -> list[str]:
    return [alias for alias, name in ALIASES.items() if name == label]


def what_it_says(desk: Desk, content: bytes) -> dict[str, Any]:
    """Of a picture file: its text, read. Raises InvalidRequest if it is no picture."""
    with opened(content) as image:
        width, height = image.size
        limits.check_size(width, height, desk.limits)
    text = text_of(content)
    parameters = read_parameters(text)
    request, left_out = _request(text, parameters, desk.catalogue.models)
    return {
        "text": text,
        "prompt": parameters.prompt,
        "negative_prompt": parameters.negative_prompt,
        "values": dict(parameters.values),
        "request": request,
        "left_out": left_out,
        "width": width,
        "height": height,
    }


def _request(
    text: str, parameters: Parameters, known: Container[str]
) -> tuple[dict[str, Any] | None, list[str]]:
    """The fields of POST /jobs that a picture's text tells, and the names of what it tells of besides: what
    such a job would be drawn without. known: names of models."""
    if not text.strip():
        return None, []
    from pochade.pipeline.results.again import drawn_along, drawn_over, request_from

    try:
        found = request_from(text)
    except InvalidRequest:
        return None, []
    model = parameters.values.get("Model")
    without = {
        "model": model is not None and model not in known,
        "source": drawn_over(parameters),
        "controls": drawn_along(parameters),
        **{name: getattr(found, name) is not None for name in NOT_DRAWN},
    }
    request = asdict(found)
    for name in ("source", "controls", "template", "negative_template", "batch_size", *NOT_DRAWN):
        request.pop(name)
    request["model"] = None if without["model"] else model
    return request, [name for name, missing in without.items() if missing]


def shown_models(desk: Desk) -> list[dict[str, Any]]:
    """The models, the default one among them, as clients are told of them."""
    catalogue = desk.catalogue
    return [
        {
            "name": model.name,
            "title": model.name,
            "family": model.family,
            "kind": "inpainting" if "inpainting" in model.family else "model",
            "default": model.name == catalogue.default,
            "bytes": model.bytes,
            "size": desk.usual_size(model.name),
            "usual": asdict(model.usual),
            "few_steps": None
            if model.few_steps is None
            else {"kind": model.few_steps.kind, "reason": model.few_steps.reason},
        }
        for model in catalogue.models.values()
    ]
