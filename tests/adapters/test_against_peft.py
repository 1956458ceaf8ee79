"""Adapters as written by PEFT and diffusers, compared with their results."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel

from pochade.adapters.files import adapter_files
from pochade.adapters.library import find, named_in
from pochade.adapters.read import read_adapter
from pochade.adapters.view import WeightedDeltas, adapted
from tests.adapters.conftest import Write
from tests.reference import (
    evaluate,
    make_text_encoder,
    make_unet,
    relative_error,
    stored,
    unet_inputs,
)

peft = pytest.importorskip("peft")
torch.set_num_threads(1)

ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
CONVOLUTIONS = ["conv1", "conv2", "conv_in", "proj_in", "proj_out", "time_emb_proj", "ff.net.2", "conv"]


def moved(model: torch.nn.Module, seed: int = 5) -> None:
    """Every factor random, where PEFT begins with zeros."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "magnitude" in name:
                parameter.mul_(1 + 0.2 * torch.rand(parameter.shape, generator=generator))
            elif any(kind in name for kind in ("lora_", "hada_", "lokr_")):
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))


def ours(base: Mapping[str, Any], path: Path, component: str = "unet") -> Mapping[str, Any]:
    shapes = {component: {name: array.shape for name, array in base.items()}}
    adapter = read_adapter(path, shapes)
    return adapted(base, [WeightedDeltas(adapter.deltas[component], 1.0, "a")])


def same_weights(result: Mapping[str, Any], merged: torch.nn.Module, base: Mapping[str, Any]) -> None:
    """As far from what they were as the merged ones are, not only near them."""
    theirs = stored(merged)
    changed = 0
    for name, weight in theirs.items():
        difference = weight - base[name]
        if np.abs(difference).max() > 1e-6:
            changed += 1
            assert relative_error(result[name] - base[name], difference) < 1e-5, name
        else:
            assert result[name] is base[name] or relative_error(result[name], weight) < 1e-6, name
    assert changed > 3


