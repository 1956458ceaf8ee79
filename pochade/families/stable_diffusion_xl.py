"""SDXL and its refiner (Podell et al. 2023): the UNet is also told a pooled text and sizes."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pochade.checkpoints.folder import Checkpoint
from pochade.diffusion.schedule import FOR_XL
from pochade.families.clip import CLIP, encode_penultimate_layer
from pochade.families.family import Conditioned, Configs, Traits
from pochade.families.stable_diffusion import SD1, context_inputs, unet_traits
from pochade.models.config import AnyAutoencoderConfig, AutoencoderConfig, TextEncoderConfig, UNetConfig
from pochade.models.embedding import embed_sizes

Floats = NDArray[np.float32]

PLEASING, UNPLEASING = 6.0, 2.5
"""The scores that XL's refiner is told with a prompt and with a negative one, as its authors have it."""

NEEDS_PICTURE = (
    "SDXL's refiner, which has seen little noise and draws over pictures only; give it a picture (--init), or"
    " name it beside the base model (--refiner)"
)


def traits(configs: Configs) -> Traits:
    """As of any UNet; XL's refiner does not draw from nothing."""
    told = is_told_a_score(configs.denoiser, configs.text_encoders[-1])
    return replace(unet_traits(configs), needs_picture=NEEDS_PICTURE if told else "")


def added_inputs(configs: Configs, rows: Conditioned) -> dict[str, Floats]:
    """The text, its pooled vector, and sizes; in the refiner a score in place of the target size."""
    inputs = context_inputs(configs, rows)
    config = configs.denoiser
    if config.added_width is None:
        return inputs
    conditionings = rows.conditionings
    pooled = np.concatenate([each.pooled for each in conditionings])
    original, crop = (rows.height, rows.width), (0, 0)
    sizes: list[tuple[float, ...]] = [(*original, *crop, *original)] * len(conditionings)
    if is_told_a_score(config, configs.text_encoders[-1]):
        scores = [PLEASING if i < rows.prompts else UNPLEASING for i in range(len(conditionings))]
        sizes = [(*original, *crop, score) for score in scores]
    return {**inputs, "added": embed_sizes(config, pooled, sizes)}


def is_told_a_score(config: UNetConfig, encoder: TextEncoderConfig) -> bool:
    """Whether it is XL's refiner: beside the pooled text it has room for five numbers, not for six."""
    if config.added_width is None or config.added_time_width is None:
        return False
    pooled = encoder.projection_width or encoder.width
    return config.added_width == pooled + 5 * config.added_time_width


def needs_range(autoencoder: AnyAutoencoderConfig) -> bool:
    """Whether its activations pass what f16 holds: in XL, unless its configuration denies it.

    Other families' configurations say the same by default, and mean nothing by it, as in diffusers.
    """
    return isinstance(autoencoder, AutoencoderConfig) and autoencoder.force_upcast


def zeros_for_no_text(checkpoint: Checkpoint) -> bool:
    """Whether an empty negative prompt is no text at all, rather than the text ""; so in SDXL's base."""
    return bool(checkpoint.model_index.get("force_zeros_for_empty_prompt", True))


XL = replace(
    SD1,
    label="SDXL",
    latents="SDXL",
    text_encoders=(CLIP, CLIP),
    needs_range=needs_range,
    traits=traits,
    encode=encode_penultimate_layer,
    no_text=zeros_for_no_text,
    constant_inputs=added_inputs,
    levels=FOR_XL,
    trained_here=False,
)
REFINER = replace(XL, label="SDXL refiner", text_encoders=(CLIP,))
"""It takes over where the base has left little noise, and reads by XL's second text encoder alone."""
