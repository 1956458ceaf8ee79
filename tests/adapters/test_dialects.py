"""The naming schemes of layers in adapter files."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_open_clip_checkpoint

from pochade.adapters.keys import layer_names
from pochade.adapters.ldm_names import open_clip_names, unet_names
from pochade.adapters.read import read_adapter
from pochade.checkpoints import safetensors
from pochade.checkpoints.contents import contents_of
from tests.adapters.conftest import Write, whole_change
from tests.reference import make_text_encoder, make_unet, stored

torch.set_num_threads(1)

Q = "down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q"
OUT = "up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_out.0"
CONV = "mid_block.resnets.0.conv1"
TEXT_Q, TEXT_OUT = "encoder.layers.1.self_attn.q_proj", "encoder.layers.1.self_attn.out_proj"
FACTORS = ("up", "down")

Shapes = dict[str, dict[str, tuple[int, ...]]]


def shapes(**models: torch.nn.Module) -> Shapes:
    return {
        component: {name: array.shape for name, array in stored(model).items()}
        for component, model in models.items()
    }


@pytest.fixture(scope="module")
def sd15() -> Shapes:
    return shapes(unet=make_unet("SD 1.5"), text_encoder=make_text_encoder("CLIP L"))


@pytest.fixture(scope="module")
def xl() -> Shapes:
    return shapes(
        unet=make_unet("SDXL"),
        text_encoder=make_text_encoder("CLIP L"),
        text_encoder_2=make_text_encoder("OpenCLIP bigG"),
    )


def flat(name: str) -> str:
    return name.replace(".", "_")


WAYS: Mapping[str, Callable[[str, str], str]] = {
    "kohya": lambda m, f: f"lora_unet_{flat(m)}.lora_{f}.weight",
    "kohya, names of 2022": lambda m, f: f"lora_unet_{flat(LDM[m])}.lora_{f}.weight",
    "LyCORIS": lambda m, f: f"lycoris_{flat(m)}.lora_{f}.weight",
    "diffusers": lambda m, f: f"unet.{m}.lora_{'B' if f == 'up' else 'A'}.weight",
    "diffusers of 2023": lambda m, f: f"unet.{m}.lora.{f}.weight",
    "diffusers' first": lambda m, f: PROCESSOR[m].format(f) + ".weight",
    "diffusers' first, with the component": lambda m, f: f"unet.{PROCESSOR[m].format(f)}.weight",
    "PEFT": lambda m, f: f"base_model.model.{m}.lora_{'B' if f == 'up' else 'A'}.weight",
    "PEFT, named": lambda m, f: f"base_model.model.{m}.lora_{'B' if f == 'up' else 'A'}.default.weight",
    "PEFT, of diffusers": lambda m, f: f"unet.{m}.lora_{'B' if f == 'up' else 'A'}.default_0.weight",
    "PEFT, with the component": lambda m, f: (
        f"unet.base_model.model.{m}.lora_{'B' if f == 'up' else 'A'}.my-style.weight"
    ),
    "names of 2022": lambda m, f: f"diffusion_model.{LDM[m]}.lora_{'B' if f == 'up' else 'A'}.weight",
    "ComfyUI": lambda m, f: f"diffusion_model.{LDM[m]}.lora_{f}.weight",
    "ComfyUI, diffusers' names": lambda m, f: f"diffusion_model.{m}.lora_{f}.weight",
    "OneTrainer": lambda m, f: f"unet.{LDM[m]}.lora_{f}.weight",
    "OneTrainer's names alone": lambda m, f: f"{LDM[m]}.lora_{f}.weight",
    "LyCORIS, names of 2022": lambda m, f: f"lycoris_{flat(LDM[m])}.lora_{f}.weight",
}
LDM = {
    Q: "input_blocks.2.1.transformer_blocks.0.attn1.to_q",
    OUT: "output_blocks.3.1.transformer_blocks.0.attn2.to_out.0",
    CONV: "middle_block.0.in_layers.2",
}
BLOCK = Q.removesuffix(".attn1.to_q"), OUT.removesuffix(".attn2.to_out.0")
PROCESSOR = {
    Q: f"{BLOCK[0]}.attn1.processor.to_q_lora.{{}}",
    OUT: f"{BLOCK[1]}.attn2.processor.to_out_lora.{{}}",
    CONV: f"{CONV}.lora.{{}}",
}
TEXT_WAYS: Mapping[str, Callable[[str, str], str]] = {
    "kohya": lambda m, f: f"lora_te_text_model_{flat(m)}.lora_{f}.weight",
    "diffusers": lambda m, f: f"text_encoder.text_model.{m}.lora_{'B' if f == 'up' else 'A'}.weight",
    "diffusers without text_model": lambda m, f: f"text_encoder.{m}.lora_{'B' if f == 'up' else 'A'}.weight",
    "diffusers of 2023": lambda m, f: f"text_encoder.text_model.{m}.lora_linear_layer.{f}.weight",
    "diffusers' first": lambda m, f: (
        "text_encoder.text_model.encoder.layers.1.self_attn."
        f"to_{'q' if m == TEXT_Q else 'out'}_lora.{f}.weight"
    ),
    "PEFT": lambda m, f: f"base_model.model.text_model.{m}.lora_{'B' if f == 'up' else 'A'}.weight",
    "PEFT, with the component": lambda m, f: (
        f"text_encoder.base_model.model.text_model.{m}.lora_{'B' if f == 'up' else 'A'}.weight"
    ),
    "ComfyUI": lambda m, f: f"text_encoders.clip_l.transformer.text_model.{m}.lora_{f}.weight",
    "ComfyUI, SD 2": lambda m, f: f"text_encoders.clip_h.transformer.text_model.{m}.lora_{f}.weight",
    "OneTrainer": lambda m, f: f"clip_l.text_model.{m}.lora_{f}.weight",
}


def factors(shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    ones = (1,) * (len(shape) - 2)
    return {"up": (shape[0], 2, *ones), "down": (2, *shape[1:])}


def check(write: Write, models: Shapes, component: str, modules: Any, way: Callable[[str, str], str]) -> None:
    tensors = {
        way(module, factor): sides
        for module in modules
        for factor, sides in factors(models[component][f"{module}.weight"]).items()
    }
    path = write(tensors)
    deltas, file = read_adapter(path, models).deltas, safetensors.read(path)
    assert set(deltas) == {component}
    assert set(deltas[component]) == {f"{module}.weight" for module in modules}
    for module in modules:
        delta = deltas[component][f"{module}.weight"]
        for factor in FACTORS:
            found, expected = getattr(delta, factor), file[way(module, factor)]
            np.testing.assert_array_equal(found, expected.reshape(found.shape))


@pytest.mark.parametrize("way", WAYS)
def test_layers_of_the_unet(write: Write, sd15: Shapes, way: str) -> None:
    check(write, sd15, "unet", (Q, OUT, CONV), WAYS[way])


@pytest.mark.parametrize("way", TEXT_WAYS)
def test_layers_of_the_text_encoder(write: Write, sd15: Shapes, way: str) -> None:
    check(write, sd15, "text_encoder", (TEXT_Q, TEXT_OUT), TEXT_WAYS[way])


@pytest.mark.parametrize(
    ("component", "prefix"),
    [
        ("text_encoder", "lora_te1_text_model_"),
        ("text_encoder_2", "lora_te2_text_model_"),
        ("text_encoder", "text_encoder.text_model."),
        ("text_encoder_2", "text_encoder_2.text_model."),
        ("text_encoder", "text_encoders.clip_l.transformer.text_model."),
        ("text_encoder_2", "text_encoders.clip_g.transformer.text_model."),
        ("text_encoder", "clip_l.text_model."),
        ("text_encoder_2", "clip_g.text_model."),
    ],
)
def test_both_text_encoders_of_xl(write: Write, xl: Shapes, component: str, prefix: str) -> None:
    def way(module: str, factor: str) -> str:
        name = module if prefix.endswith(".") else flat(module)
        return f"{prefix}{name}.lora_{factor}.weight"

    check(write, xl, component, (TEXT_Q, TEXT_OUT, "encoder.layers.2.mlp.fc1"), way)


@pytest.mark.parametrize("prefix", ["lora_te2_", "text_encoders.clip_g.transformer.", "clip_g."])
def test_the_projection_of_xl(write: Write, xl: Shapes, prefix: str) -> None:
    check(write, xl, "text_encoder_2", ("text_projection",), lambda m, f: f"{prefix}{m}.lora_{f}.weight")


@pytest.mark.parametrize(
    "name",
    [
        "text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.lora_up.weight",
        "clip_g.text_model.encoder.layers.0.mlp.fc1.lora_up.weight",
        "clip_l.text_projection.lora_up.weight",
        "diffusion_model.input_blocks.1.1.proj_in.lora_up.weight",
        "lycoris_input_blocks_1_1_proj_in.lokr_w1",
        "base_model.model.down_blocks.0.attentions.0.proj_in.lora_A.weight",
        "unet.input_blocks.1.1.proj_in.lora_down.weight",
    ],
)
def test_such_a_file_is_an_adapter_by_its_names(write: Write, name: str) -> None:
    assert contents_of(write({name: (4, 4)})).kind == "lora"


def test_an_embedding_is_none(write: Write) -> None:
    assert contents_of(write({"clip_l": (1, 4), "clip_g": (1, 4)})).kind == "embedding"


def test_a_fused_matrix_of_queries_keys_and_values(write: Write, sd15: Shapes) -> None:
    layer = "lora_te_model_transformer_resblocks_1_attn_in_proj"
    path = write({f"{layer}.lora_up.weight": (72, 2), f"{layer}.lora_down.weight": (2, 24)})
    deltas = read_adapter(path, sd15).deltas["text_encoder"]
    file = safetensors.read(path)
    whole = file[f"{layer}.lora_up.weight"] @ file[f"{layer}.lora_down.weight"]
    for i, name in enumerate("qkv"):
        delta = deltas[f"encoder.layers.1.self_attn.{name}_proj.weight"]
        np.testing.assert_allclose(
            whole_change(delta, np.zeros((24, 24), np.float32)),
            whole[24 * i : 24 * (i + 1)],
            rtol=1e-5,
            atol=1e-6,
        )


@pytest.mark.parametrize("family", ["SD 1.5", "SD 2.1", "SDXL", "inpainting", "SSD-1B"])
def test_no_way_of_writing_stands_for_two_layers(family: str) -> None:
    names = shapes(unet=make_unet(family))["unet"]
    modules = {name.rpartition(".")[0] for name in names}
    found = layer_names({"unet": names})
    for module in modules:
        assert found[f"lora_unet_{flat(module)}"].modules == (module,)
    others = unet_names(modules)
    assert set(others) == modules and len(set(map(flat, others.values()))) == len(modules)
    assert set(map(flat, others.values())) & set(map(flat, modules)) <= {"conv_in"}


@pytest.mark.parametrize("family", ["SD 1.5", "SDXL"])
def test_names_of_2022_are_those_that_diffusers_converts(family: str) -> None:
    model = make_unet(family)
    ours = stored(model)
    named = unet_names({name.rpartition(".")[0] for name in ours})
    single = {}
    for number, name in enumerate(ours):
        module, _, kind = name.rpartition(".")
        single[f"model.diffusion_model.{named[module]}.{kind}"] = torch.tensor(float(number))
    converted = convert_ldm_unet_checkpoint(dict(single), config=dict(model.config))
    assert {name: int(value) for name, value in converted.items()} == {
        name: number for number, name in enumerate(ours)
    }


def test_names_of_open_clip_are_those_that_diffusers_converts() -> None:
    model = make_text_encoder("OpenCLIP H")
    ours = stored(model)
    modules = {name.rpartition(".")[0] for name in ours}
    single = {}
    for other, names in open_clip_names(modules).items():
        for kind in ("weight", "bias"):
            parts = [torch.from_numpy(ours[f"{name}.{kind}"]) for name in names]
            fused = f"_{kind}" if len(parts) > 1 else f".{kind}"
            single[f"model.{other}{fused}"] = torch.cat(parts)
    converted = convert_open_clip_checkpoint(model, dict(single), prefix="model.")
    assert {name.removeprefix("text_model.") for name in converted} >= {
        f"{name}.weight" for names in open_clip_names(modules).values() for name in names
    }
    for name, value in converted.items():
        np.testing.assert_array_equal(value, ours[name.removeprefix("text_model.")])
