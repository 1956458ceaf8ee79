"""Folders as people have them: of old and new versions, in shards, in 16 bits, with variants."""

import json
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch

from pochade.checkpoints import safetensors
from tests.pipeline.measure import draw_ours, draw_theirs, least_psnr, starting_noise
from tests.reference import psnr
from tests.tiny_models import Model

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def drawn(model: Model, **options):
    noise = starting_noise([5])
    return draw_ours(
        model.load(**options), "Euler", noise, [5], "a red fox", negative_prompt="the snow", steps=4
    )


@pytest.fixture
def copied(model, tmp_path):
    """`copied(family)`: a folder that a test may change."""

    def copy(family="SD 1.5"):
        made = model(family)
        shutil.copytree(made.folder, tmp_path / "model")
        return Model(made.theirs, tmp_path / "model")

    return copy


def rewrite(path: Path, change) -> None:
    """Write a weight file again with `change(name, tensor) -> (name, tensor)` done to each tensor."""
    tensors = safetensors.read(path)
    changed = dict(change(name, np.array(tensors[name])) for name in tensors)
    del tensors
    safetensors.write(path, changed, {"format": "pt"})


def old_attention(name, tensor, kernel):
    if "attentions" in name:
        for new, old in OLD_ATTENTION.items():
            name = name.replace(f".{new}.", f".{old}.")
        if kernel and tensor.ndim == 2:
            tensor = tensor[:, :, None, None]
    return name, tensor


@pytest.mark.parametrize("kernel", [False, True])
def test_the_attention_names_of_old_autoencoders(copied, model, kernel):
    """Old versions of diffusers called these layers otherwise; some converters kept 1x1 kernels."""
    old, path = copied(), "vae/diffusion_pytorch_model.safetensors"
    rewrite(old.folder / path, lambda name, tensor: old_attention(name, tensor, kernel))
    names = set(safetensors.read(old.folder / path))
    assert "decoder.mid_block.attentions.0.proj_attn.weight" in names
    assert not any("to_q" in name for name in names)
    np.testing.assert_array_equal(drawn(old), drawn(model("SD 1.5")))


@pytest.mark.parametrize("prefix", ["", "text_model."])
def test_text_keys_with_and_without_their_prefix(copied, model, prefix):
    """transformers 5 write CLIPTextModel's names without, all before with; old ones saved a buffer too."""
    other, path = copied(), "text_encoder/model.safetensors"
    rewrite(other.folder / path, lambda name, tensor: (prefix + name.removeprefix("text_model."), tensor))
    tensors = dict(safetensors.read(other.folder / path))
    tensors[f"{prefix}embeddings.position_ids"] = np.arange(77)[None]
    safetensors.write(other.folder / "text_encoder/new.safetensors", tensors)
    (other.folder / "text_encoder/new.safetensors").replace(other.folder / path)
    assert all(name.startswith(prefix) for name in tensors)
    np.testing.assert_array_equal(drawn(other), drawn(model("SD 1.5")))


@pytest.mark.parametrize("family", ["SD 1.5", "SDXL"])
def test_shards(model, tmp_path, family):
    made = model(family)
    made.theirs.save_pretrained(tmp_path / "model", max_shard_size="300KB")
    unet = tmp_path / "model" / "unet"
    assert (unet / "diffusion_pytorch_model.safetensors.index.json").exists()
    assert len(list(unet.glob("*.safetensors"))) > 3
    sharded = Model(made.theirs, tmp_path / "model")
    np.testing.assert_array_equal(drawn(sharded), drawn(made))
    assert sharded.load().model_hash is None


@pytest.mark.parametrize(
    ("engine", "dtype"),
    [("openvino", torch.bfloat16), ("torch", torch.bfloat16), ("torch", torch.float16)],
)
def test_weights_in_16_bits(model, tmp_path, engine, dtype):
    """diffusers read the same folder; both then compute in 32 bits with the rounded numbers."""
    made = model("SD 2.1")
    kind = type(made.theirs)
    kind.from_pretrained(made.folder, dtype=dtype).save_pretrained(tmp_path / "model")
    stored = safetensors.read(tmp_path / "model/unet/diffusion_pytorch_model.safetensors")
    wanted = np.float16 if dtype == torch.float16 else ml_dtypes.bfloat16
    assert {tensor.dtype for tensor in stored.values()} == {np.dtype(wanted)}
    theirs = kind.from_pretrained(tmp_path / "model", dtype=torch.float32)
    theirs.set_progress_bar_config(disable=True)
    narrow, noise = Model(theirs, tmp_path / "model"), starting_noise([5])
    expected = draw_theirs(
        theirs, "Euler", noise, [5], steps=4, prompt="a red fox", negative_prompt="the snow"
    )
    assert least_psnr(drawn(narrow, engine=engine), expected) > 50
    assert psnr(drawn(made), drawn(narrow)) < 70  # other numbers than before rounding


def test_a_variant_beside_the_plain_weights(model, tmp_path):
    """The plain ones are taken unless a variant is asked for; a folder of one variant needs no asking."""
    made = model("SD 1.5")
    folder = shutil.copytree(made.folder, tmp_path / "both")
    half = type(made.theirs).from_pretrained(made.folder, dtype=torch.float16)
    half.save_pretrained(folder, variant="fp16")
    half.save_pretrained(tmp_path / "one", variant="fp16")
    both, one = Model(half, folder), Model(half, tmp_path / "one")
    np.testing.assert_array_equal(drawn(both), drawn(made))
    np.testing.assert_array_equal(drawn(both, variant="fp16"), drawn(one))
    assert least_psnr(drawn(one), drawn(made)) < 70


@pytest.mark.parametrize(
    "change",
    [
        {"beta_schedule": "linear", "beta_start": 0.0015, "beta_end": 0.0195},
        {"rescale_betas_zero_snr": True},
        {"prediction_type": "epsilon"},
    ],
)
def test_the_schedule_that_a_model_was_trained_with(copied, model, change):
    other, noise = copied("SD 2.1"), starting_noise([5])
    path = other.folder / "scheduler/scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    changed = type(model("SD 2.1").theirs.scheduler)(**json.loads(path.read_text()))
    pipeline = other.load()
    np.testing.assert_allclose(
        pipeline.schedule.alphas_cumprod[:-1], changed.alphas_cumprod[:-1].double().numpy(), rtol=2e-3
    )
    assert pipeline.schedule.alphas_cumprod[-1] == pytest.approx(float(changed.alphas_cumprod[-1]), rel=1e-3)
    usual = drawn(model("SD 2.1"))
    assert least_psnr(draw_ours(pipeline, "Euler", noise, [5], "a red fox", steps=4), usual) < 45
