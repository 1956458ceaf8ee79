"""Layer names of the latent diffusion code of 2022, which adapters for XL and some others use."""

from collections.abc import Iterable, Mapping

from pochade.checkpoints.keymaps import inverted, translate
from pochade.checkpoints.ldm import canonical_layout, unet_rules

OPEN_CLIP: Mapping[str, str] = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
FUSED, HEADS = "attn.in_proj", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")


def unet_names(modules: Iterable[str]) -> dict[str, str]:
    """Return the canonical name of each layer of a UNet -> its name in that code."""
    weights = [f"{module}.weight" for module in modules]
    rules = inverted(unet_rules(canonical_layout(weights)))
    named = {}
    for weight in weights:
        for name, _ in translate(weight, rules) or ():
            if name is not None:
                named[weight.removesuffix(".weight")] = name.removesuffix(".weight")
    return named


def open_clip_names(modules: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return OpenCLIP's name of each layer of a text encoder -> canonical names, three for a fused matrix."""
    named: dict[str, tuple[str, ...]] = {}
    for module in modules:
        parts = module.split(".", 3)
        if parts[:2] == ["encoder", "layers"] and len(parts) == 4:
            layer = f"transformer.resblocks.{parts[2]}"
            if parts[3] in OPEN_CLIP:
                named[f"{layer}.{OPEN_CLIP[parts[3]]}"] = (module,)
            elif parts[3] in HEADS:
                named[f"{layer}.{FUSED}"] = tuple(f"encoder.layers.{parts[2]}.{head}" for head in HEADS)
        elif module == "final_layer_norm":
            named["ln_final"] = (module,)
    return named
