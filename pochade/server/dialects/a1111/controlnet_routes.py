"""The routes of the ControlNet extension, /controlnet: lists, and running a preprocessor on pictures.

The units of a request for pictures are read in `controlnet_units`.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter
from pydantic import Field

from pochade.images.preprocessors import PREPROCESSORS
from pochade.jobs import limits
from pochade.request import MAX_CONTROLS
from pochade.server.dialects.a1111.controlnet_units import module_of, thresholds_of
from pochade.server.dialects.a1111.responses import (
    A1111ErrorBody,
    ControlNetModelsReply,
    ControlTypesReply,
    DetectReply,
    ModulesReply,
    SettingsReply,
    VersionReply,
)
from pochade.server.dialects.a1111.schemas import A1111Body, Whole
from pochade.server.middleware import ErrorReply
from pochade.server.request_bodies import Route, left_out
from pochade.server.service import Service
from pochade.server.uploads import content_of

PREFIX = "/controlnet"
BODIES: Mapping[str, int | None] = {"/detect": None}
"""Routes whose bodies may be large, see `receive.BodyLimits`."""
VERSION = 3
"""The version of the extension's API."""

RESOLUTION = 512
"""The default resolution of a preprocessor, px of the shorter side."""

ERRORS: Mapping[int | str, dict[str, Any]] = {
    "4XX": {"model": A1111ErrorBody},
    "5XX": {"model": A1111ErrorBody},
}


class DetectBody(A1111Body):
    controlnet_module: str = "none"
    controlnet_input_images: list[str] = Field([], max_length=MAX_CONTROLS)
    controlnet_masks: list[Any] | None = None
    controlnet_processor_res: Whole | None = RESOLUTION
    controlnet_threshold_a: float | None = None
    controlnet_threshold_b: float | None = None
    low_vram: bool | None = False


def router(service: Service) -> APIRouter:
    """Return the routes of a service."""
    routes = APIRouter(prefix=PREFIX, tags=["a1111"], route_class=Route, responses=dict(ERRORS))

    @routes.get("/version", response_model=VersionReply)
    async def version() -> Any:
        return {"version": VERSION}

    @routes.get("/model_list", response_model=ControlNetModelsReply)
    async def model_list() -> Any:
        return {"model_list": list(service.catalogue.controlnets)}

    @routes.get("/module_list", response_model=ModulesReply)
    async def module_list() -> Any:
        details = {name: {"model_free": False, "sliders": []} for name in PREPROCESSORS}
        return {"module_list": list(PREPROCESSORS), "module_detail": details}

    @routes.get("/control_types", response_model=ControlTypesReply)
    async def control_types() -> Any:
        everything = {
            "module_list": list(PREPROCESSORS),
            "model_list": ["None", *service.catalogue.controlnets],
            "default_option": "none",
            "default_model": "None",
        }
        return {"control_types": {"All": everything}}

    @routes.get("/settings", response_model=SettingsReply)
    async def settings() -> Any:
        return {"control_net_unit_count": MAX_CONTROLS}

    @routes.post("/detect", response_model=DetectReply)
    async def detect(body: DetectBody) -> Any:
        if not body.controlnet_input_images:
            raise ErrorReply(422, "invalid", "No image selected", "controlnet_input_images")
        if any(mask not in (None, "") for mask in body.controlnet_masks or ()):
            raise ErrorReply(422, "invalid", "masks are not supported; omit them", "controlnet_masks")
        images = await service.decoding(preprocessed_pictures, body, service.limits)
        unknown = left_out(body)
        return {"images": images, "info": "Success", **({"left_out": unknown} if unknown else {})}

    return routes


def preprocessed_pictures(body: DetectBody, allowed: limits.Limits) -> Sequence[str]:
    """Return the preprocessor's result for each picture, as PNG in base64.

    Raises ErrorReply or InvalidRequest for an invalid picture or option.
    """
    from pochade.images.decode import on_white, read_picture, size_in_header
    from pochade.images.fitting import fit
    from pochade.images.preprocessors import preprocessed

    unit = {
        "threshold_a": body.controlnet_threshold_a,
        "threshold_b": body.controlnet_threshold_b,
    }
    module = module_of(body.controlnet_module)
    thresholds = thresholds_of(unit, module)
    side = body.controlnet_processor_res
    if side is None or not 64 <= side <= 2048:
        side = RESOLUTION
    encoded = []
    for number, text in enumerate(body.controlnet_input_images):
        content = content_of(text, f"controlnet_input_images[{number}]")
        limits.check_size(*size_in_header(content), allowed)
        picture = on_white(read_picture(content))
        scale = side / min(picture.size)
        width, height = (max(1, round(each * scale)) for each in picture.size)
        if width * height > allowed.pixels:
            raise ErrorReply(
                422,
                "invalid",
                f"a picture would have {width} x {height} px; at most {allowed.pixels:,} are computed",
                "controlnet_processor_res",
            )
        canny_thresholds = None if thresholds is None else (thresholds[0], thresholds[1])
        file = io.BytesIO()
        preprocessed(fit(picture, width, height, "stretch"), module, canny_thresholds).save(file, "PNG")
        encoded.append(base64.b64encode(file.getvalue()).decode())
    return encoded
