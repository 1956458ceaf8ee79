"""Detects configurations from the shapes of tensors.

Values that shapes do not show come from the family (`FileFormat`): how a width is divided into heads, the
groups of group norms, the scale of latents, the size of pictures. A file's metadata or `load(config=...)` can
override them. Tensors have the canonical names of `keymaps`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from pochade.checkpoints.ldm import UNetLayout, canonical_layout
from pochade.configs.networks import (
    AutoencoderConfig,
    ControlNetConfig,
    TextEncoderConfig,
    TinyAutoencoderConfig,
    UNetConfig,
)
from pochade.errors import InvalidCheckpoint

Array = npt.NDArray[Any]
Tensors = Mapping[str, Array]


@dataclass(frozen=True)
class StoredEncoder:
    """A CLIP text encoder in a single file.

    component: its folder in diffusers' layout. prefix: of its tensors' names. pad_id: its tokenizer's padding
    token. open_clip: whether it has OpenCLIP's training and names. projected: whether its pooled vector is.
    """

    component: str
    prefix: str
    pad_id: int
    open_clip: bool = False
    projected: bool = False


@dataclass(frozen=True, kw_only=True)
class FileFormat:
    """How checkpoints of a Stable Diffusion family are stored, and their common values that tensors do not
    show.

    label: of the family. encoders: its text encoders.
    pipeline: diffusers' class; index: further entries of its `model_index.json`.
    architecture: in the ModelSpec standard; architecture_v: the same of models that predict v.
    heads: of every attention in the UNet; None = each head is `head_width` wide.
    sample_sizes: the side of training latents, by prediction type.
    predicts_v: the default if nothing states the prediction type.
    """

    label: str
    encoders: tuple[StoredEncoder, ...]
    pipeline: str
    index: Mapping[str, Any]
    architecture: str
    architecture_v: str
    heads: int | None = None
    head_width: int = 64
    latent_scale: float = 0.18215
    sample_sizes: Mapping[str, int]
    predicts_v: bool = False

    @property
    def pad_ids(self) -> tuple[int, ...]:
        """The padding tokens of the tokenizers."""
        return tuple(each.pad_id for each in self.encoders)


END_ID = 49407
_CHECKED: Mapping[str, Any] = {"safety_checker": [None, None], "requires_safety_checker": False}
_SECOND: Mapping[str, Any] = {
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "tokenizer_2": ["transformers", "CLIPTokenizer"],
}
SD1 = FileFormat(
    label="SD 1.x",
    encoders=(StoredEncoder("text_encoder", "cond_stage_model.transformer.", END_ID),),
    pipeline="StableDiffusionPipeline",
    index=_CHECKED,
    architecture="stable-diffusion-v1",
    architecture_v="stable-diffusion-v1",
    heads=8,
    sample_sizes={"epsilon": 64, "v_prediction": 64},
)
SD2 = FileFormat(
    label="SD 2.x",
    encoders=(StoredEncoder("text_encoder", "cond_stage_model.model.", 0, open_clip=True),),
    pipeline="StableDiffusionPipeline",
    index=_CHECKED,
    architecture="stable-diffusion-v2-512",
    architecture_v="stable-diffusion-v2-768-v",
    sample_sizes={"epsilon": 64, "v_prediction": 96},
    predicts_v=True,
)
XL = FileFormat(
    label="SDXL",
    encoders=(
        StoredEncoder("text_encoder", "conditioner.embedders.0.transformer.", END_ID),
        StoredEncoder("text_encoder_2", "conditioner.embedders.1.model.", 0, open_clip=True, projected=True),
    ),
    pipeline="StableDiffusionXLPipeline",
    index={**_SECOND, "force_zeros_for_empty_prompt": True},
    architecture="stable-diffusion-xl-v1-base",
    architecture_v="stable-diffusion-xl-v1-base",
    latent_scale=0.13025,
    sample_sizes={"epsilon": 128, "v_prediction": 128},
)
REFINER = FileFormat(
    label="SDXL refiner",
    encoders=(
        StoredEncoder("text_encoder_2", "conditioner.embedders.0.model.", 0, open_clip=True, projected=True),
    ),
    pipeline="StableDiffusionXLImg2ImgPipeline",
    index={
        "text_encoder": [None, None],
        "tokenizer": [None, None],
        **_SECOND,
        "force_zeros_for_empty_prompt": False,
        "requires_aesthetics_score": True,
    },
    architecture="stable-diffusion-xl-v1-refiner",
    architecture_v="stable-diffusion-xl-v1-refiner",
    latent_scale=0.13025,
    sample_sizes={"epsilon": 128, "v_prediction": 128},
)
"""The refiner takes over from the base model at low noise levels, and only has XL's second text encoder."""

FORMATS: Mapping[str, FileFormat] = {each.label: each for each in (SD1, SD2, XL, REFINER)}
"""Label of the family -> file format."""


