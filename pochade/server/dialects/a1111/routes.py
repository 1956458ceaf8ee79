"""The API of A1111's web UI, /sdapi/v1: the reply contains the finished pictures."""

import base64
import json
import time
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

import pochade
from pochade.errors import InvalidRequest
from pochade.jobs import accounts
from pochade.jobs.live import LiveJob
from pochade.jobs.orders import UPSCALE, Order, Upscale, read_order
from pochade.jobs.records import QUEUED, RUNNING, Job, Picture
from pochade.request_options import Variation
from pochade.server.await_job import outcome
from pochade.server.dialects.a1111 import listings
from pochade.server.dialects.a1111.conversion import chosen_of, submitted_order, upscaler_of
from pochade.server.dialects.a1111.responses import (
    A1111ErrorBody,
    A1111ImagesReply,
    A1111ProgressReply,
    ExtraBatchReply,
    ExtraSingleReply,
    Nothing,
    PngInfoReply,
)
from pochade.server.dialects.a1111.schemas import (
    DrawBody,
    ExtraBatchBody,
    ExtraBody,
    ExtraSingleBody,
    ImageBody,
    InterrogateBody,
    PngInfoBody,
    TextBody,
)
from pochade.server.dialects.a1111.settings import picture_format
from pochade.server.dialects.a1111.unsupported_fields import refuse
from pochade.server.downloads import converted
from pochade.server.middleware import ErrorReply
from pochade.server.receive import MIDDLE_BYTES
from pochade.server.request_bodies import Route, left_out
from pochade.server.service import Service
from pochade.server.submission import SubmittedOrder
from pochade.server.uploads import Inputs, content_of
from pochade.server.views import picture_parameters

