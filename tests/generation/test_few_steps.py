"""Few-step models: an LCM's pictures equal diffusers', and unset settings get the model's defaults."""

from functools import partial

import numpy as np
import pytest
import torch
from diffusers import LCMScheduler
from diffusers.schedulers import scheduling_lcm

import pochade
from pochade.adapters.library import stem
from pochade.checkpoints import safetensors
from pochade.diffusion.noise import batch_noise
from pochade.images.metadata import read_parameters
from pochade.request import DEFAULTS
from tests.reference import relative_error

SEED = 5
SIZE = {"width": 32, "height": 32}


@pytest.fixture(scope="module")
def lcm(model):
    return model("LCM")


@pytest.mark.parametrize("engine", ["torch", "openvino"])
@pytest.mark.parametrize(("steps", "scale"), [(1, 8.0), (4, 8.0), (4, 1.5)])
def test_pictures_of_an_lcm(lcm, monkeypatch, engine, steps, scale):
    ours, theirs = lcm.load(engine), lcm.theirs
    config = {**theirs.scheduler.config, "original_inference_steps": 50}
    monkeypatch.setattr(theirs, "scheduler", LCMScheduler.from_config(config))
    shape = (4, 32 // ours.networks.autoencoder_config.factor, 32 // ours.networks.autoencoder_config.factor)
    draw = batch_noise([SEED], shape)
    start = torch.from_numpy(np.ascontiguousarray(draw()))
    monkeypatch.setattr(scheduling_lcm, "randn_tensor", lambda *_, **__: torch.from_numpy(draw()))
    options = {"num_inference_steps": steps, "guidance_scale": scale, "output_type": "np", **SIZE}
    expected = theirs("a red fox", latents=start, **options).images
    drawn = partial(
        ours.stream, pochade.Request(prompt="a red fox", seed=SEED, cfg_scale=scale, steps=steps, **SIZE)
    )
    *_, last = drawn()
    with torch.no_grad():
        pixels = ours.networks.decode(np.asarray(last.denoised))
    assert relative_error(pixels.transpose(0, 2, 3, 1).clip(-1, 1) / 2 + 0.5, expected) < 1e-4


def test_what_is_left_open_is_the_models(lcm):
    ours = lcm.load()
    assert ours.few_steps.kind == "LCM"
    text = ours.txt2img("a fox", seed=1, **SIZE).infotexts[0]
    found = read_parameters(text).values
    assert {name: found[name] for name in ("Steps", "Sampler", "CFG scale")} == {
        "Steps": "4", "Sampler": "LCM", "CFG scale": "8",
    }  # fmt: skip


def test_what_is_said_wins(lcm):
    text = lcm.load().txt2img("a fox", steps=2, cfg_scale=2.0, sampler="Euler Karras", **SIZE).infotexts[0]
    found = read_parameters(text).values
    asked = ("Steps", "Sampler", "Schedule type", "CFG scale")
    assert [found[name] for name in asked] == ["2", "Euler", "Karras", "2"]


def test_any_other_model_keeps_the_usual(model):
    ours = model("SD 1.5").load()
    assert (ours.few_steps, ours.defaults) == (None, DEFAULTS)
    text = ours.txt2img("a fox", **SIZE).infotexts[0]
    assert "Steps: 20, Sampler: DPM++ 2M, Schedule type: Automatic" in text


@pytest.fixture
def adapter(model, tmp_path):
    """A file that changes the UNet of SD 1.5 a little."""
    tensors = model("SD 1.5").load().checkpoint.unet.tensors
    key = next(name for name in tensors if name.endswith("attn2.to_v.weight"))
    outputs, inputs = tensors[key].shape
    layer = f"unet.{key.removesuffix('.weight')}"

    def write(name, metadata=None):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        state = {
            f"{layer}.lora_B.weight": np.zeros((outputs, 2), np.float32),
            f"{layer}.lora_A.weight": np.zeros((2, inputs), np.float32),
        }
        safetensors.write(path, state, metadata or {})
        return path

    return write


def test_an_adapter_makes_it_one_of_few_steps(model, adapter):
    ours = model("SD 1.5").load()
    path = adapter("Hyper-SD15-8steps-lora.safetensors")
    assert ours.with_adapters([path]).defaults.steps == 8
    assert ours.with_adapters([pochade.Lora(path, 0.2)]).defaults == DEFAULTS
    assert (
        ours.with_adapters([adapter("ink.safetensors", {"ss_output_name": "lcm_ink"})]).defaults.sampler
        == "LCM"
    )
    nameless = adapter("lcm-lora-sdv1-5/pytorch_lora_weights.safetensors")
    assert stem(nameless) == "lcm-lora-sdv1-5"
    assert ours.with_adapters([nameless]).few_steps.kind == "LCM"


def test_an_adapter_that_a_prompt_asks_for(model, adapter):
    folder = adapter("loras/lcm-lora.safetensors").parent
    ours = model("SD 1.5").load().with_library(folder)
    fast = ours.txt2img("a fox <lora:lcm-lora:1>", seed=1, **SIZE).infotexts[0]
    assert "Steps: 4, Sampler: LCM" in fast and "CFG scale: 1," in fast
    assert "Steps: 20" in ours.txt2img("a fox <lora:lcm-lora:0.1>", seed=1, **SIZE).infotexts[0]
    assert ours.few_steps_for("a fox <lora:lcm-lora:1>").kind == "LCM"
