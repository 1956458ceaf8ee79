"""Identifies a file of tensors or a diffusers folder by the names and shapes of its tensors.

No weights are read.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pochade.checkpoints.detect import FORMATS, FileFormat
from pochade.checkpoints.few_steps import FewSteps, few_steps_of_folder, find_few_steps, titles_of
from pochade.checkpoints.folder import folder_name, format_of_configs, is_listed
from pochade.checkpoints.grids import are_grids
from pochade.checkpoints.json_files import read_table
from pochade.checkpoints.keymaps import IGNORED_SUFFIXES
from pochade.checkpoints.overrides import Overrides
from pochade.checkpoints.prediction import check_scheduler, read_yaml_prediction
from pochade.checkpoints.readers import reader_of_file, reader_of_folder
from pochade.checkpoints.upscaler import DENSE_BLOCKS, PREFIXES
from pochade.checkpoints.weight_files import open_tensors
from pochade.errors import InvalidCheckpoint

UNET = "model.diffusion_model."
AUTOENCODER = "first_stage_model."
AVERAGE = "model_ema."

ENCODERS: tuple[tuple[str, FileFormat], ...] = tuple(
    (each.encoders[0].prefix, each) for each in FORMATS.values()
)
"""The prefix of the first text encoder's names, by family."""

OTHER = "other"

FLUX = "it is a Flux model, which is not supported"
SD3 = "it is Stable Diffusion 3, which is not supported"
CONTROLNET = "it is a ControlNet; name the model, and give this file as --control-model"
LORA = "it is a LoRA, not a whole model; name the model it is for"
ADDITION = "it is a LoRA or another adapter with diffusers' names; name the model it is for"
EMBEDDING = "it is a textual inversion embedding; name the model it is for"
VAE = "it is only an autoencoder; give it as vae=, together with a checkpoint"
TINY_VAE = "it is a tiny autoencoder; give it as vae=, together with a checkpoint"
UPSCALER = "it is an upscaler; give it as --hires-upscaler, or to 'pochade upscale'"

BEGINNINGS: tuple[tuple[str, str, str], ...] = (
    (f"{UNET}double_blocks.", OTHER, FLUX),
    ("double_blocks.", OTHER, FLUX),
    (f"{UNET}joint_blocks.", OTHER, SD3),
    ("joint_blocks.", OTHER, SD3),
    ("edm_mean", OTHER, "it has EDM preconditioning (Playground 2.5), which is not supported"),
    ("edm_vpred.", OTHER, "it has EDM v-prediction (CosXL and similar models), which is not supported"),
    (f"{UNET}label_emb.weight", OTHER, "it is an upscaling model, which is not supported"),
    ("control_model.", "controlnet", CONTROLNET),
    ("controlnet_", "controlnet", CONTROLNET),
    ("lora_", "lora", LORA),
    ("unet.", "lora", ADDITION),
    ("text_encoder.", "lora", ADDITION),
    ("text_encoders.", "lora", ADDITION),
    *((f"{clip}.t", "lora", ADDITION) for clip in ("clip_l", "clip_g", "clip_h")),
    ("diffusion_model.", "lora", ADDITION),
    ("lycoris_", "lora", ADDITION),
    ("base_model.model.", "lora", ADDITION),
    *((begin, "embedding", EMBEDDING) for begin in ("emb_params", "string_to_param", "clip_g", "clip_l")),
    ("encoder.down", "vae", VAE),
    (AUTOENCODER, "vae", VAE),
    ("decoder.layers.0.weight", "vae", TINY_VAE),
    ("taesd", "vae", TINY_VAE),
    (
        "text_model.",
        "text encoder",
        "it is only a text encoder; name a whole checkpoint or a diffusers folder",
    ),
    (
        "input_blocks.",
        "unet",
        "it is only a UNet: text encoder and autoencoder are missing; download the whole checkpoint",
    ),
    (
        "down_blocks.",
        "unet",
        "it is only a UNet, with diffusers' names: text encoder, autoencoder and configuration are missing;"
        " put it into a diffusers folder as unet/diffusion_pytorch_model.safetensors and name that folder",
    ),
    *((f"{prefix}{begin}", "upscaler", UPSCALER) for prefix in PREFIXES for begin in DENSE_BLOCKS),
)
"""(prefix that only this kind of file has, kind, error message if a whole checkpoint is expected).

The first match decides.
"""

MODEL, UNREADABLE = "model", "unreadable"
PARTS = tuple(dict.fromkeys(kind for _, kind, _ in BEGINNINGS if kind != OTHER))
KINDS = (MODEL, *PARTS, OTHER, UNREADABLE)
FIRST_LAYER = f"{UNET}input_blocks.0.0.weight"
GUIDANCE_EMBEDDING = f"{UNET}time_embed.cond_proj.weight"
INPAINTING_CHANNELS = 9


@dataclass(frozen=True)
class Contents:
    """What a file or folder contains.

    kind: one of KINDS. family: of a model, such as "SD 1.x"; otherwise the reason why it is not a model, or
    "".
    few_steps: the settings of a model that was distilled for few steps.
    """

    kind: str
    family: str = ""
    few_steps: FewSteps | None = None


def contents_of(path: Path) -> Contents:
    """Identify a file or a diffusers folder. Reads headers and configurations only.

    A damaged file, or one without tensors, is UNREADABLE; no exception is raised.
    """
    return _of_folder(path) if path.is_dir() else _of_file(path)


