"""Convert requests in the format of A1111's web UI to orders.

A request for something that Pochade does not support is refused instead of drawn differently. Unknown fields
are left out and listed in the reply's `info`; ignorable fields are listed, with the reason, in
`unsupported_fields`.
"""

import io
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pochade.diffusion.samplers import UNIPC, find_sampler
from pochade.diffusion.schedule import AUTOMATIC, find_schedule, split_sampler_name
from pochade.errors import InvalidRequest
from pochade.jobs.catalogue import Catalogue
from pochade.jobs.job_request import JobRequest, JobSource
from pochade.jobs.orders import IMG2IMG, INPAINT, TXT2IMG, Order
from pochade.prompts.comments import without_comments
from pochade.prompts.extra_networks import extra_networks
from pochade.request import find_emphasis, find_rng
from pochade.request_options import Hires, Variation, find_resize_mode
from pochade.server.dialects.a1111.controlnet_units import controls
from pochade.server.dialects.a1111.infotext_fields import filled_in, not_filled_in
from pochade.server.dialects.a1111.schemas import DrawBody, ImageBody, TextBody
from pochade.server.dialects.a1111.scripts import check_scripts
from pochade.server.dialects.a1111.settings import CLIP_SKIP, KEPT, MODEL, check_settings, clip_skip, eta_of
from pochade.server.dialects.a1111.unsupported_fields import IGNORABLE, NONE, refuse
from pochade.server.middleware import ErrorReply
from pochade.server.request_bodies import MAX_REPORTED
from pochade.server.request_bodies import left_out as unknown_fields
from pochade.server.submission import SubmittedOrder
from pochade.server.uploads import Inputs

NAMED_OPTIONS = {"randn_source": ("rng", find_rng), "emphasis": ("emphasis", find_emphasis)}
"""A1111's options -> the field of a Request, and the function that looks up its value."""

FILLS = ("surroundings", "original", "noise", "nothing")
LATENT = {
    "latent (antialiased)": "Latent",
    "latent (bicubic antialiased)": "Latent (bicubic)",
    "latent (nearest-exact)": "Latent (nearest)",
    "none": "Lanczos",
}
"""A1111's upscalers that Pochade does not have, and the nearest ones that it has."""
SIDE = 8
LATENT_RESIZE = 3


def submitted_order(
    body: DrawBody, chosen: Mapping[str, Any], catalogue: Catalogue, inputs: Inputs
) -> SubmittedOrder:
    """Convert a body to an order. chosen: the user's options. Raises ErrorReply or InvalidRequest."""
    body = filled_in(body)
    refuse(body)
    left_out = check_scripts(body.alwayson_scripts)
    left_out += not_filled_in(body)
    left_out += [f"override_settings.{name}" for name in check_settings(body.override_settings or {})]
    left_out += [name for name in unknown_fields(body) if name not in IGNORABLE]
    settings = {**chosen, **(body.override_settings or {})}
    model = catalogue.model(_model(settings, catalogue))
    sampler, schedule = _sampler(body)
    if sampler == UNIPC["bh1", 3]:
        sampler = _unipc(settings)
    variation, size = None, (body.seed_resize_from_w or 0, body.seed_resize_from_h or 0)
    if body.seed_enable_extras is False:
        size = 0, 0
    elif body.subseed_strength or min(size) >= SIDE:
        subseed = body.subseed if body.subseed is not None and body.subseed >= 0 else None
        variation = Variation(
            seed=secrets.randbelow(2**32) if subseed is None else subseed,
            strength=body.subseed_strength or 0.0,
            size=size if min(size) >= SIDE else None,
        )
    source = _source(body, inputs) if isinstance(body, ImageBody) else None
    units, unknown = controls(
        body.alwayson_scripts,
        catalogue,
        inputs,
        _first_image(body),
        part_only=source is not None and source.only_masked,
    )
    left_out += unknown
    width, height, hires = _sizes(body, catalogue)
    request = JobRequest(
        prompt=_text(body, body.prompt),
        negative_prompt=_text(body, body.negative_prompt),
        seed=body.seed if body.seed is not None and body.seed >= 0 else None,
        steps=_or(body.steps, 50),
        cfg_scale=_or(body.cfg_scale, 7.0),
        width=width,
        height=height,
        sampler=sampler,
        schedule=schedule,
        eta=body.eta if body.eta is not None else eta_of(settings, sampler),
        clip_skip=clip_skip(settings),
        batch_size=_or(body.batch_size, 1),
        tiling=bool(body.tiling),
        variation=variation,
        hires=hires,
        source=source,
        controls=tuple(units),
        **named_settings(settings),
    )
    if model.few_steps is not None:
        # A1111's defaults do not suit such a model, so fields that were not sent stay unset.
        sent = body.model_fields_set
        unset = {name for name in ("steps", "cfg_scale") if name not in sent}
        if not sent & {"sampler_name", "sampler_index"}:
            unset |= {"sampler"} | ({"schedule"} if "scheduler" not in sent else set())
        nothing: dict[str, Any] = dict.fromkeys(unset)
        request = replace(request, **nothing)
    kind = TXT2IMG if source is None else INPAINT if source.mask is not None else IMG2IMG
    order = Order(kind=kind, model=model.name, request=request, count=_or(body.n_iter, 1), dialect="a1111")
    styles = [style for style in body.styles or () if style in catalogue.styles]
    left_out += [f"styles.{style}" for style in body.styles or () if style not in (*catalogue.styles, "None")]
    label = (body.force_task_id or "")[:100]
    named = [name[:100] for name in left_out[:MAX_REPORTED]]
    return SubmittedOrder(order=order, inputs=inputs.contents, styles=styles, label=label, left_out=named)


