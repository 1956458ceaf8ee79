"""Errors for invalid models and requests."""

import json
import shutil

import numpy as np
import pytest

import pochade
from pochade.checkpoints import safetensors
from pochade.errors import InvalidCheckpoint, InvalidRequest, PochadeError
from pochade.request import Request

UNET = "unet/diffusion_pytorch_model.safetensors"
NAME = "mid_block.attentions.0.proj_in.weight"


@pytest.fixture
def folder(model, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(model("SD 2.1").folder, tmp_path / "model")


def damage(path, change):
    """Write the weight file again after `change(tensors)` has been at the dictionary."""
    tensors = {name: np.array(tensor) for name, tensor in safetensors.read(path).items()}
    change(tensors)
    safetensors.write(path.with_name("new"), tensors)
    path.with_name("new").replace(path)


def load(folder, **options):
    return pochade.load(folder, **{"engine": "torch", "device": "cpu", "precision": "f32", **options})


def configure(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# --- models -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["numpy", "openvino", "torch"])
def test_a_missing_tensor(folder, engine):
    damage(folder / UNET, lambda tensors: tensors.pop(NAME))
    with pytest.raises(InvalidCheckpoint, match=f"1 missing: '{NAME}'"):
        load(folder, engine=engine)


def test_an_unexpected_tensor(folder):
    damage(folder / UNET, lambda tensors: tensors.update({"extra.weight": np.zeros(3, np.float32)}))
    with pytest.raises(InvalidCheckpoint, match=r"1 unexpected: 'extra\.weight'"):
        load(folder)


@pytest.mark.parametrize("engine", ["numpy", "openvino", "torch"])
def test_a_tensor_of_another_shape(folder, engine):
    """Found at loading on every engine, not when the first picture is drawn."""
    damage(folder / UNET, lambda tensors: tensors.update({NAME: tensors[NAME][:, :-1].copy()}))
    with pytest.raises(InvalidCheckpoint, match=rf"{NAME}.*\(32, 31\).*\(32, 32\)"):
        load(folder, engine=engine)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("engine", "file", "name"),
    [
        ("openvino", UNET, NAME),
        ("torch", UNET, NAME),
        ("torch", "vae/diffusion_pytorch_model.safetensors", "decoder.conv_in.bias"),
        ("torch", "text_encoder/model.safetensors", "final_layer_norm.weight"),
    ],
)
def test_a_number_that_is_none(folder, engine, file, name, value):
    """Found when the network is built, so at the latest before its first result is seen."""
    damage(folder / file, lambda tensors: np.put(tensors[name], 0, value))
    pipeline = load(folder, engine=engine)
    with pytest.raises(
        InvalidCheckpoint, match=rf"'{name}'.*has 1 of [\d,]+ entries that are NaN or infinite"
    ):
        pipeline.txt2img("a red fox", width=8, height=8, steps=1)


def test_a_damaged_decoder_is_found_before_the_first_step(folder):
    file, name = "vae/diffusion_pytorch_model.safetensors", "decoder.conv_in.bias"
    damage(folder / file, lambda tensors: np.put(tensors[name], 0, np.nan))
    stream = load(folder, engine="openvino").stream(Request(prompt="a fox", width=8, height=8, steps=2))
    with pytest.raises(InvalidCheckpoint, match=f"'{name}'"):
        next(stream)


def test_a_configuration_that_is_not_supported(folder):
    configure(folder / "unet/config.json", class_embed_type="timestep")
    with pytest.raises(InvalidCheckpoint, match="class_embed_type = 'timestep' is not supported"):
        load(folder)


def test_weights_that_are_not_those_of_the_configuration(folder):
    configure(folder / "unet/config.json", use_linear_projection=False)
    with pytest.raises(InvalidCheckpoint, match=r"proj_(in|out)\.weight"):
        load(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trained_betas", [0.1, 0.2]),
        ("prediction_type", "flow"),
        ("beta_schedule", "sigmoid"),
        ("beta_end", 2.0),
    ],
)
def test_a_scheduler_that_is_not_supported(folder, key, value):
    configure(folder / "scheduler/scheduler_config.json", **{key: value})
    with pytest.raises(InvalidCheckpoint, match="trained_betas" if key == "trained_betas" else str(value)):
        load(folder)


