"""SDXL and its refiner (Podell et al. 2023), whose UNets also take the pooled text and sizes."""

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pochade.checkpoints.folder import Checkpoint
from pochade.configs.networks import AnyAutoencoderConfig, AutoencoderConfig, TextEncoderConfig, UNetConfig
from pochade.diffusion.schedule import FOR_XL
from pochade.families.clip import CLIP, encode
from pochade.families.family import Conditioned, Configs, Traits
from pochade.families.stable_diffusion import SD1, context_inputs, unet_traits
from pochade.models.embedding import embed_sizes

Floats = NDArray[np.float32]

PLEASING, UNPLEASING = 6.0, 2.5
"""The aesthetic scores that XL's refiner takes with a prompt and with a negative prompt, by its authors."""

NEEDS_PICTURE = (
    "SDXL's refiner, which has seen little noise and draws over pictures only; give it a picture (--init), or"
    " name it beside the base model (--refiner)"
)


def traits(configs: Configs) -> Traits:
    """Derive the traits as for any UNet; XL's refiner needs a picture."""
    is_refiner = takes_aesthetic_score(configs.denoiser, configs.text_encoders[-1])
    return replace(unet_traits(configs), needs_picture=NEEDS_PICTURE if is_refiner else "")


def added_inputs(configs: Configs, rows: Conditioned) -> dict[str, Floats]:
    """Return the context and the embedded pooled text and sizes; the refiner has a score instead of the
    target size."""
    inputs = context_inputs(configs, rows)
    config = configs.denoiser
    if config.added_width is None:
        return inputs
    conditionings = rows.conditionings
    pooled = np.concatenate([each.pooled for each in conditionings])
    original, crop = (rows.height, rows.width), (0, 0)
    sizes: list[tuple[float, ...]] = [(*original, *crop, *original)] * len(conditionings)
    if takes_aesthetic_score(config, configs.text_encoders[-1]):
        scores = [PLEASING if i < rows.prompts else UNPLEASING for i in range(len(conditionings))]
        sizes = [(*original, *crop, score) for score in scores]
    return {**inputs, "added": embed_sizes(config, pooled, sizes)}


def takes_aesthetic_score(config: UNetConfig, encoder: TextEncoderConfig) -> bool:
    """Whether it is XL's refiner, which takes five numbers besides the pooled text instead of six."""
    if config.added_width is None or config.added_time_width is None:
        return False
    pooled = encoder.projection_width or encoder.width
    return config.added_width == pooled + 5 * config.added_time_width


def needs_range(autoencoder: AnyAutoencoderConfig) -> bool:
    """Whether the autoencoder's activations overflow f16: true for XL, unless its configuration says
    otherwise.

    The same entry in other families' configurations is a default without meaning, as in diffusers.
    """
    return isinstance(autoencoder, AutoencoderConfig) and autoencoder.force_upcast


def zeros_for_no_text(checkpoint: Checkpoint) -> bool:
    """Whether an empty negative prompt is encoded as zeros instead of the text "", as in SDXL's base
    model."""
    return bool(checkpoint.model_index.get("force_zeros_for_empty_prompt", True))


XL = replace(
    SD1,
    label="SDXL",
    latents="SDXL",
    text_encoders=(CLIP, CLIP),
    needs_range=needs_range,
    traits=traits,
    encode=partial(encode, penultimate=True),
    no_text=zeros_for_no_text,
    constant_inputs=added_inputs,
    levels=FOR_XL,
    trained_here=False,
)
REFINER = replace(XL, label="SDXL refiner", text_encoders=(CLIP,))
"""The refiner takes over from the base model at low noise levels, and only has XL's second text encoder."""
