"""Writes the parameters text (infotext) of a picture, from which it can be drawn again."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pochade
from pochade.images.metadata import Value, parameters_text
from pochade.images.upscaling import is_model_file
from pochade.request import EMPHASES, FILLED, Settled
from pochade.request_options import Control, Hires
from pochade.speed import EXACT

RESIZE_LABELS: Mapping[str, str] = {
    "stretch": "Just Resize",
    "crop": "Crop and Resize",
    "fill": "Resize and Fill",
}
"""Of `pochade.request_options.RESIZE_MODES`."""

PASS_LABELS: Mapping[str, str] = {"both": "Both", "first": "Low res only", "second": "High res only"}
"""Of `pochade.request_options.PASSES`."""


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """The models that drew a picture. hash: of the weights, if they are one file.

    additions: the hashes of adapters and embeddings. tags: tags of adapters that the prompt does not name.
    refiner: name and hash of the refiner. hires: those of the second pass' model, if it is another one.
    hires_tags: as tags, for the second pass' own prompt. vae, vae_hash: of the autoencoder, if one was given
    instead of the model's own.
    """

    model: str
    hash: str | None
    additions: Sequence[tuple[str, Value]] = ()
    tags: str = ""
    refiner: str | None = None
    hires: str | None = None
    hires_tags: str = ""
    vae: str | None = None
    vae_hash: str | None = None


def infotext(request: Settled, model_info: ModelInfo) -> str:
    """Return the parameters text. request: settled, with the picture's own seeds."""
    source, size = request.source, (request.width, request.height)
    if source is not None and request.framing == FILLED:
        size = source.image.size  # so that it is asked for when the picture is drawn again
    return parameters_text(
        prompt=request.prompt + model_info.tags,
        negative_prompt=request.negative_prompt,
        steps=request.steps,
        sampler=request.sampler,
        schedule=request.schedule,
        cfg_scale=request.cfg_scale,
        seed=request.seed,
        width=size[0],
        height=size[1],
        model_hash=model_info.hash,
        model=model_info.model,
        extra=[
            ("VAE hash", model_info.vae_hash),
            ("VAE", model_info.vae),
            *_variation(request),
            *_ways(request, model_info),
            *_refiner(request, model_info),
            *model_info.additions,
            *_rest(request),
        ],
        version=f"pochade {pochade.__version__}",
    )


def _variation(request: Settled) -> list[tuple[str, Value]]:
    variation, pairs = request.variation, list[tuple[str, Value]]()
    if request.blend is not None:
        pairs += [("Blend prompt", request.blend.prompt), ("Blend share", request.blend.share)]
    if variation is not None and variation.strength > 0:
        pairs += [("Variation seed", variation.seed), ("Variation seed strength", variation.strength)]
    if variation is not None and variation.size is not None:
        pairs.append(("Seed resize from", "{}x{}".format(*variation.size)))
    return pairs


def _ways(request: Settled, model_info: ModelInfo) -> list[tuple[str, Value]]:
    source, hires, pairs = request.source, request.hires, list[tuple[str, Value]]()
    if source is not None:
        pairs.append(("Denoising strength", source.denoising_strength))
        if source.mask is not None:
            pairs += [("Mask blur", source.mask_blur), ("Masked content", source.fill)]
        if source.only_masked:
            pairs += [("Inpaint area", "Only masked"), ("Masked area padding", source.padding)]
    if hires is not None:
        size = ("Hires resize", "{}x{}".format(*hires.size)) if hires.size else ("Hires upscale", hires.scale)
        pairs += [("Denoising strength", hires.denoising_strength), size]
        if hires.steps is not None:
            pairs.append(("Hires steps", hires.steps))
        name = Path(hires.upscaler).stem if is_model_file(hires.upscaler) else hires.upscaler
        pairs.append(("Hires upscaler", name))
        pairs += _own_of_hires(hires, model_info)
    return [*pairs, *((f"ControlNet {i}", _control(each)) for i, each in enumerate(request.controls))]


def _own_of_hires(hires: Hires, model_info: ModelInfo) -> list[tuple[str, Value]]:
    """The second pass' own settings, under A1111's names; None means as in the first pass."""
    model = (
        None
        if hires.model is None or model_info.hires is None
        else re.sub(r"[,:\r\n]", "_", model_info.hires)
    )
    return [
        ("Hires checkpoint", model),
        ("Hires sampler", hires.sampler),
        ("Hires schedule type", hires.schedule),
        ("Hires prompt", None if hires.prompt is None else hires.prompt + model_info.hires_tags),
        ("Hires negative prompt", hires.negative_prompt),
        ("Hires CFG Scale", hires.cfg_scale),
    ]


def _refiner(request: Settled, model_info: ModelInfo) -> list[tuple[str, Value]]:
    if request.refiner is None or model_info.refiner is None:
        return []
    name = re.sub(r"[,:\r\n]", "_", model_info.refiner)
    return [("Refiner", name), ("Refiner switch at", request.refiner.switch)]


def _control(control: Control) -> str:
    """A ControlNet in the format of A1111's extension."""
    model = re.sub(r"[,:\r\n]", "_", Path(control.model).stem)
    return (
        f"Module: {control.preprocessor}, Model: {model}, Weight: {control.strength:g},"
        f" Resize Mode: {RESIZE_LABELS[control.resize_mode]}, Guidance Start: {control.start:g},"
        f" Guidance End: {control.end:g}, Control Mode: Balanced"
        f"{_own_of_control(control)}"
    )


def _own_of_control(control: Control) -> str:
    pairs = []
    if control.resolution is not None:
        pairs.append(f"Processor Res: {control.resolution}")
    if control.thresholds is not None:
        pairs += [
            f"Threshold {name}: {value:g}" for name, value in zip("AB", control.thresholds, strict=True)
        ]
    if control.passes != "both":
        pairs.append(f"Hr Option: {PASS_LABELS[control.passes]}")
    return "".join(f", {pair}" for pair in pairs)


def _rest(request: Settled) -> list[tuple[str, Value]]:
    pairs: list[tuple[str, Value]] = []
    if request.clip_skip > 1:
        pairs.append(("Clip skip", request.clip_skip))
    if request.eta is not None:
        pairs.append(("Eta DDIM" if request.sampler == "DDIM" else "Eta", request.eta))
    if request.guidance_rescale > 0:
        pairs.append(("CFG Rescale", request.guidance_rescale))
    if request.speed != EXACT:
        pairs.append(("Speed", request.speed))
    if request.tiling:
        pairs.append(("Tiling", "True"))
    pairs.append(("RNG", request.rng))
    if request.emphasis != EMPHASES[0]:
        pairs.append(("Emphasis", request.emphasis))
    if request.template not in ("", request.prompt):
        pairs.append(("Template", request.template))
    if request.negative_template not in ("", request.negative_prompt):
        pairs.append(("Negative Template", request.negative_template))
    return pairs