def missing_component(index: Mapping[str, Any]) -> str:
    """Return the first component that a `model_index.json` lacks for Stable Diffusion 1.x, 2.x or XL, or
    ""."""
    refines = is_listed(index, "text_encoder_2") and not is_listed(index, "text_encoder")
    words = ("text_encoder_2", "tokenizer_2") if refines else ("text_encoder", "tokenizer")
    parts = ("unet", "vae", *words, "scheduler")
    return next((part for part in parts if not is_listed(index, part)), "")


def find_beginning(
    names: Iterable[str], table: Iterable[tuple[str, str, str]] = BEGINNINGS
) -> tuple[str, str]:
    """Return kind and message of the first prefix that any name has; OTHER and "" if none has one."""
    names = list(names)
    for begin, kind, what in table:
        if any(name.startswith(begin) for name in names):
            return kind, what
    return OTHER, ""


def find_family(names: Iterable[str], where: Path) -> FileFormat:
    """Return the family of a whole checkpoint. Raises InvalidCheckpoint, saying what it is, for anything
    else."""
    names = list(names)
    unet = any(name.startswith(UNET) or name.startswith(f"{AVERAGE}diffusion_model") for name in names)
    # A file with a UNet may hold any other names too. Only names inside the UNet and EDM's keys decide what
    # kind of checkpoint it is.
    foreign = BEGINNINGS if not unet else [each for each in BEGINNINGS if each[0].startswith((UNET, "edm"))]
    what = find_beginning(names, foreign)[1]
    if what:
        raise InvalidCheckpoint(f"'{where}' is not a whole checkpoint of Stable Diffusion: {what}")
    if not unet:
        shown = ", ".join(f"'{name}'" for name in sorted(names)[:3]) or "none"
        raise InvalidCheckpoint(
            f"'{where}' is not a checkpoint of Stable Diffusion: none of its {len(names):,} tensors begins"
            f" with '{UNET}' (the first are: {shown})"
        )
    # Unused tensors may have the prefix of another family's encoder.
    parts_of_models = [name for name in names if name.rpartition(".")[2] not in IGNORED_SUFFIXES]
    for begin, family in ENCODERS:
        if any(name.startswith(begin) for name in parts_of_models):
            return family
    parts = "" if any(name.startswith(AUTOENCODER) for name in names) else " and autoencoder"
    raise InvalidCheckpoint(
        f"'{where}' holds a UNet without its text encoder{parts} (no tensor begins with 'cond_stage_model.'"
        " or 'conditioner.'); download the whole checkpoint"
    )


# --- inside -----------------------------------------------------------------------------------------------


def _of_file(path: Path) -> Contents:
    try:
        tensors = open_tensors(path)
    except InvalidCheckpoint as error:
        return Contents(UNREADABLE, str(error).partition(": ")[2])
    reader = reader_of_file(tensors)
    if reader is not None:
        return Contents(MODEL, reader.label, reader.few_steps(path, tensors.metadata))
    if any(name.startswith((UNET, AVERAGE)) for name in tensors):
        try:
            family = find_family(tensors, path)
            read_yaml_prediction(path)
        except InvalidCheckpoint as error:
            return Contents(OTHER, str(error).partition(". If")[0].rpartition(": ")[2])
        first = tensors.header.entries.get(FIRST_LAYER)
        channels = first.shape[1] if first is not None and len(first.shape) > 1 else 0
        scheduler = _own_configuration(tensors.metadata, path).get("scheduler", {})
        few_steps = find_few_steps(
            takes_guidance=GUIDANCE_EMBEDDING in tensors,
            classes=(scheduler.get("_class_name"),),
            titles=titles_of(tensors.metadata),
            name=path.stem,
            family=family,
        )
        inpainting = channels == INPAINTING_CHANNELS
        return Contents(MODEL, _described(family.label, inpainting=inpainting), few_steps)
    if are_grids(tensors.metadata):  # with the tensor names of a model
        return Contents(OTHER, "8-bit grids of a model")
    kind, what = find_beginning(tensors)
    return Contents(kind, what if kind == OTHER else "")


def _of_folder(folder: Path) -> Contents:
    try:
        index = read_table(folder / "model_index.json")
        reader = reader_of_folder(index)
        if reader is not None:
            return Contents(MODEL, reader.label, reader.few_steps(folder, {}))
        lacking = missing_component(index)
        if lacking:
            return Contents(OTHER, f"{index.get('_class_name', 'a pipeline')} without {lacking}")
        unet = read_table(folder / "unet" / "config.json")
        refines = not is_listed(index, "text_encoder")
        encoder = {} if refines else read_table(folder / "text_encoder" / "config.json")
        scheduler = read_table(folder / "scheduler" / "scheduler_config.json")
    except InvalidCheckpoint as error:
        return Contents(UNREADABLE, str(error))
    try:
        check_scheduler(scheduler, folder.name)
    except InvalidCheckpoint as error:
        return Contents(OTHER, str(error).partition(". If")[0])
    second = is_listed(index, "text_encoder_2") and not refines
    family = format_of_configs(unet, [encoder, *([{}] if second else [])])
    inpainting = unet.get("in_channels") == INPAINTING_CHANNELS
    few_steps = few_steps_of_folder(folder_name(folder), index, unet, scheduler, family)
    return Contents(MODEL, _described(family.label, inpainting=inpainting), few_steps)


def _own_configuration(metadata: Mapping[str, str], path: Path) -> Mapping[str, Mapping[str, Any]]:
    try:
        return Overrides.from_metadata(metadata, path).tables
    except InvalidCheckpoint:  # reported when it is loaded
        return {}


def _described(label: str, *, inpainting: bool) -> str:
    return f"{label}, inpainting" if inpainting else label
