"""What a file of tensors is, told by its names: a whole checkpoint, a part of one, or something else."""

from collections.abc import Iterable
from pathlib import Path

from pochade.checkpoints.detect import FORMATS, FileFormat
from pochade.checkpoints.keymaps import LEFT_OVERS
from pochade.checkpoints.upscaler import DENSE_BLOCKS, PREFIXES
from pochade.errors import InvalidCheckpoint

UNET = "model.diffusion_model."
AUTOENCODER = "first_stage_model."
AVERAGE = "model_ema."

ENCODERS: tuple[tuple[str, FileFormat], ...] = tuple(
    (each.encoders[0].prefix, each) for each in FORMATS.values()
)
"""How the names of the (first) text encoder begin, by family."""

OTHER = "other"

FLUX = "it is a Flux model, which is not supported"
SD3 = "it is Stable Diffusion 3, which is not supported"
CONTROLNET = "it is a ControlNet; name the model itself, and this beside it (--control-model)"
LORA = "it is a LoRA, an addition to a model; name the model itself"
ADDITION = "it is a LoRA or another addition in diffusers' names; name the model itself"
EMBEDDING = "it is a textual inversion, an addition to prompts; name the model itself"
VAE = "it is an autoencoder alone; give it with vae=, beside a checkpoint"
TINY_VAE = "it is a tiny autoencoder; give it with vae=, beside a checkpoint"
UPSCALER = "it is an upscaler; give it as --hires-upscaler, or to 'pochade upscale'"

BEGINNINGS: tuple[tuple[str, str, str], ...] = (
    (f"{UNET}double_blocks.", OTHER, FLUX),
    ("double_blocks.", OTHER, FLUX),
    (f"{UNET}joint_blocks.", OTHER, SD3),
    ("joint_blocks.", OTHER, SD3),
    ("edm_mean", OTHER, "it predicts as EDM does (Playground 2.5), which is not supported"),
    ("edm_vpred.", OTHER, "it predicts v as EDM does (CosXL and its like), which is not supported"),
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
        "it is a text encoder alone; name a whole checkpoint or a diffusers folder",
    ),
    (
        "input_blocks.",
        "unet",
        "it is a UNet alone: text encoder and autoencoder are missing; fetch the whole checkpoint",
    ),
    (
        "down_blocks.",
        "unet",
        "it is a UNet alone, in diffusers' names: text encoder, autoencoder and configuration are missing;"
        " put it into a diffusers folder as unet/diffusion_pytorch_model.safetensors and name that folder",
    ),
    *((f"{prefix}{begin}", "upscaler", UPSCALER) for prefix in PREFIXES for begin in DENSE_BLOCKS),
)
"""A beginning of names that only this kind of file has, the kind, and what to say where a whole checkpoint is
wanted. The first that fits decides."""


def find_beginning(
    names: Iterable[str], table: Iterable[tuple[str, str, str]] = BEGINNINGS
) -> tuple[str, str]:
    """Kind and sentence of the first beginning that any of the names has; OTHER and nothing if none has."""
    names = list(names)
    for begin, kind, what in table:
        if any(name.startswith(begin) for name in names):
            return kind, what
    return OTHER, ""


def find_family(names: Iterable[str], where: Path) -> FileFormat:
    """The family of a whole checkpoint. Raises InvalidCheckpoint, saying what it is, for anything else."""
    names = list(names)
    unet = any(name.startswith(UNET) or name.startswith(f"{AVERAGE}diffusion_model") for name in names)
    # Beside a UNet a file may have names of anything. What is inside it counts all the same, and so do EDM's
    # keys, which say what kind of checkpoint it is.
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
    # A left-over may carry the prefix of another family's encoder.
    parts_of_models = [name for name in names if name.rpartition(".")[2] not in LEFT_OVERS]
    for begin, family in ENCODERS:
        if any(name.startswith(begin) for name in parts_of_models):
            return family
    parts = "" if any(name.startswith(AUTOENCODER) for name in names) else " and autoencoder"
    raise InvalidCheckpoint(
        f"'{where}' holds a UNet without its text encoder{parts} (no tensor begins with 'cond_stage_model.'"
        " or 'conditioner.'); fetch the whole checkpoint"
    )
