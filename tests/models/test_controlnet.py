"""ControlNets and the UNets that they steer, against diffusers' own."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel

from pochade.configs.read_json import controlnet_config, unet_config
from pochade.engines.torch import TorchEngine
from pochade.errors import InvalidCheckpoint
from pochade.loading.parameter_shapes import controlnet_shapes
from pochade.models.controlnet import RESIDUAL, controlled_unet, controlnet, embed_hint
from pochade.models.embedding import embed_sizes, embed_timestep
from tests.models.full_size import CASES
from tests.models.measure import unet_output
from tests.reference import (
    FACTOR,
    evaluate,
    make_controlnet,
    make_unet,
    relative_error,
    stored,
    unet_inputs,
)

FAMILIES = ["SD 1.5", "SD 2.1", "SDXL"]


@cache
def controlnet_of(family, **settings):
    return make_controlnet(family, **settings)


def hint_picture(shape, seed=0):
    rows, height, width = shape
    pixels = np.random.default_rng(seed).uniform(0, 1, (rows, 3, height * FACTOR, width * FACTOR))
    return pixels.astype(np.float32)


def reference(model, inputs, picture):
    """What diffusers return, the middle's residual last."""
    with torch.inference_mode():
        down, middle = model(**inputs, controlnet_cond=torch.from_numpy(picture), return_dict=False)
    return [residual.numpy() for residual in (*down, middle)]


def output(engine, model, inputs, picture):
    config, tensors = controlnet_config(dict(model.config)), stored(model)
    hint = evaluate(engine, embed_hint, config, tensors, picture=picture)
    return evaluate(engine, controlnet, config, tensors, hint=hint, **arrays_of(config.unet, inputs))


def arrays_of(config, inputs):
    arrays = {
        "x": inputs["sample"].numpy(),
        "time": embed_timestep(config, inputs["timestep"].numpy()),
        "context": inputs["encoder_hidden_states"].numpy(),
    }
    if "added_cond_kwargs" in inputs:
        added = inputs["added_cond_kwargs"]
        arrays["added"] = embed_sizes(config, added["text_embeds"].numpy(), added["time_ids"].numpy())
    return arrays


@pytest.mark.parametrize("family", FAMILIES)
def test_controlnet(engine, family):
    """At a size that halves to no whole numbers, every residual by itself."""
    ours, bound = engine
    model, shape = controlnet_of(family), (2, 13, 9)
    inputs, picture = unet_inputs(make_unet(family).config, shape), hint_picture(shape)
    expected = reference(model, inputs, picture)
    actual = output(ours, model, inputs, picture)
    assert len(actual) == len(expected) == 1 + len(model.controlnet_down_blocks)
    errors = [relative_error(mine, theirs) for mine, theirs in zip(actual, expected, strict=True)]
    assert max(errors) < bound


@pytest.mark.parametrize("family", FAMILIES)
def test_a_unet_with_residuals(engine, family):
    ours, bound = engine
    unet, model, shape = make_unet(family), controlnet_of(family), (2, 13, 9)
    inputs = unet_inputs(unet.config, shape)
    residuals = reference(model, inputs, hint_picture(shape))
    *down, middle = [torch.from_numpy(residual) for residual in residuals]
    with torch.inference_mode():
        expected = unet(
            **inputs, down_block_additional_residuals=down, mid_block_additional_residual=middle
        ).sample.numpy()
    named = {f"{RESIDUAL}{i}": residual for i, residual in enumerate(residuals)}
    config = unet_config(dict(unet.config))
    arrays = {**arrays_of(config, inputs), **named}
    actual = evaluate(ours, controlled_unet, config, stored(unet), **arrays)
    assert relative_error(actual, expected) < bound
    without = unet_output(TorchEngine(), dict(unet.config), stored(unet), inputs)
    assert relative_error(without, expected) > 0.05  # or nothing would have been added


@pytest.mark.parametrize("family", FAMILIES)
def test_it_asks_for_the_tensors_that_diffusers_save(family):
    model = controlnet_of(family)
    shapes = controlnet_shapes(controlnet_config(dict(model.config)))
    assert shapes == {name: tensor.shape for name, tensor in stored(model).items()}


def test_a_picture_that_is_read_blue_first():
    model = controlnet_of("SD 1.5", controlnet_conditioning_channel_order="bgr")
    inputs, picture = unet_inputs(make_unet("SD 1.5").config, (1, 8, 8)), hint_picture((1, 8, 8))
    expected = reference(model, inputs, picture)
    actual = output(TorchEngine(), model, inputs, picture)
    assert max(map(relative_error, actual, expected)) < 1e-4
    red_first = output(TorchEngine(), controlnet_of("SD 1.5"), inputs, picture)
    assert max(map(relative_error, red_first, expected)) > 1e-2


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("controlnet_conditioning_channel_order", "gbr"),
        ("class_embed_type", "timestep"),
        ("conditioning_embedding_out_channels", [16, 0]),
    ],
)
def test_a_configuration_that_is_not_supported_is_named(key, value):
    json = dict(controlnet_of("SD 1.5").config)
    with pytest.raises(InvalidCheckpoint, match=rf"the ControlNet's config\.json: {key}"):
        controlnet_config({**json, key: value})


@pytest.mark.parametrize(
    ("family", "parameters"), [("SD 1.5", 361_279_120), ("SD 2.1", 364_228_240), ("SDXL", 1_251_014_160)]
)
def test_published_models_have_these_tensors(family, parameters):
    """Names and shapes at full size; diffusers' model is only laid out, not filled."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**CASES[f"{family} UNet"].settings)
        model = ControlNetModel.from_unet(unet, load_weights_from_unet=False)
    shapes = controlnet_shapes(controlnet_config(dict(model.config)))
    assert shapes == {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert sum(map(math.prod, shapes.values())) == parameters