def test_a_path_that_is_none(tmp_path):
    with pytest.raises(InvalidCheckpoint, match="nowhere"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("device", "tpu"),
        ("precision", "f8"),
        ("engine", "onnx"),
        ("device", "CPU"),
        ("precision", ""),
        ("engine", ""),
    ],
)
def test_an_unknown_name_lists_those_that_are_known(model, option, value):
    with pytest.raises(InvalidRequest, match=f"{option} '{value}' is unknown; one of: auto, "):
        load(model("SD 2.1").folder, **{option: value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "numpy", "precision": "bf16"}, "numpy.*f32 only, not in bf16"),
        ({"engine": "numpy", "device": "cuda"}, "numpy.*cuda.*cpu"),
        ({"engine": "openvino", "device": "mps"}, "openvino.*mps.*cpu, gpu"),
        ({"engine": "torch", "device": "gpu"}, "torch.*gpu.*cpu, cuda, mps"),
        ({"variant": "fp16"}, "fp16"),
    ],
)
def test_names_that_do_not_go_together(model, options, message):
    with pytest.raises(PochadeError, match=message):
        load(model("SD 2.1").folder, **options)


# --- requests ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pipeline(model):
    return model("SD 2.1").load()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 42}, "width is 42.*40 or 44"),
        ({"height": 25}, "height is 25.*24 or 28"),
        ({"width": 4}, "width is 4"),
        ({"height": 10_000}, "height is 10000"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": 10_000}, "steps is 10000"),
        ({"steps": 60, "schedule": "LCM"}, "steps is 60.*'LCM'"),
        ({"sampler": "DPM++ 4M"}, r"sampler 'DPM\+\+ 4M' is unknown.*Euler.*DPM\+\+ 2M"),
        ({"sampler": ""}, "sampler '' is unknown"),
        ({"schedule": "cosine"}, "schedule 'cosine' is unknown.*Karras"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"cfg_scale": float("nan")}, "cfg_scale is nan"),
        ({"seed": -1}, "seed is -1"),
        ({"clip_skip": 0}, "clip_skip is 0"),
        ({"eta": 2.0}, "eta is 2"),
        ({"prompt": "a" * 200_001}, "prompt has 200,001 characters"),
    ],
)
def test_a_request_that_cannot_be_drawn(pipeline, options, message):
    with pytest.raises(InvalidRequest, match=message):
        pipeline.txt2img(**{"prompt": "a red fox", "width": 40, "height": 24, **options})


@pytest.mark.parametrize("factor_of_8", [(516, 512), (512, 500)])
def test_sizes_of_a_model_that_draws_multiples_of_8(pipeline, factor_of_8):
    """The families that people have halve three times: 8 pixels are one of the latent."""
    from dataclasses import replace

    network = pipeline.networks.autoencoder
    config = replace(network.config, widths=(16, 16, 32, 32))
    networks = replace(pipeline.networks, autoencoder=replace(network, config=config))
    other = replace(pipeline, model=replace(pipeline.model, networks=networks))
    width, height = factor_of_8
    with pytest.raises(InvalidRequest, match=r"multiples of 8: try (512 or 520|496 or 504)"):
        other.txt2img("a", width=width, height=height)


@pytest.mark.parametrize("shape", [(1, 4, 10, 6), (2, 4, 6, 10), (1, 3, 6, 10), (4, 6, 10)])
def test_noise_of_another_shape(pipeline, shape):
    with pytest.raises(InvalidRequest, match=r"noise has shape .*\(1, 4, 6, 10\) is needed"):
        pipeline.txt2img("a red fox", noise=np.zeros(shape, np.float32), width=40, height=24)


def test_after_a_refusal_the_pipeline_draws(pipeline):
    with pytest.raises(InvalidRequest):
        next(pipeline.stream(Request(prompt="a", width=42)))
    assert pipeline.txt2img("a", width=40, height=24, steps=1, seed=0).images[0].size == (40, 24)


def test_a_prompt_of_signs_that_no_vocabulary_has(pipeline):
    """Not refused: its bytes are in every vocabulary."""
    result = pipeline.txt2img("\x00\ud800 🦊\u202e", width=8, height=8, steps=1, seed=0)
    assert result.images[0].size == (8, 8)
