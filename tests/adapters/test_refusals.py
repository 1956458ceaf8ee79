"""Adapter files that are damaged, hostile, or made for another model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pochade.adapters.assemble import KINDS, LENGTHS
from pochade.adapters.keys import PARTS
from pochade.adapters.read import read_adapter
from pochade.errors import InvalidCheckpoint
from tests.adapters.conftest import Write, whole_change

TO_K = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
SD15 = {
    "unet": {"conv_in.weight": (320, 4, 3, 3), "conv_in.bias": (320,), f"{TO_K}.weight": (320, 768)},
    "text_encoder": {"final_layer_norm.weight": (768,)},
}
LAYER = "lora_unet_conv_in"
BY_PART = {part: end for end, part in PARTS.items()}
UP, DOWN = f"{LAYER}.lora_up.weight", f"{LAYER}.lora_down.weight"
WHOLE = {UP: (320, 2, 1, 1), DOWN: (2, 4, 3, 3)}
NAN, INFINITE = (np.full((320, 2, 1, 1), value, np.float32) for value in (np.nan, np.inf))


@pytest.mark.parametrize(
    ("tensors", "fault"),
    [
        ({}, "it holds no tensors"),
        ({UP: (320, 2, 1, 1)}, f"has '{UP}' but not the factor 'down' that belongs to it"),
        ({DOWN: (2, 4, 3, 3)}, f"has '{DOWN}' but not the factor 'up'"),
        ({f"{LAYER}.alpha": ()}, "has 'lora_unet_conv_in.alpha' and none of the factors"),
        ({f"{LAYER}.lora_mid.weight": (2, 2, 3, 3)}, "lacks the factor 'up'"),
        ({f"{LAYER}.dora_scale": (320, 1, 1, 1)}, "dora_scale' and none of the factors"),
        ({UP: (320, 0, 1, 1), DOWN: (0, 4, 3, 3)}, "of shape (320, 0, 1, 1), which has the rank 0"),
        ({UP: (320, 3, 1, 1), DOWN: (2, 4, 3, 3)}, "of rank 3 and 'lora_unet_conv_in.lora_down.weight' of"),
        ({UP: (320, 2, 3, 3), DOWN: (2, 4, 3, 3)}, "of shape (320, 2, 3, 3), where a matrix belongs"),
        ({UP: (320,), DOWN: (2, 4, 3, 3)}, "of shape (320,), which is not a matrix"),
        ({**WHOLE, f"{LAYER}.alpha": (2,)}, "alpha' of shape (2,); it is one number"),
        ({**WHOLE, UP: NAN}, "tensor 'lora_unet_conv_in.lora_up.weight' in"),
        ({**WHOLE, UP: INFINITE}, "640 of 640 entries that are NaN or infinite"),
        ({**WHOLE, f"{LAYER}.alpha": np.float32("nan")}, "tensor 'lora_unet_conv_in.alpha' in"),
        ({**WHOLE, f"{LAYER}.lokr_w1": (2, 2)}, "is changed in 2 ways at once, LoKr and LoRA"),
        ({**WHOLE, f"{LAYER}.diff_b": (4,)}, "shape (4,) to 'conv_in.bias', which has shape (320,)"),
        ({**WHOLE, f"{LAYER}.dora_scale": (7, 1, 1, 1)}, "dora_scale' of shape (7, 1, 1, 1), which fits no"),
        ({**WHOLE, "unet.conv_in.lora_A.weight": (2, 4, 3, 3), "unet.conv_in.lora_B.weight": (320, 2, 1, 1)},
         "it changes 'conv_in.weight' twice"),
        ({**WHOLE, f"{LAYER}.lora.up.weight": (320, 2, 1, 1)}, "two names of one factor"),
        ({f"{LAYER}.lokr_w1": (2, 2), f"{LAYER}.lokr_w2": (160, 2)}, "makes a change of shape (320, 4)"),
        ({f"{LAYER}.lokr_w1": (2, 2)}, "lacks the factor 'lokr_w2_a'"),
        ({f"{LAYER}.hada_w1_a": (320, 2), f"{LAYER}.hada_w1_b": (2, 36)}, "lacks the factor 'hada_w2_a'"),
        ({"lora_unet_no.lora_up.weight": (2, 2)}, "lora_unet_no.lora_up.weight' belongs to no"),
        ({f"{LAYER}.oft_blocks": (2, 2)}, "'lora_unet_conv_in.oft_blocks' belongs to no layer"),
        ({"epoch": (1,)}, "'epoch' belongs to no layer"),
        ({"epoch": (1,), "lora_te_text_model_final_layer_norm.diff_b": (768,)}, "'epoch' belongs to no"),
        ({"lora_unet_conv_in_\x1b[31m.diff": (1,)}, r"lora_unet_conv_in_\x1b[31m.diff"),
        ({"lora_te_text_model_final_layer_norm.diff_b": (768,)}, "belongs to no layer of this model"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_whole(write: Write, tensors: dict[str, Any], fault: str) -> None:
    path = write(tensors)
    with pytest.raises(InvalidCheckpoint) as error:
        read_adapter(path, SD15)
    assert fault in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize(
    "more",
    [
        {"epoch": (1,)},
        {"lora_unet_no.lora_up.weight": (2, 2), "lora_unet_no.lora_down.weight": (2, 2)},
        {f"{LAYER}.oft_blocks": (2, 2)},
        {"bundle_emb.ink.string_to_param.*": (2, 768)},
        {"lora_te_text_model_final_layer_norm.diff_b": (768,)},  # a layer that is there, without a bias
        {"lora_unet_\x1b[31m.diff": (1,), "a.alpha": (), "b.alpha": ()},
    ],
)
def test_what_has_no_place_is_counted_and_left_out(write: Write, more: dict[str, Any]) -> None:
    whole = {key: np.random.default_rng(0).standard_normal(shape) for key, shape in WHOLE.items()}
    plain = read_adapter(write(whole, name="plain.safetensors"), SD15)
    path = write({**whole, **more}, name="more.safetensors")
    with pytest.warns(RuntimeWarning) as warned:
        adapter = read_adapter(path, SD15)
    said = str(warned[0].message)
    assert len(warned) == 1 and f"{len(more)} of the {len(more) + 2} tensors in '{path}' belong to no" in said
    assert "\x1b" not in said and set(adapter.unknown) == set(more)
    assert list(adapter.deltas) == ["unet"] and list(adapter.deltas["unet"]) == ["conv_in.weight"]
    base = np.zeros((320, 4, 3, 3), np.float32)
    added = [each.deltas["unet"]["conv_in.weight"].by_rows(base)(0, len(base)) for each in (plain, adapter)]
    np.testing.assert_array_equal(added[0], added[1])


def test_what_has_no_place_since_it_is_of_another_family(write: Write) -> None:
    """Some layers of one family are in another too: what fits by chance is no adapter for it."""
    path = write({**WHOLE, "lora_te2_text_model_encoder_layers_0_mlp_fc1.alpha": ()})
    with pytest.raises(InvalidCheckpoint, match=r"te2.* no layer of this model; it was made for SDXL"):
        read_adapter(path, SD15)


@pytest.mark.parametrize(
    ("tensors", "metadata", "fault"),
    [
        (
            {"lora_unet_input_blocks_4_1_proj_in.lora_up.weight": (640, 4), "lora_te2_x.alpha": ()},
            {},
            "it was made for SDXL, the model is SD 1.x",
        ),
        (
            {f"unet.{TO_K}.lora_B.weight": (320, 4), f"unet.{TO_K}.lora_A.weight": (4, 1024)},
            {},
            f"'unet.{TO_K}' makes a change of shape (320, 1024) to '{TO_K}.weight', which has shape (320,"
            " 768); it was made for SD 2.x, the model is SD 1.x",
        ),
        ({"lora_unet_x.alpha": ()}, {"ss_base_model_version": "sdxl_base_v1-0"}, "for SDXL, the model is"),
        ({"x.alpha": ()}, {"modelspec.architecture": "stable-diffusion-3-medium/lora"}, "for SD 3, the"),
        ({"lora_unet_double_blocks_0_img_mod.alpha": ()}, {}, "it was made for Flux, the model is SD 1.x"),
        ({"lora_unet_x.alpha": ()}, {}, "it was made for another model, the model is SD 1.x"),
    ],
)  # fmt: skip
def test_for_another_family(
    write: Write, tensors: dict[str, Any], metadata: dict[str, str], fault: str
) -> None:
    with pytest.raises(InvalidCheckpoint) as error:
        read_adapter(write(tensors, metadata), SD15)
    assert fault in str(error.value)


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ("{", "is not JSON"),
        ({"peft_type": "IA3"}, "describes a IA3; LORA, LOHA and LOKR are read"),
        ({"r": "many"}, "r = 'many' is not a positive number"),
        ({"r": 4, "lora_alpha": float("nan")}, "lora_alpha = nan is not a positive number"),
        ({"r": 4, "lora_alpha": -1}, "lora_alpha = -1 is not a positive number"),
        (
            {"alpha_pattern": {"(?=a)b": 4}},
            "alpha_pattern has the pattern '(?=a)b', which looks ahead or beh",
        ),
        ({"rank_pattern": {"to_(q|k": 4}}, "rank_pattern has the pattern 'to_(q|k', which has a parenthesis"),
        ({"alpha_pattern": {f"a{i}*": 4 for i in range(101)}}, "has 101 patterns; at most 100 are read"),
        ({"rank_pattern": [4]}, "rank_pattern is not a table of positive numbers"),
    ],
)
def test_a_damaged_configuration_of_peft(write: Write, tmp_path: Path, config: Any, fault: str) -> None:
    write({"base_model.model.conv_in.lora_A.weight": (2, 4, 3, 3)}, name="ink/adapter_model.safetensors")
    text = config if isinstance(config, str) else json.dumps(config)
    (tmp_path / "ink" / "adapter_config.json").write_text(text)
    with pytest.raises(InvalidCheckpoint, match="adapter_config") as error:
        read_adapter(tmp_path / "ink", SD15)
    assert fault in str(error.value)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([*KINDS.values()]).flatmap(
        lambda kind: st.dictionaries(
            st.sampled_from([BY_PART[part] for part in (*kind, "alpha", *LENGTHS)]),
            st.sampled_from([(), (2,), (0, 2), (2, 2), (2, 4), (4, 2), (1, 1), (2, 2, 1, 1), (2, 2, 3, 3)]),
            min_size=2,
        )
    ),
    st.sampled_from([(4, 2), (4, 2, 1, 1), (2, 4, 3, 3), (4,)]),
)
def test_any_shapes_make_an_adapter_or_a_sentence(
    write: Write, parts: dict[str, tuple[int, ...]], shape: tuple[int, ...]
) -> None:
    path = write({f"{LAYER}.{part}": sides for part, sides in parts.items()})
    try:
        adapter = read_adapter(path, {"unet": {"conv_in.weight": shape, "conv_in.bias": shape[:1]}})
    except InvalidCheckpoint as error:
        assert str(path) in str(error)
        return
    for name, delta in adapter.deltas["unet"].items():
        base = np.ones(shape if name.endswith("weight") else shape[:1], np.float32)
        with np.errstate(all="ignore"):
            assert whole_change(delta, base).shape == base.shape


def test_complex_numbers(write: Write) -> None:
    with pytest.raises(InvalidCheckpoint, match="holds complex numbers"):
        read_adapter(write({f"{LAYER}.diff": np.ones((320, 4, 3, 3), np.complex64)}), SD15)


def test_a_folder_that_holds_no_adapter(tmp_path: Path) -> None:
    with pytest.raises(InvalidCheckpoint, match="holds no adapter; it needs adapter_model"):
        read_adapter(tmp_path, SD15)
    with pytest.raises(InvalidCheckpoint, match="does not exist"):
        read_adapter(tmp_path / "ink.safetensors", SD15)


def test_damaged_metadata_of_diffusers(write: Write) -> None:
    with pytest.raises(InvalidCheckpoint, match="'lora_adapter_metadata' in its metadata, which is damaged"):
        read_adapter(write(WHOLE, {"lora_adapter_metadata": "[1"}), SD15)