def chosen_of(settings: Mapping[str, Any], catalogue: Catalogue) -> dict[str, Any]:
    """Return the settings that are stored for a user, normalized. Raises ErrorReply or InvalidRequest."""
    check_settings(settings)
    given = {name: settings[name] for name in KEPT if settings.get(name) not in (None, "")}
    if MODEL in given:
        given[MODEL] = catalogue.model(str(given[MODEL])).name
    if CLIP_SKIP in given:
        given[CLIP_SKIP] = clip_skip(given)
    named_settings(given)  # raises for an unknown value
    return given


def named_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a Request that A1111 has as options. Raises ErrorReply for an unknown value."""
    found = {}
    for option, (field, find) in NAMED_OPTIONS.items():
        if settings.get(option) not in (None, ""):
            try:
                found[field] = find(str(settings[option]))
            except InvalidRequest as unknown:
                raise ErrorReply(422, "invalid", f"{option}: {unknown}", option) from unknown
    return found


def upscaler_of(name: str | None, catalogue: Catalogue) -> str:
    """Return Pochade's name of an upscaler. Raises ErrorReply if there is none."""
    wanted = LATENT.get((name or "None").strip().lower(), name or "Lanczos")
    try:
        catalogue.upscaler(wanted)
    except InvalidRequest as unknown:
        raise ErrorReply(400, "invalid", str(unknown), "upscaler") from unknown
    return wanted


# --- inside -----------------------------------------------------------------------------------------------


def _text(body: DrawBody, text: str | None) -> str:
    """Return a prompt without comments, and without `<lora:...>` tags if extra networks are disabled."""
    text = without_comments(text or "")
    return extra_networks(text)[0] if body.disable_extra_networks else text


def _sampler(body: DrawBody) -> tuple[str, str]:
    """Return sampler and schedule. Old clients send both in one name."""
    given = body.sampler_name if body.sampler_name not in NONE else body.sampler_index
    name, combined_schedule = split_sampler_name(given or "Euler")
    with _not_found("sampler_name"):
        sampler = find_sampler(name).label
        schedule = AUTOMATIC if body.scheduler in NONE else find_schedule(str(body.scheduler))
    return sampler, combined_schedule if schedule == AUTOMATIC and combined_schedule is not None else schedule


def _unipc(settings: Mapping[str, Any]) -> str:
    """Return the UniPC sampler that the options select. Raises ErrorReply for unsupported options."""
    variant, order = settings.get("uni_pc_variant", "bh1"), settings.get("uni_pc_order", 3)
    if settings.get("uni_pc_skip_type", "time_uniform") != "time_uniform":
        raise ErrorReply(
            422,
            "invalid",
            "UniPC supports only 'time_uniform' here; select a scheduler instead",
            "uni_pc_skip_type",
        )
    if settings.get("uni_pc_lower_order_final", True) is not True:
        why = "UniPC always ends with steps of lower order here; omit uni_pc_lower_order_final"
        raise ErrorReply(422, "invalid", why, "uni_pc_lower_order_final")
    if (variant, order) not in UNIPC:
        known = ", ".join(f"{name} of order {number}" for name, number in UNIPC)
        why = f"UniPC {str(variant)[:100]} of order {str(order)[:100]} is not available; one of: {known}"
        raise ErrorReply(422, "invalid", why, "uni_pc_variant")
    return UNIPC[variant, order]


@contextmanager
def _not_found(field: str) -> Iterator[None]:
    """Report unknown samplers and schedules in A1111's words."""
    try:
        yield
    except InvalidRequest as unknown:
        raise ErrorReply(400, "invalid", f"Sampler not found: {str(unknown)[:2000]}", field) from unknown


def _model(settings: Mapping[str, Any], catalogue: Catalogue) -> str:
    name = settings.get(MODEL)
    return catalogue.model(None if name is None else str(name)).name


def _sizes(body: DrawBody, catalogue: Catalogue) -> tuple[int, int, Hires | None]:
    """Return width and height of the first pass, and the settings of the second.

    Old clients send the size of the first pass separately.
    """
    width, height = _rounded(_or(body.width, 512)), _rounded(_or(body.height, 512))
    if not isinstance(body, TextBody) or not body.enable_hr:
        return width, height, None
    first = body.firstphase_width or 0, body.firstphase_height or 0
    if any(first) and not all(first):
        raise ErrorReply(
            422,
            "invalid",
            "firstphase_width and firstphase_height must be given together",
            "firstphase_width",
        )
    hires = _hires(body, catalogue)
    if not any(first):
        return width, height, hires
    return _rounded(first[0]), _rounded(first[1]), replace(hires, size=(width, height))


