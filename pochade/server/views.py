"""Descriptions of models, schedules and pictures, shared by the dialects."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from pochade.diffusion.schedule import ALIASES
from pochade.errors import InvalidRequest
from pochade.images.decode import size_in_header
from pochade.images.embedded_text import text_of
from pochade.images.metadata import Parameters, read_parameters
from pochade.jobs import history, limits
from pochade.jobs.catalogue import Catalogue
from pochade.jobs.orders import NOT_DRAWN
from pochade.server.service import Service


def schedule_aliases(label: str) -> list[str]:
    """Return the aliases of a schedule."""
    return [alias for alias, name in ALIASES.items() if name == label]


def picture_parameters(service: Service, content: bytes) -> dict[str, Any]:
    """Read the parameters text of a picture file. Raises InvalidRequest if it is not a picture."""
    width, height = size_in_header(content)
    limits.check_size(width, height, service.limits)
    text = text_of(content)
    parameters = read_parameters(text)
    request, left_out = _request(text, parameters, service.catalogue)
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
    text: str, parameters: Parameters, catalogue: Catalogue
) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the fields of POST /jobs for a picture's text, and the names of settings that a job cannot
    reproduce.

    The names are fields of such a request, followed by settings in the text, such as "ENSD".
    """
    if not text.strip():
        return None, []
    from pochade.generation.infotext_request import has_controls, has_source, request_from
    from pochade.generation.infotext_unsupported import not_followed

    try:
        found = request_from(text)
    except InvalidRequest:
        return None, []
    model = parameters.values.get("Model")
    without = {
        "model": model is not None and model not in catalogue.models,
        "source": has_source(parameters),
        "controls": has_controls(parameters),
        "hires_model": found.hires is not None and not _is_known(found.hires.model, catalogue),
        **{name: getattr(found, name) is not None for name in NOT_DRAWN},
    }
    request = asdict(found)
    for name in ("source", "controls", "template", "negative_template", "batch_size", *NOT_DRAWN):
        request.pop(name)
    request["model"] = None if without["model"] else model
    if without["hires_model"]:
        request["hires"]["model"] = None
    names = [name for name, missing in without.items() if missing]
    return request, [*names, *not_followed(parameters.values)]


def _is_known(model: str | Path | None, catalogue: Catalogue) -> bool:
    """Return whether the model that a picture's text names is available. None: that of the first pass."""
    try:
        return model is None or catalogue.model(str(model)) is not None
    except InvalidRequest:
        return False


def model_descriptions(service: Service) -> list[dict[str, Any]]:
    """Describe the models for clients, with the default marked."""
    catalogue = service.catalogue
    return [
        {
            "name": model.name,
            "title": model.name,
            "family": model.family,
            "kind": "inpainting" if "inpainting" in model.family else "model",
            "default": model.name == catalogue.default,
            "bytes": model.bytes,
            "size": service.workers.native_sizes.get(model.name),
            "usual": asdict(model.defaults),
            "few_steps": None
            if model.few_steps is None
            else {"kind": model.few_steps.kind, "reason": model.few_steps.reason},
        }
        for model in catalogue.models.values()
    ]


def own_picture(service: Service, owner: str, picture: str) -> bytes:
    """Read one of the owner's pictures. Raises InvalidRequest if it does not exist."""
    found = history.find_picture(service.database, picture, owner)
    if found is None:
        raise InvalidRequest(f"there is no picture '{picture[:100]}' of yours")
    try:
        return service.storage.output(found.path).read_bytes()
    except OSError as error:
        raise InvalidRequest(f"the picture '{picture[:100]}' was removed") from error
