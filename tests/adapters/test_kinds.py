"""Each kind of adapter against its definition, in 64-bit arithmetic."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pochade.adapters import deltas
from pochade.adapters.read import read_adapter
from pochade.adapters.view import WeightedDeltas, adapted
from pochade.checkpoints import safetensors
from tests.adapters.conftest import Write, whole_change
from tests.reference import relative_error

Doubles = NDArray[np.float64]

LINEAR, POINT, CONV = (6, 8), (6, 8, 1, 1), (6, 8, 3, 3)
ALPHA = np.float32(1.5)


def tucker(t: Doubles, a: Doubles, b: Doubles) -> Doubles:
    """a (r, O), b (r, I), t (r, r, H, W) -> (O, I, H, W)."""
    return np.einsum("pqhw,po,qi->oihw", t, a, b)


def lora(f: Mapping[str, Doubles], shape: tuple[int, ...]) -> Doubles:
    up, down = f["lora_up.weight"], f["lora_down.weight"]
    if "lora_mid.weight" in f:
        return tucker(f["lora_mid.weight"], up[:, :, 0, 0].T, down[:, :, 0, 0])
    return np.einsum("or,rx->ox", up.reshape(up.shape[:2]), down.reshape(len(down), -1)).reshape(shape)


def loha(f: Mapping[str, Doubles], shape: tuple[int, ...]) -> Doubles:
    if "hada_t1" in f:
        sides = [tucker(f[f"hada_t{i}"], f[f"hada_w{i}_a"], f[f"hada_w{i}_b"]) for i in (1, 2)]
    else:
        sides = [np.einsum("or,rx->ox", f[f"hada_w{i}_a"], f[f"hada_w{i}_b"]) for i in (1, 2)]
    return (sides[0] * sides[1]).reshape(shape)


def lokr(f: Mapping[str, Doubles], shape: tuple[int, ...]) -> Doubles:
    first = f["lokr_w1"] if "lokr_w1" in f else f["lokr_w1_a"] @ f["lokr_w1_b"]
    if "lokr_t2" in f:
        second = tucker(f["lokr_t2"], f["lokr_w2_a"], f["lokr_w2_b"])
    else:
        second = f["lokr_w2"] if "lokr_w2" in f else f["lokr_w2_a"] @ f["lokr_w2_b"]
    if second.ndim == 2:
        second = second.reshape(second.shape[0], shape[1] // first.shape[1], *shape[2:])
    if second.ndim == 4:
        first = first[..., None, None]
        return np.einsum("abxy,cdhw->acbdhw", first, second).reshape(shape)
    return np.einsum("ab,cd->acbd", first, second).reshape(shape)


FORMS: Mapping[str, tuple[Any, tuple[int, ...], dict[str, tuple[int, ...]], float]] = {
    # what, the weight's shape, the factors, alpha / rank
    "LoRA": (lora, LINEAR, {"lora_up.weight": (6, 3), "lora_down.weight": (3, 8)}, 1.5 / 3),
    "LoRA, stored as convolutions": (
        lora,
        LINEAR,
        {"lora_up.weight": (6, 3, 1, 1), "lora_down.weight": (3, 8, 1, 1)},
        0.5,
    ),
    "LoRA of a 1x1 convolution": (lora, POINT, {"lora_up.weight": (6, 3), "lora_down.weight": (3, 8)}, 0.5),
    "LoCon": (lora, CONV, {"lora_up.weight": (6, 3, 1, 1), "lora_down.weight": (3, 8, 3, 3)}, 0.5),
    "LoCon, Tucker": (
        lora,
        CONV,
        {"lora_up.weight": (6, 3, 1, 1), "lora_mid.weight": (3, 3, 3, 3), "lora_down.weight": (3, 8, 1, 1)},
        0.5,
    ),
    "LoHa": (
        loha,
        LINEAR,
        {"hada_w1_a": (6, 2), "hada_w1_b": (2, 8), "hada_w2_a": (6, 2), "hada_w2_b": (2, 8)},
        0.75,
    ),
    "LoHa of a convolution": (
        loha,
        CONV,
        {"hada_w1_a": (6, 2), "hada_w1_b": (2, 72), "hada_w2_a": (6, 2), "hada_w2_b": (2, 72)},
        0.75,
    ),
    "LoHa, Tucker": (
        loha,
        CONV,
        {
            "hada_w1_a": (2, 6),
            "hada_w1_b": (2, 8),
            "hada_t1": (2, 2, 3, 3),
            "hada_w2_a": (2, 6),
            "hada_w2_b": (2, 8),
            "hada_t2": (2, 2, 3, 3),
        },
        0.75,
    ),
    "LoKr, both whole: alpha says nothing": (
        lokr,
        LINEAR,
        {"lokr_w1": (2, 4), "lokr_w2": (3, 2)},
        1.0,
    ),
    "LoKr, second of low rank": (
        lokr,
        LINEAR,
        {"lokr_w1": (2, 4), "lokr_w2_a": (3, 1), "lokr_w2_b": (1, 2)},
        1.5,
    ),
    "LoKr, first of low rank": (
        lokr,
        LINEAR,
        {"lokr_w1_a": (2, 1), "lokr_w1_b": (1, 4), "lokr_w2": (3, 2)},
        1.5,
    ),
    "LoKr, both of low rank": (
        lokr,
        LINEAR,
        {"lokr_w1_a": (2, 2), "lokr_w1_b": (2, 4), "lokr_w2_a": (3, 2), "lokr_w2_b": (2, 2)},
        0.75,
    ),
    "LoKr of a convolution": (lokr, CONV, {"lokr_w1": (2, 4), "lokr_w2": (3, 2, 3, 3)}, 1.0),
    "LoKr of a convolution, low rank": (
        lokr,
        CONV,
        {"lokr_w1": (2, 4), "lokr_w2_a": (3, 2), "lokr_w2_b": (2, 18)},
        0.75,
    ),
    "LoKr, Tucker": (
        lokr,
        CONV,
        {"lokr_w1": (2, 4), "lokr_w2_a": (2, 3), "lokr_w2_b": (2, 2), "lokr_t2": (2, 2, 3, 3)},
        0.75,
    ),
}


@pytest.mark.parametrize("block", [None, 1, 150], ids=["whole", "row by row", "some rows"])
@pytest.mark.parametrize("dora", [None, "outputs", "inputs"])
@pytest.mark.parametrize("form", FORMS)
def test_a_kind(
    write: Write, form: str, dora: str | None, block: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if block is not None:
        monkeypatch.setattr(deltas, "BLOCK", block)
    function, shape, factors, scale = FORMS[form]
    ones = (1,) * (len(shape) - 2)
    rng = np.random.default_rng(3)
    stored: dict[str, Any] = {f"lora_unet_conv_in.{name}": sides for name, sides in factors.items()}
    stored["lora_unet_conv_in.alpha"] = ALPHA
    if dora is not None:
        sides = (6, 1, *ones) if dora == "outputs" else (1, 8, *ones)
        stored["lora_unet_conv_in.dora_scale"] = 1 + np.abs(rng.standard_normal(sides, np.float32))
    path = write(stored)
    wide = {key.partition(".")[2]: np.float64(value) for key, value in safetensors.read(path).items()}

    base = rng.standard_normal(shape, np.float32)
    expected = base + scale * function(wide, shape)
    if dora is not None:
        axes = tuple(i for i in range(len(shape)) if i != (0 if dora == "outputs" else 1))
        expected *= wide["dora_scale"] / np.sqrt((expected**2).sum(axis=axes, keepdims=True))

    adapter = read_adapter(path, {"unet": {"conv_in.weight": shape}})
    for weight in (1.0, -0.4):
        result = adapted({"conv_in.weight": base}, [WeightedDeltas(adapter.deltas["unet"], weight, "a")])
        assert relative_error(result["conv_in.weight"], base + weight * (expected - base)) < 1e-6


def test_without_alpha_the_factors_are_taken_as_they_are(write: Write) -> None:
    path = write({"unet.conv_in.lora_B.weight": (6, 3), "unet.conv_in.lora_A.weight": (3, 8)})
    adapter = read_adapter(path, {"unet": {"conv_in.weight": LINEAR}})
    file = safetensors.read(path)
    expected = file["unet.conv_in.lora_B.weight"] @ file["unet.conv_in.lora_A.weight"]
    change = whole_change(adapter.deltas["unet"]["conv_in.weight"], np.zeros(LINEAR, np.float32))
    assert relative_error(change, expected) < 1e-6


def test_differences_of_weights_and_of_biases(write: Write) -> None:
    path = write(
        {
            "lora_unet_conv_in.diff": CONV,
            "lora_unet_conv_in.diff_b": (6,),
            "lora_unet_conv_norm_out.w_norm": (6,),
            "lora_unet_conv_norm_out.b_norm": (6,),
        }
    )
    shapes = {
        "conv_in.weight": CONV,
        "conv_in.bias": (6,),
        "conv_norm_out.weight": (6,),
        "conv_norm_out.bias": (6,),
    }
    adapter = read_adapter(path, {"unet": shapes})
    base = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    result = adapted(base, [WeightedDeltas(adapter.deltas["unet"], 0.5, "a")])
    file = safetensors.read(path)
    stored = {
        "conv_in.weight": "conv_in.diff",
        "conv_in.bias": "conv_in.diff_b",
        "conv_norm_out.weight": "conv_norm_out.w_norm",
        "conv_norm_out.bias": "conv_norm_out.b_norm",
    }
    for name, key in stored.items():
        np.testing.assert_allclose(result[name], 1 + 0.5 * file[f"lora_unet_{key}"], rtol=1e-6)