def _hires(body: TextBody, catalogue: Catalogue) -> Hires:
    size = None
    width, height = body.hr_resize_x or 0, body.hr_resize_y or 0
    if width or height:
        first = _rounded(_or(body.width, 512)), _rounded(_or(body.height, 512))
        size = (
            _rounded(width or height * first[0] // first[1]),
            _rounded(height or width * first[1] // first[0]),
        )
    return Hires(
        scale=_or(body.hr_scale, 2.0),
        size=size,
        upscaler=upscaler_of(body.hr_upscaler or "Latent", catalogue),
        steps=body.hr_second_pass_steps or None,
        denoising_strength=_or(body.denoising_strength, 0.75),
        **_hires_overrides(body),
    )


def _hires_overrides(body: TextBody) -> dict[str, Any]:
    """Return overrides of the second pass. An empty text or "Use same sampler" means that of the first."""
    sampler, schedule, model = (
        None if name in NONE or str(name).lower().startswith("use same ") else name
        for name in (body.hr_sampler_name, body.hr_scheduler, body.hr_checkpoint_name)
    )
    with _not_found("hr_sampler_name"):
        if sampler is not None:
            name, combined_schedule = split_sampler_name(sampler)
            sampler = find_sampler(name).label
            if combined_schedule is not None and (schedule is None or find_schedule(schedule) == AUTOMATIC):
                schedule = combined_schedule
        schedule = None if schedule is None else find_schedule(schedule)
    return {
        "prompt": _text(body, body.hr_prompt) if body.hr_prompt else None,
        "negative_prompt": _text(body, body.hr_negative_prompt) if body.hr_negative_prompt else None,
        "sampler": sampler,
        "schedule": schedule,
        "cfg_scale": body.hr_cfg,
        "model": model,
    }


def _source(body: ImageBody, inputs: Inputs) -> JobSource:
    if not body.init_images:
        raise ErrorReply(404, "not_found", "Init image not found", "init_images")
    if len(body.init_images) > 1:
        raise ErrorReply(422, "invalid", "only one init image is supported in a request", "init_images")
    image = inputs.add(body.init_images[0], "init_images[0]")
    masked = body.mask not in NONE
    return JobSource(
        image=image,
        mask=inputs.put(_mask(body, inputs, image)) if masked else None,
        denoising_strength=_or(body.denoising_strength, 0.75),
        resize_mode=_resize_mode(body, inputs, image),
        mask_blur=float(_blur(body)),
        fill=FILLS[_or(body.inpainting_fill, 0)],
        only_masked=bool(body.inpaint_full_res) and masked,
        padding=max(0, body.inpaint_full_res_padding or 0),
    )


def _resize_mode(body: ImageBody, inputs: Inputs, image: int) -> str:
    """Return the resize mode. Raises ErrorReply if the picture would have to be resized in latent space."""
    from pochade.images.decode import size_in_header

    mode = _or(body.resize_mode, 0)
    size = _rounded(_or(body.width, 512)), _rounded(_or(body.height, 512))
    if mode == LATENT_RESIZE and size_in_header(inputs.contents[image]) != size:
        raise ErrorReply(
            422,
            "invalid",
            "resize_mode 3 resizes latents, which is not supported; use 0, 1 or 2",
            "resize_mode",
        )
    return find_resize_mode(mode)


def _blur(body: ImageBody) -> int:
    """Return the mask blur. Raises ErrorReply if mask_blur_x and mask_blur_y differ."""
    if body.mask_blur is not None:
        return max(0, body.mask_blur)
    blur_x: int = _or(body.mask_blur_x, 4)
    blur_y: int = _or(body.mask_blur_y, 4)
    if blur_x != blur_y:
        raise ErrorReply(
            422,
            "invalid",
            f"mask_blur_x is {blur_x} and mask_blur_y {blur_y}; the two must be equal: send mask_blur",
            "mask_blur_x",
        )
    return max(0, blur_x)


def _mask(body: ImageBody, inputs: Inputs, image: int) -> bytes:
    """Return the mask as a PNG of the picture's size, white where the picture is redrawn."""
    from PIL import ImageOps

    from pochade.images.decode import read_mask, size_in_header
    from pochade.images.masks import gray

    number = inputs.add(str(body.mask), "mask")
    mask = gray(read_mask(inputs.contents.pop(number)))
    size = size_in_header(inputs.contents[image])
    if mask.size != size:
        mask = mask.resize(size)
    if body.inpainting_mask_invert:
        mask = ImageOps.invert(mask)
    file = io.BytesIO()
    mask.save(file, "PNG")
    return file.getvalue()


def _first_image(body: DrawBody) -> str | None:
    """Return the picture for ControlNet units that have none."""
    return body.init_images[0] if isinstance(body, ImageBody) and body.init_images else None


def _rounded(side: int) -> int:
    """Round down to whole latent pixels, as A1111 does."""
    return max(SIDE, side // SIDE * SIDE)


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value