def detect_unet(tensors: Tensors, family: FileFormat, prediction: str, where: Path) -> UNetConfig:
    """Detect the configuration of a UNet. Raises InvalidCheckpoint for unknown blocks."""
    layout = canonical_layout(tensors)
    if not layout.down or len(layout.down) != len(layout.up) or layout.middle not in (0, 1, 3):
        raise InvalidCheckpoint(
            f"'{where}': its UNet has {len(layout.down)} levels on the way down, {len(layout.up)} on the way"
            f" up and {layout.middle} parts in the middle, which is not Stable Diffusion; is it complete?"
        )
    _check_layers(layout, where)
    guidance = tensors.get("time_embedding.cond_proj.weight")
    return replace(
        _shared(tensors, layout, family, where),
        out_channels=_shape(tensors, "conv_out.weight", where)[0],
        guidance_width=None if guidance is None else guidance.shape[1],
        sample_size=family.sample_sizes.get(prediction, family.sample_sizes["epsilon"]),
    )


def detect_controlnet(tensors: Tensors, where: Path) -> ControlNetConfig:
    """Detect the configuration of a ControlNet. Raises InvalidCheckpoint for unknown blocks."""
    layout = canonical_layout(tensors)
    if not layout.down or layout.middle not in (1, 3):
        raise InvalidCheckpoint(
            f"'{where}': its ControlNet has {len(layout.down)} levels on the way down and {layout.middle}"
            " parts in the middle, which is not Stable Diffusion; is it complete?"
        )
    linear = _attention(tensors, layout, where)[0]
    added = "add_embedding.linear_1.weight" in tensors
    family = XL if added else SD2 if linear else SD1
    hint = "controlnet_cond_embedding"
    hint_widths = [_shape(tensors, f"{hint}.conv_in.weight", where)[0]]
    while f"{hint}.blocks.{2 * len(hint_widths) - 1}.weight" in tensors:
        hint_widths.append(len(tensors[f"{hint}.blocks.{2 * len(hint_widths) - 1}.weight"]))
    return ControlNetConfig(
        unet=replace(_shared(tensors, layout, family, where), up_depths=()),
        picture_channels=_shape(tensors, f"{hint}.conv_in.weight", where)[1],
        hint_widths=tuple(hint_widths),
    )


def detect_tiny_autoencoder(tensors: Tensors, where: Path) -> TinyAutoencoderConfig:
    """Detect the configuration of a tiny autoencoder: a convolution without bias changes the resolution."""

    def blocks(coder: str) -> tuple[int, ...]:
        numbers = {int(name.split(".")[2]) for name in tensors if name.startswith(f"{coder}.layers.")}
        sizes = [0]
        for number in sorted(numbers):
            name = f"{coder}.layers.{number}"
            if f"{name}.conv.0.weight" in tensors:
                sizes[-1] += 1
            elif f"{name}.bias" not in tensors:
                sizes.append(0)
        return tuple(sizes)

    encoder = _shape(tensors, "encoder.layers.0.weight", where)
    decoder = _shape(tensors, "decoder.layers.0.weight", where)
    return TinyAutoencoderConfig(
        picture_channels=encoder[1],
        latent_channels=decoder[1],
        encoder_width=encoder[0],
        decoder_width=decoder[0],
        encoder_blocks=blocks("encoder"),
        decoder_blocks=blocks("decoder"),
    )


def detect_autoencoder(tensors: Tensors, family: FileFormat, where: Path) -> AutoencoderConfig:
    """Detect the configuration of an autoencoder. Raises InvalidCheckpoint for unknown blocks."""
    widths: list[int] = []
    while f"encoder.down_blocks.{len(widths)}.resnets.0.conv1.weight" in tensors:
        widths.append(len(tensors[f"encoder.down_blocks.{len(widths)}.resnets.0.conv1.weight"]))
    layers = 0
    while f"encoder.down_blocks.0.resnets.{layers}.conv1.weight" in tensors:
        layers += 1
    if not widths:
        raise InvalidCheckpoint(f"'{where}' contains no autoencoder with known blocks; is it complete?")
    return AutoencoderConfig(
        picture_channels=_shape(tensors, "encoder.conv_in.weight", where)[1],
        latent_channels=_shape(tensors, "decoder.conv_in.weight", where)[1],
        widths=tuple(widths),
        layers=layers,
        scale=family.latent_scale,
        attention="decoder.mid_block.attentions.0.to_q.weight" in tensors,
        quant_conv="quant_conv.weight" in tensors,
        post_quant_conv="post_quant_conv.weight" in tensors,
    )