PREFIX = "/sdapi/v1"
DIALECT = "a1111"
BODIES: Mapping[str, int | None] = {
    **dict.fromkeys(("/txt2img", "/img2img", "/extra-single-image", "/extra-batch-images"), None),
    **dict.fromkeys(("/png-info", "/interrogate"), None),
    "/options": MIDDLE_BYTES,  # some clients post all of A1111's options back
}
"""Routes whose bodies may be large, see `receive.BodyLimits`."""
NAMES = {401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error"}

ERRORS: Mapping[int | str, dict[str, Any]] = {
    "4XX": {"model": A1111ErrorBody},
    "5XX": {"model": A1111ErrorBody},
}


def answer(trouble: ErrorReply, request_id: str) -> Response:
    """Format an error as A1111's API does."""
    body = {
        "error": NAMES.get(trouble.status, "HTTPException"),
        "detail": trouble.message,
        "body": "",
        "errors": trouble.message,
    }
    return JSONResponse(body, trouble.status, headers=dict(trouble.headers or {}))


def router(service: Service) -> APIRouter:
    """Return the routes of a service."""
    routes = APIRouter(prefix=PREFIX, tags=["a1111"], route_class=Route, responses=dict(ERRORS))

    @routes.post("/txt2img", response_model=A1111ImagesReply)
    async def txt2img(request: Request, body: TextBody) -> Any:
        return await drawn(request, body)

    @routes.post("/img2img", response_model=A1111ImagesReply)
    async def img2img(request: Request, body: ImageBody) -> Any:
        return await drawn(request, body)

    async def drawn(request: Request, body: DrawBody) -> dict[str, Any]:
        owner = request.state.owner
        chosen = await service.ask(accounts.choices_of, owner)
        inputs = Inputs(_no_stored_picture, service.check_picture)
        has_pictures = isinstance(body, ImageBody) or bool(body.alwayson_scripts)
        prepare = service.decoding if has_pictures else run_in_threadpool
        order = await prepare(submitted_order, body, chosen, service.catalogue, inputs)
        live = await service.submit(owner, order)
        await save_overrides(owner, body)
        job, pictures = await outcome(service, request, live)
        send = body.send_images is not False
        kind = picture_format({**chosen, **(body.override_settings or {})})
        images = await run_in_threadpool(_encoded, service, pictures, kind) if send else []
        info = {**_info(job, pictures), "left_out": list(order.left_out)}
        return {"images": images, "parameters": _echo(body), "info": json.dumps(info)}

    async def save_overrides(owner: str, body: DrawBody) -> None:
        """Store the overridden settings of a request that asks not to restore them afterwards."""
        if body.override_settings_restore_afterwards is False:
            await service.ask(
                accounts.choose, owner, chosen_of(body.override_settings or {}, service.catalogue)
            )

    # --- extras ---------------------------------------------------------------------------------------------

    @routes.post("/extra-single-image", response_model=ExtraSingleReply)
    async def extra_single(request: Request, body: ExtraSingleBody) -> Any:
        return {"html_info": left_out_of(body), "image": await upscaled(request, body, body.image)}

    @routes.post("/extra-batch-images", response_model=ExtraBatchReply)
    async def extra_batch(request: Request, body: ExtraBatchBody) -> Any:
        images = [await upscaled(request, body, each.data) for each in body.imageList]
        return {"html_info": left_out_of(body), "images": images}

    def left_out_of(body: ExtraBody) -> str:
        """Return a note that lists the unknown fields."""
        names = ", ".join(left_out(body))
        return escape(f"left out: {names}") if names else ""

    async def upscaled(request: Request, body: ExtraBody, image: str) -> str:
        refuse(body)
        inputs = Inputs(_no_stored_picture, service.check_picture)
        number = await service.decoding(inputs.add, image, "image")
        to_size = body.resize_mode == 1
        size = body.upscaling_resize_w or 512, body.upscaling_resize_h or 512
        if not all(1 <= side <= service.limits.side for side in size):
            raise InvalidRequest(
                f"upscaling_resize_w and _h are {size[0]} and {size[1]}; each must lie between 1 and"
                f" {service.limits.side}"
            )
        scale = 2.0 if body.upscaling_resize is None else body.upscaling_resize
        upscale = Upscale(
            image=number,
            scale=1.0 if to_size else scale,
            size=size if to_size else None,
            crop=bool(body.upscaling_crop),
            upscaler=upscaler_of(body.upscaler_1, service.catalogue),
        )
        order = Order(kind=UPSCALE, model="", upscale=upscale, dialect=DIALECT)
        live = await service.submit(request.state.owner, SubmittedOrder(order=order, inputs=inputs.contents))
        _, pictures = await outcome(service, request, live)
        kind = picture_format(await service.ask(accounts.choices_of, request.state.owner))
        images = await run_in_threadpool(_encoded, service, pictures, kind)
        return images[0] if images else ""

    @routes.post("/png-info", response_model=PngInfoReply)
    async def png_info(body: PngInfoBody) -> Any:
        parameters = await service.decoding(
            lambda: picture_parameters(service, content_of(body.image, "image"))
        )
        items = {"parameters": parameters["text"]} if parameters["text"] else {}
        values = {
            "Prompt": parameters["prompt"],
            "Negative prompt": parameters["negative_prompt"],
            **parameters["values"],
        }
        return {
            "info": parameters["text"],
            "items": items,
            "parameters": values if parameters["text"] else {},
        }

    @routes.post("/interrogate", response_model=Nothing)
    async def interrogate(body: InterrogateBody) -> Any:
        raise ErrorReply(404, "not_found", "Model not found: captioning pictures is not supported")

    # --- progress -------------------------------------------------------------------------------------------

    @routes.get("/progress", response_model=A1111ProgressReply)
    async def progress(request: Request, skip_current_image: bool = False) -> Any:
        jobs = jobs_of(request.state.owner)
        live = next((job for job in jobs if job.state == RUNNING), None)
        return _progress(service, live, jobs, skip_current_image)

    @routes.post("/interrupt", response_model=Nothing)
    async def interrupt(request: Request) -> Any:
        await cancel_running(request.state.owner, "keep")
        return {}

    @routes.post("/skip", response_model=None)
    async def skip(request: Request) -> None:
        await cancel_running(request.state.owner, "skip")

    def jobs_of(owner: str) -> list[LiveJob]:
        """Return the user's jobs that were submitted through this API."""
        return [live for live in service.live_jobs.of(owner) if live.accepted and live.dialect == DIALECT]

    async def cancel_running(owner: str, how: str) -> None:
        for live in [job for job in jobs_of(owner) if job.state == RUNNING]:
            await service.cancel(owner, live.id, how)

    listings.add(routes, service)
    return routes


def _no_stored_picture(picture: str) -> bytes:
    raise InvalidRequest("pictures must be sent in base64")


def _encoded(service: Service, pictures: Sequence[Picture], kind: tuple[str, int]) -> list[str]:
    """Return the files in base64, without those removed meanwhile. kind: format and quality."""
    found = [(picture, service.storage.output(picture.path)) for picture in pictures]
    contents = [(path.read_bytes(), picture.text) for picture, path in found if path.is_file()]
    name, quality = kind
    return [
        base64.b64encode(
            content if name == "PNG" else converted(content, name, text, quality=quality)
        ).decode()
        for content, text in contents
    ]


def _echo(body: DrawBody) -> dict[str, Any]:
    """Return the parameters of the request, with defaults."""
    given = body.model_dump(exclude={"override_settings", "alwayson_scripts"})
    if isinstance(body, ImageBody) and not body.include_init_images:
        given |= {"init_images": None, "mask": None}
    return given


def _info(job: Job, pictures: Sequence[Picture]) -> dict[str, Any]:
    order = read_order(job.order)
    request = order.request
    seeds = [picture.seed for picture in pictures]
    variation, source, hires = request.variation or Variation(), request.source, request.hires
    strength = hires.denoising_strength if hires is not None else None
    strength = strength if source is None else source.denoising_strength
    first = pictures[0] if pictures else None
    return {
        "prompt": request.prompt,
        "all_prompts": [picture.prompt for picture in pictures],
        "negative_prompt": request.negative_prompt,
        "all_negative_prompts": [request.negative_prompt for _ in pictures],
        "seed": seeds[0] if seeds else request.seed,
        "all_seeds": seeds,
        "subseed": variation.seed,
        "all_subseeds": [variation.seed + number for number in range(len(pictures))],
        "subseed_strength": variation.strength,
        "width": first.width if first is not None else request.width,
        "height": first.height if first is not None else request.height,
        "sampler_name": request.sampler,
        "cfg_scale": request.cfg_scale,
        "steps": request.steps,
        "batch_size": request.batch_size,
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": job.model,
        "sd_model_hash": _parameter(first, "Model hash"),
        "sd_vae_name": None,
        "sd_vae_hash": None,
        "seed_resize_from_w": (variation.size or (-1, -1))[0],
        "seed_resize_from_h": (variation.size or (-1, -1))[1],
        "denoising_strength": strength,
        "extra_generation_params": {"Schedule type": request.schedule},
        "index_of_first_image": 0,
        "infotexts": [picture.text for picture in pictures],
        "styles": [],
        "job_timestamp": time.strftime("%Y%m%d%H%M%S", time.gmtime(job.created)),
        "clip_skip": request.clip_skip,
        "is_using_inpainting_conditioning": False,
        "version": f"pochade {pochade.__version__}",
    }


def _parameter(picture: Picture | None, name: str) -> str | None:
    from pochade.images.metadata import read_parameters

    return None if picture is None else read_parameters(picture.text).values.get(name)


def _progress(
    service: Service, live: LiveJob | None, jobs: Sequence[LiveJob], skip_image: bool
) -> dict[str, Any]:
    """Return the progress. When idle, progress and job_count are 0: clients wait for exactly that."""
    waiting = [job for job in jobs if job.state == QUEUED]
    left = 0.0
    for each in jobs:
        place = service.live_jobs.queue_position(each.id)
        left = max(left, 0.0 if place is None else place.seconds_left)
    image = live.previews[0].partition(",")[2] if live is not None and live.previews else None
    began = live.created if live is not None else time.time()
    return {
        "progress": 0.0 if live is None else max(0.001, round(live.share(), 4)),
        "eta_relative": round(left, 3),
        "state": {
            "skipped": False,
            "interrupted": live is not None and live.interrupted,
            "stopping_generation": False,
            "job": "" if live is None else live.id,
            "job_count": len(waiting) + (live is not None),
            "job_timestamp": time.strftime("%Y%m%d%H%M%S", time.gmtime(began)),
            "job_no": 0,
            "sampling_step": 0 if live is None else live.step,
            "sampling_steps": 0 if live is None else live.steps,
        },
        "current_image": None if skip_image else image,
        "textinfo": f"{len(waiting)} in line" if waiting else None,
        "current_task": None if live is None else (live.label or live.id),
    }
