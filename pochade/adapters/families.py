"""Detects the family that an adapter was trained for, for error messages if it does not fit the model."""

from collections.abc import Iterable, Mapping

from pochade.ops import Shape

WIDTHS: Mapping[int, str] = {768: "SD 1.x", 1024: "SD 2.x", 1280: "SDXL refiner", 2048: "SDXL"}
"""Width of the text conditioning -> family."""

DOWN = (".lora_down.weight", ".lora_A.weight", ".lora.down.weight")

TRAINER: Mapping[str, str] = {"sd_v1": "SD 1.x", "sd_1.5": "SD 1.x", "sd_v2": "SD 2.x", "sdxl": "SDXL"}
ARCHITECTURE: Mapping[str, str] = {
    "stable-diffusion-v1": "SD 1.x",
    "stable-diffusion-v2": "SD 2.x",
    "stable-diffusion-xl": "SDXL",
    "stable-diffusion-3": "SD 3",
    "flux": "Flux",
}
"""Prefixes of values in the metadata of kohya's trainer and of the ModelSpec standard."""

KEYS: Mapping[str, str] = {
    "double_blocks": "Flux",
    "single_transformer_blocks": "Flux",
    "joint_blocks": "SD 3",
    "lora_te2_": "SDXL",
    "lora_te1_": "SDXL",
    "text_encoder_2": "SDXL",
    "clip_g.": "SDXL",
}
"""Parts of keys that only one family has."""


def adapter_family(shapes: Mapping[str, Shape], metadata: Mapping[str, str]) -> str | None:
    """Detect the family from the keys, then from the widths of attention deltas, then from metadata; or
    None."""
    for mark, family in KEYS.items():
        if any(mark in key for key in shapes):
            return family
    for key, shape in shapes.items():
        reads_text = "attn2" in key and ("to_k" in key or "to_v" in key)
        if reads_text and key.endswith(DOWN) and len(shape) > 1 and shape[1] in WIDTHS:
            return WIDTHS[shape[1]]
    said = (
        (metadata.get("modelspec.architecture", ""), ARCHITECTURE),
        (
            metadata.get("ss_base_model_version", ""),
            TRAINER,
        ),
    )
    for value, known in said:
        for beginning, family in known.items():
            if value.lower().startswith(beginning):
                return family
    return None


def model_family(components: Mapping[str, Mapping[str, Shape]]) -> str | None:
    """Detect the family from the width of the text conditioning; None for unknown widths, as in tests."""
    widths = (shape[1] for name, shape in _items(components) if name.endswith(".attn2.to_k.weight"))
    return WIDTHS.get(next(widths, 0))


def _items(components: Mapping[str, Mapping[str, Shape]]) -> Iterable[tuple[str, Shape]]:
    return components.get("unet", {}).items()


def family_mismatch(adapter: str | None, model: str | None) -> str:
    """Return the end of a message: "; it was made for SDXL, the model is SD 1.x", or "" if both are
    unknown."""
    if adapter is None and model is None:
        return "; it was made for another model"
    made = "for another model" if adapter is None or adapter == model else f"for {adapter}"
    return f"; it was made {made}" + ("" if model is None else f", the model is {model}")