CONFIGS: Mapping[str, Any] = {
    "LoRA": lambda: peft.LoraConfig(r=3, lora_alpha=5, target_modules=ATTENTION),
    "LoRA of convolutions": lambda: peft.LoraConfig(r=3, lora_alpha=2, target_modules=CONVOLUTIONS),
    "scaled by the root of the rank": lambda: peft.LoraConfig(
        r=4, lora_alpha=3, use_rslora=True, target_modules=ATTENTION
    ),
    "with exceptions": lambda: peft.LoraConfig(
        r=4,
        lora_alpha=3,
        target_modules=ATTENTION,
        rank_pattern={"attn1.to_q": 2},
        alpha_pattern={"attn1.to_q": 7, "to_k": 1},
    ),
    "with patterns": lambda: peft.LoraConfig(
        r=4,
        lora_alpha=3,
        target_modules=ATTENTION,
        rank_pattern={r"down_blocks\.\d+\..*attn1\.to_[qv]": 2, "^mid_block.*to_k": 3},
        # In the order in which PEFT writes them: sorted.
        alpha_pattern={r"(up|down)_blocks\.1\..*": 2, r".*attn[12].to_(q|k)": 7, "to_out.0": 1},
    ),
    "DoRA": lambda: peft.LoraConfig(
        r=3, lora_alpha=5, use_dora=True, target_modules=[*ATTENTION, *CONVOLUTIONS]
    ),
    "LoHa": lambda: peft.LoHaConfig(r=3, alpha=5, target_modules=[*ATTENTION, "conv1"]),
    "LoHa, Tucker": lambda: peft.LoHaConfig(
        r=3, alpha=5, use_effective_conv2d=True, target_modules=[*ATTENTION, "conv1"]
    ),
    "LoKr": lambda: peft.LoKrConfig(r=2, alpha=5, target_modules=[*ATTENTION, "conv1"]),
    "LoKr, Tucker, both decomposed": lambda: peft.LoKrConfig(
        r=2,
        alpha=5,
        use_effective_conv2d=True,
        decompose_both=True,
        decompose_factor=4,
        target_modules=[*ATTENTION, "conv1"],
    ),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_folder_that_peft_saved(tmp_path: Path, kind: str) -> None:
    model = make_unet("SD 1.5")
    base = stored(model)
    base = {name: array.copy() for name, array in base.items()}
    theirs = peft.get_peft_model(model, CONFIGS[kind]())
    moved(theirs)
    theirs.save_pretrained(tmp_path / "ink")
    result = ours(base, tmp_path / "ink")
    same_weights(result, theirs.merge_and_unload(), base)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_a_text_encoder_of_peft(tmp_path: Path) -> None:
    model = make_text_encoder("CLIP L")
    base = {name: array.copy() for name, array in stored(model).items()}
    theirs = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj", "out_proj", "fc1"]))
    moved(theirs)
    theirs.save_pretrained(tmp_path / "text_encoder")
    result = ours(base, tmp_path / "text_encoder", "text_encoder")
    same_weights(result, theirs.merge_and_unload(), base)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
@pytest.mark.parametrize("named", ["the folder", "its name"])
def test_a_folder_of_peft_for_each_component(tmp_path: Path, named: str) -> None:
    """As PEFT's own scripts for Stable Diffusion save a LoRA, with another alpha for each."""
    unet, text = make_unet("SD 1.5"), make_text_encoder("CLIP L")
    bases = {
        name: {key: array.copy() for key, array in stored(model).items()}
        for name, model in (("unet", unet), ("text_encoder", text))
    }
    configs = {
        "unet": peft.LoraConfig(r=3, lora_alpha=5, target_modules=ATTENTION),
        "text_encoder": peft.LoraConfig(r=2, lora_alpha=1, target_modules=["q_proj", "v_proj"]),
    }
    theirs = {
        "unet": peft.get_peft_model(unet, configs["unet"]),
        "text_encoder": peft.get_peft_model(text, configs["text_encoder"]),
    }
    for seed, (component, model) in enumerate(theirs.items()):
        moved(model, seed)
        model.save_pretrained(tmp_path / "loras" / "styles" / "ink" / component)
    path = tmp_path / "loras" / "styles" / "ink"
    if named == "its name":
        (entry,) = named_in([tmp_path / "loras"], "adapters")
        assert entry.name == "styles/ink"
        path = find([tmp_path / "loras"], "ink", "adapters")
    adapter = read_adapter(
        path, {name: {key: array.shape for key, array in base.items()} for name, base in bases.items()}
    )
    assert adapter.name == "ink" and len(adapter.files) == 2 and not adapter.unknown
    for component, model in theirs.items():
        base = bases[component]
        result = adapted(base, [WeightedDeltas(adapter.deltas[component], 1.0, "a")])
        same_weights(result, model.merge_and_unload(), base)


@pytest.mark.parametrize("named", ["the folder", "the file", "its name"])
def test_a_folder_with_pickled_weights(tmp_path: Path, named: str) -> None:
    """`adapter_model.bin`: PEFT before safetensors, and today where it is asked for."""
    model = make_unet("SD 1.5")
    base = {name: array.copy() for name, array in stored(model).items()}
    theirs = peft.get_peft_model(model, peft.LoraConfig(r=3, lora_alpha=7, target_modules=ATTENTION))
    moved(theirs)
    theirs.save_pretrained(tmp_path / "ink", safe_serialization=False)
    assert not (tmp_path / "ink" / "adapter_model.safetensors").exists()
    path = {"the folder": tmp_path / "ink", "the file": tmp_path / "ink" / "adapter_model.bin"}.get(named)
    result = ours(base, path or find([tmp_path], "ink", "adapters"))
    same_weights(result, theirs.merge_and_unload(), base)


def test_safetensors_before_a_pickle_beside_them(write: Write, tmp_path: Path) -> None:
    for name in ("adapter_model", "pytorch_lora_weights"):
        path = write({"conv_in.lora_A.weight": (2, 4, 3, 3)}, name=f"{name}/{name}.safetensors")
        if name == "adapter_model":
            (path.parent / "adapter_config.json").write_text("{}")
        (path.parent / f"{name}.bin").write_bytes(b"nothing")
        assert [file.path for file in adapter_files(path.parent)] == [path]


def test_pickled_weights_of_diffusers(tmp_path: Path) -> None:
    """`pytorch_lora_weights.bin`, as version 0.17 wrote it."""
    (tmp_path / "ink").mkdir()
    factors = {"up": torch.ones(320, 2), "down": torch.ones(2, 320)}
    key = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora"
    torch.save(
        {f"{key}.{part}.weight": value for part, value in factors.items()},
        tmp_path / "ink" / "pytorch_lora_weights.bin",
    )
    layer = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    adapter = read_adapter(tmp_path / "ink", {"unet": {layer: (320, 320)}})
    assert adapter.name == "ink" and list(adapter.deltas["unet"]) == [layer]


def test_the_file_alone_has_the_configuration_beside_it(tmp_path: Path) -> None:
    model = make_unet("SD 1.5")
    base = {name: array.copy() for name, array in stored(model).items()}
    theirs = peft.get_peft_model(model, peft.LoraConfig(r=3, lora_alpha=7, target_modules=ATTENTION))
    moved(theirs)
    theirs.save_pretrained(tmp_path / "ink")
    result = ours(base, tmp_path / "ink" / "adapter_model.safetensors")
    same_weights(result, theirs.merge_and_unload(), base)


@pytest.mark.parametrize("place", ["", "ink"])
def test_one_component_alone_goes_by_the_folder_too(write: Write, tmp_path: Path, place: str) -> None:
    root = tmp_path / "loras"
    write({"a.lora_A.weight": (2, 4)}, name=f"loras/{place}/unet/adapter_model.safetensors")
    (entry,) = named_in([root], "adapters")
    assert (entry.name, entry.path) == (place or "loras", root / place)


def test_a_file_that_diffusers_saved(tmp_path: Path) -> None:
    """With alpha in the metadata, which older versions of diffusers lost."""
    model = make_unet("SDXL")
    base = {name: array.copy() for name, array in stored(model).items()}
    model.add_adapter(peft.LoraConfig(r=4, lora_alpha=1, target_modules=ATTENTION))
    moved(model)
    state = peft.get_peft_model_state_dict(model)
    StableDiffusionXLPipeline.save_lora_weights(
        tmp_path,
        unet_lora_layers=state,
        unet_lora_adapter_metadata={"r": 4, "lora_alpha": 1},
    )
    result = ours(base, tmp_path)
    model.fuse_lora()
    fused = {
        name.replace(".base_layer", ""): array for name, array in stored(model).items() if "lora_" not in name
    }
    for name, array in fused.items():
        assert relative_error(result[name], array) < 1e-6, name
    assert sum(result[name] is not base[name] for name in base) > 10


KOHYA: Mapping[str, tuple[str, Mapping[str, tuple[int, ...]]]] = {
    "LoRA": (
        "SD 1.5",
        {
            "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q": (16, 16),
            "down_blocks_1_attentions_1_transformer_blocks_0_attn2_to_k": (32, 24),
            "up_blocks_2_attentions_0_proj_in": (16, 16, 1, 1),
        },
    ),
    "LoCon": (
        "SD 1.5",
        {"mid_block_resnets_0_conv1": (32, 32, 3, 3), "down_blocks_0_resnets_0_conv2": (16, 16, 3, 3)},
    ),
}


@pytest.mark.parametrize("kind", KOHYA)
def test_a_file_of_kohya_draws_what_diffusers_draws(write: Write, kind: str) -> None:
    from pochade.configs.read_json import unet_config
    from pochade.engines.numpy import NumpyEngine
    from pochade.models.embedding import embed_timestep
    from pochade.models.unet import unet

    family, layers = KOHYA[kind]
    tensors: dict[str, Any] = {}
    for layer, shape in layers.items():
        ones = (1,) * (len(shape) - 2)
        tensors[f"lora_unet_{layer}.lora_up.weight"] = (shape[0], 2, *ones)
        tensors[f"lora_unet_{layer}.lora_down.weight"] = (2, *shape[1:])
        tensors[f"lora_unet_{layer}.alpha"] = np.float32(0.5)
    path = write(tensors)
    model: UNet2DConditionModel = make_unet(family)
    base = {name: array.copy() for name, array in stored(model).items()}
    inputs = unet_inputs(model.config, (1, 8, 8))
    with torch.no_grad():
        plain = model(**inputs).sample
        state, alphas = StableDiffusionPipeline.lora_state_dict(str(path))
        StableDiffusionPipeline.load_lora_into_unet(state, network_alphas=alphas, unet=model)
        expected = model(**inputs).sample
    config = unet_config(dict(model.config))
    time = embed_timestep(config, inputs["timestep"].numpy())
    arrays = {"x": inputs["sample"], "context": inputs["encoder_hidden_states"]}
    result = evaluate(
        NumpyEngine(),
        unet,
        config,
        ours(base, path),
        time=time,
        **{name: value.numpy() for name, value in arrays.items()},
    )
    assert relative_error(result, expected) < 1e-4
    assert relative_error(plain, expected) > 1e-2


def test_the_configuration_travels_with_the_file(tmp_path: Path) -> None:
    """Another alpha in PEFT's folder is another adapter, though the tensors are the same."""
    theirs = peft.get_peft_model(make_unet("SD 1.5"), peft.LoraConfig(r=3, target_modules=["to_q"]))
    moved(theirs)
    shapes = {"unet": {name: array.shape for name, array in stored(make_unet("SD 1.5")).items()}}
    theirs.save_pretrained(tmp_path / "ink")
    first = read_adapter(tmp_path / "ink", shapes).fingerprint
    config = json.loads((tmp_path / "ink" / "adapter_config.json").read_text())
    (tmp_path / "ink" / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 2}))
    assert read_adapter(tmp_path / "ink", shapes).fingerprint != first
