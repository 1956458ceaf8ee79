"""Parses the keys of adapter files, in all naming schemes, into a layer of the model and a factor.

    kohya       lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight     (dots became underscores)
                lora_unet_input_blocks_1_1_proj_in.lora_down.weight               (names of 2022: ldm_names)
    diffusers   unet.down_blocks.0.attentions.0.proj_in.lora_A.weight             (or .lora.down.weight)
                down_blocks.0.[...].attn1.processor.to_q_lora.down.weight         (of 2023)
    PEFT        base_model.model.down_blocks.0.attentions.0.proj_in.lora_A.weight
    ComfyUI     diffusion_model.input_blocks.1.1.proj_in.lora_down.weight
                text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.lora_down.weight
    OneTrainer  unet.input_blocks.1.1.proj_in.lora_down.weight
                clip_l.text_model.encoder.layers.0.mlp.fc1.lora_down.weight

An underscore may stand for a dot or for itself. So keys are not parsed: the names of the model's layers are
written in each scheme, and the key is looked up among them.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pochade.adapters.ldm_names import open_clip_names, unet_names

UNET, TEXT, TEXT_2 = "unet", "text_encoder", "text_encoder_2"
TEXTS = (TEXT, TEXT_2, "text_encoder_3")
"""A model's text encoders, in order."""


PARTS: Mapping[str, str] = {
    "lora_up.weight": "up",
    "lora_down.weight": "down",
    "lora_mid.weight": "middle",
    "lora.up.weight": "up",
    "lora.down.weight": "down",
    "lora_B.weight": "up",
    "lora_A.weight": "down",
    "lora_linear_layer.up.weight": "up",
    "lora_linear_layer.down.weight": "down",
    "alpha": "alpha",
    "lora.alpha": "alpha",
    "dora_scale": "dora_scale",
    "lora_magnitude_vector": "magnitude",
    "lora_magnitude_vector.weight": "magnitude",
    **{name: name for name in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2")},
    **{name: name for name in ("lokr_w1", "lokr_w1_a", "lokr_w1_b")},
    **{name: name for name in ("lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")},
    "diff": "diff",
    "diff_b": "diff_b",
    "w_norm": "diff",
    "b_norm": "diff_b",
}
"""The end of a key -> the factor's name in this package."""

ADAPTER = re.compile(r"(.+\.lora_(?:A|B|magnitude_vector))\.[\w-]+\.weight")
"""Matches keys with PEFT's adapter name: "default", or a name chosen by the user."""
FEED = re.compile(r"(.+)\.processor\.to_(q|k|v|out)_lora\.(.+)")
TEXT_FEED = re.compile(r"(.+\.self_attn)\.to_(q|k|v|out)_lora\.(.+)")


@dataclass(frozen=True)
class AdaptedLayer:
    """A layer of the model. modules: more than one if the adapter's program fuses several."""

    component: str
    modules: tuple[str, ...]


def split_key(key: str) -> tuple[str, str] | None:
    """Return (the layer as written, the factor); None if the key's end is unknown."""
    named = ADAPTER.fullmatch(key)
    if named is not None:
        key = f"{named[1]}.weight"
    old = FEED.fullmatch(key)
    if old is not None:
        key = f"{old[1]}.to_{'out.0' if old[2] == 'out' else old[2]}.lora.{old[3]}"
    old = TEXT_FEED.fullmatch(key)
    if old is not None:
        key = f"{old[1]}.{old[2]}_proj.lora.{old[3]}"
    begin = 0
    while (dot := key.find(".", begin)) >= 0:
        part = PARTS.get(key[dot + 1 :])
        if part is not None and dot > 0:
            return key[:dot], part
        begin = dot + 1
    return None


def layer_names(
    components: Mapping[str, Iterable[str]], inside: str | None = None
) -> dict[str, AdaptedLayer]:
    """Return the names of all layers in every scheme -> the layer.

    components: "unet", "text_encoder", "text_encoder_2" (XL's) -> the names of their tensors.
    inside: the component of a file without prefixes; None: the UNet, else the text encoder.
    """
    found: dict[str, AdaptedLayer] = {}
    order = sorted(components, key=lambda name: (name != inside, name != UNET, name))
    for component in order:
        modules = dict.fromkeys(name.rpartition(".")[0] for name in components[component])
        two = TEXT_2 in components
        spellings = _unet(modules) if component == UNET else _text(modules, component, two)
        for written, names in spellings:
            found.setdefault(written, AdaptedLayer(component, names))
    return found


UNDERSCORED, DOTTED = (
    ("lora_unet_", "lycoris_"),
    ("unet.", "", "base_model.model.", "unet.base_model.model."),
)
"""Prefixes of the UNet's layers, in all schemes."""

CLIPS: Mapping[str, tuple[str, ...]] = {TEXT: ("clip_l",), TEXT_2: ("clip_g",)}
"""Prefixes of XL's text encoders in ComfyUI and OneTrainer."""
ONLY_CLIPS = ("clip_l", "clip_h", "clip_g", "clip")
"""Their prefixes of the text encoder in other families."""

Spellings = list[tuple[str, tuple[str, ...]]]


def _unet(modules: Iterable[str]) -> Spellings:
    spellings: Spellings = []
    modules = list(modules)
    for module in modules:
        spellings += _written(module, (module,), UNDERSCORED, (*DOTTED, "diffusion_model."))
    for module, other in unet_names(modules).items():
        spellings += _written(
            other, (module,), UNDERSCORED, (*DOTTED, "diffusion_model.", "model.diffusion_model.")
        )
    return spellings


def _text(modules: Iterable[str], component: str, two: bool) -> Spellings:
    """two: whether the model has two text encoders; then kohya numbers them."""
    spellings: Spellings = []
    modules = list(modules)
    short = ("lora_te2_" if component == TEXT_2 else "lora_te1_") if two else "lora_te_"
    clips = CLIPS[component] if two else ONLY_CLIPS
    dotted = (
        f"{component}.",
        "",
        "base_model.model.",
        f"{component}.base_model.model.",
        *(f"text_encoders.{clip}.transformer." for clip in clips),
        *(f"{clip}.transformer." for clip in clips),
        *(f"{clip}." for clip in clips),
    )
    for module in modules:
        for inner in ("text_model.", ""):
            spellings += _written(inner + module, (module,), (short,), dotted)
    for other, names in open_clip_names(modules).items():
        for inner in ("model.", ""):
            spellings += _written(inner + other, names, (short,), dotted)
    return spellings


def _written(
    name: str, modules: tuple[str, ...], underscored: tuple[str, ...], dotted: tuple[str, ...]
) -> Spellings:
    flat = name.replace(".", "_")
    spellings = [(prefix + flat, modules) for prefix in underscored]
    return spellings + [(prefix + name, modules) for prefix in dotted]