def detect_text_encoder(tensors: Tensors, *, open_clip: bool, where: Path) -> TextEncoderConfig:
    """Detect the configuration of a text encoder. open_clip: trained by OpenCLIP, which uses the exact
    activation."""
    vocabulary, width = _shape(tensors, "embeddings.token_embedding.weight", where)
    layers = 0
    while f"encoder.layers.{layers}.mlp.fc1.weight" in tensors:
        layers += 1
    projection = tensors.get("text_projection.weight")
    return TextEncoderConfig(
        vocabulary=vocabulary,
        positions=_shape(tensors, "embeddings.position_embedding.weight", where)[0],
        width=width,
        feed_forward_width=_shape(tensors, "encoder.layers.0.mlp.fc1.weight", where)[0],
        layers=layers,
        heads=max(1, width // 64),
        activation="gelu" if open_clip else "quick_gelu",
        end_token=min(vocabulary - 1, END_ID),  # further rows are tokens added to CLIP's
        projection_width=None if projection is None else projection.shape[0],
    )


def describe_scheduler(prediction: str, *, zero_snr: bool) -> dict[str, Any]:
    """Return a `scheduler/scheduler_config.json` with the noise schedule of all families."""
    return {
        "_class_name": "EulerDiscreteScheduler",
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "num_train_timesteps": 1000,
        "prediction_type": prediction,
        "rescale_betas_zero_snr": zero_snr,
        "interpolation_type": "linear",
        "timestep_spacing": "trailing" if zero_snr else "leading",
        "steps_offset": 1,
    }


def describe_pipeline(family: FileFormat, in_channels: int) -> dict[str, Any]:
    """Return a `model_index.json`."""
    name = family.pipeline
    if in_channels == 9:
        name = name.replace("Pipeline", "InpaintPipeline")
    index: dict[str, Any] = {
        "_class_name": name,
        "_diffusers_version": "0.30.0",  # the version of this layout; inpainting pipelines require it
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
    }
    return {**index, **family.index}


# --- inside -------------------------------------------------------------------------------------------


def _shape(tensors: Tensors, name: str, where: Path) -> tuple[int, ...]:
    if name not in tensors:
        raise InvalidCheckpoint(
            f"'{where}' lacks the tensor '{name}'; the file is incomplete, download it again"
        )
    return tensors[name].shape


def _heads(width: int, family: FileFormat) -> int:
    return max(1, width // family.head_width) if family.heads is None else family.heads


def _shared(tensors: Tensors, layout: UNetLayout, family: FileFormat, where: Path) -> UNetConfig:
    """Detect what UNets and ControlNets have in common."""
    widths = tuple(len(tensors[f"down_blocks.{i}.resnets.0.conv1.weight"]) for i in range(len(layout.down)))
    linear, context = _attention(tensors, layout, where)
    down, middle, up = _depths(tensors, layout, where)
    added = tensors.get("add_embedding.linear_1.weight")
    return UNetConfig(
        in_channels=_shape(tensors, "conv_in.weight", where)[1],
        widths=widths,
        down_depths=down,
        mid_depth=None if layout.middle == 0 else middle,
        up_depths=up,
        heads=tuple(_heads(width, family) for width in widths),
        context_width=context,
        linear_projection=linear,
        added_width=None if added is None else added.shape[1],
        added_time_width=None if added is None else 256,
    )


def _check_layers(layout: UNetLayout, where: Path) -> None:
    """Up blocks have one more layer per level, for the last skip connection."""
    layers = [len(row) for row in layout.down]
    if [len(row) - 1 for row in layout.up] != layers[::-1]:
        raise InvalidCheckpoint(
            f"'{where}': its UNet has {layers} layers per level on the way down and"
            f" {[len(row) for row in layout.up]} on the way up; expected is one more on each level"
        )


def _attention(tensors: Tensors, layout: UNetLayout, where: Path) -> tuple[bool, int]:
    """(whether tokens are projected by a matrix instead of a 1x1 convolution, width of the conditioning)."""
    for way, rows in (("down_blocks", layout.down), ("up_blocks", layout.up)):
        for level, row in enumerate(rows):
            if row[:1] == (True,):
                block = f"{way}.{level}.attentions.0"
                query = f"{block}.transformer_blocks.0.attn2.to_k.weight"
                return len(_shape(tensors, f"{block}.proj_in.weight", where)) == 2, _shape(
                    tensors, query, where
                )[1]
    raise InvalidCheckpoint(f"'{where}': its UNet has no cross-attention; it is not a text-to-image model")


Depths = tuple[tuple[int, ...], ...]


def _depths(tensors: Tensors, layout: UNetLayout, where: Path) -> tuple[Depths, int, Depths]:
    """Transformer blocks after each residual block: down, in the middle, up."""

    def depth(block: str) -> int:
        count = 0
        while f"{block}.transformer_blocks.{count}.norm1.weight" in tensors:
            count += 1
        return count

    def way(name: str, rows: tuple[tuple[bool, ...], ...]) -> Depths:
        for level, row in enumerate(rows):
            if any(row) and not all(row):
                raise InvalidCheckpoint(
                    f"'{where}': level {level} of its UNet's {name} attends after some layers and not after"
                    " others, which is not supported"
                )
        return tuple(
            tuple(depth(f"{name}.{level}.attentions.{i}") if attends else 0 for i, attends in enumerate(row))
            for level, row in enumerate(rows)
        )

    middle = depth("mid_block.attentions.0")
    return way("down_blocks", layout.down), middle, way("up_blocks", layout.up)
