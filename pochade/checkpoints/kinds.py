"""What a file of tensors is, told by its names: a whole checkpoint, a part of one, or something else."""

from collections.abc import Iterable
from pathlib import Path

from pochade.checkpoints.detect import REFINER, SD1, SD2, XL, Family
from pochade.errors import InvalidCheckpoint

UNET = "model.diffusion_model."
AUTOENCODER = "first_stage_model."
AVERAGE = "model_ema."

ENCODERS: tuple[tuple[str, Family], ...] = (
    ("conditioner.embedders.0.transformer.", XL),
    ("conditioner.embedders.0.model.", REFINER),
    ("cond_stage_model.transformer.", SD1),
    ("cond_stage_model.model.", SD2),
)
"""How the names of the (first) text encoder begin, by family."""

# A beginning of names that only this kind of file has, and what to say. The first that fits decides.
OTHERS: tuple[tuple[str, str], ...] = (
    ("model.diffusion_model.double_blocks.", "it is a Flux model, which is not supported"),
    ("double_blocks.", "it is a Flux model, which is not supported"),
    ("model.diffusion_model.joint_blocks.", "it is Stable Diffusion 3, which is not supported"),
    ("joint_blocks.", "it is Stable Diffusion 3, which is not supported"),
    ("edm_mean", "it predicts as EDM does (Playground 2.5), which is not supported"),
    ("model.diffusion_model.label_emb.weight", "it is an upscaling model, which is not supported"),
    ("control_model.", "it is a ControlNet; name the model itself, and this beside it (--control-model)"),
    (
        "controlnet_cond_embedding.",
        "it is a ControlNet; name the model itself, and this beside it (--control-model)",
    ),
    ("lora_unet_", "it is a LoRA, an addition to a model; name the model itself"),
    ("lora_te", "it is a LoRA, an addition to a model; name the model itself"),
    ("unet.", "it is a LoRA or another addition in diffusers' names; name the model itself"),
    ("emb_params", "it is a textual inversion, an addition to prompts; name the model itself"),
    ("string_to_param", "it is a textual inversion, an addition to prompts; name the model itself"),
    ("clip_g", "it is a textual inversion, an addition to prompts; name the model itself"),
    (
        "input_blocks.",
        "it is a UNet alone: text encoder and autoencoder are missing; fetch the whole checkpoint",
    ),
    (
        "down_blocks.",
        "it is a UNet alone, in diffusers' names: text encoder, autoencoder and configuration are missing;"
        " put it into a diffusers folder as unet/diffusion_pytorch_model.safetensors and name that folder",
    ),
    ("encoder.down", "it is an autoencoder alone; give it with vae=, beside a checkpoint"),
    ("first_stage_model.", "it is an autoencoder alone; give it with vae=, beside a checkpoint"),
    ("text_model.", "it is a text encoder alone; name a whole checkpoint or a diffusers folder"),
    ("taesd", "it is a tiny autoencoder; give it with vae=, beside a checkpoint"),
)


def find_family(names: Iterable[str], where: Path) -> Family:
    """The family of a whole checkpoint. Raises InvalidCheckpoint, saying what it is, for anything else."""
    names = list(names)
    unet = any(name.startswith(UNET) or name.startswith(f"{AVERAGE}diffusion_model") for name in names)
    foreign = OTHERS if not unet else [(begin, _) for begin, _ in OTHERS if begin.startswith("model.")]
    # EDM's keys come beside a UNet, and say what kind of checkpoint it is all the same.
    foreign = [*foreign, *(each for each in OTHERS if each[0].startswith("edm"))]
    for begin, what in foreign:
        if any(name.startswith(begin) for name in names):
            raise InvalidCheckpoint(f"'{where}' is no whole checkpoint of Stable Diffusion: {what}")
    if not unet:
        shown = ", ".join(f"'{name}'" for name in sorted(names)[:3]) or "none"
        raise InvalidCheckpoint(
            f"'{where}' is no checkpoint of Stable Diffusion: none of its {len(names):,} tensors begins with"
            f" '{UNET}' (the first are: {shown})"
        )
    for begin, family in ENCODERS:
        if any(name.startswith(begin) for name in names):
            return family
    parts = "" if any(name.startswith(AUTOENCODER) for name in names) else " and autoencoder"
    raise InvalidCheckpoint(
        f"'{where}' holds a UNet without its text encoder{parts} (no tensor begins with 'cond_stage_model.'"
        " or 'conditioner.'); fetch the whole checkpoint"
    )
