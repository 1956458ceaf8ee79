"""ESRGAN's network against the one that torch computes."""

import math

import numpy as np
import pytest
import torch

from pochade.configs.networks import RrdbConfig
from pochade.configs.read_json import rrdb_config
from pochade.errors import InvalidCheckpoint
from pochade.loading.parameter_shapes import rrdb_shapes
from pochade.models.rrdb import rrdb
from tests.reference import evaluate, relative_error, stored
from tests.upscalers import make_upscaler

KINDS = {"x4": {}, "x2": {"unshuffle": 2}, "x1": {"unshuffle": 4}, "x8": {"doublings": 3, "blocks": 1}}


def config_of(settings):
    return RrdbConfig(**{"width": 16, "growth": 8, "blocks": 2, **settings})


@pytest.mark.parametrize("kind", KINDS)
def test_rrdb(engine, kind):
    ours, bound = engine
    model, config = make_upscaler(**KINDS[kind]), config_of(KINDS[kind])
    picture = np.random.default_rng(0).uniform(0, 1, (1, 3, 12, 8)).astype(np.float32)
    with torch.inference_mode():
        expected = model(torch.from_numpy(picture)).numpy()
    assert expected.shape == (1, 3, 12 * config.scale, 8 * config.scale)
    assert relative_error(evaluate(ours, rrdb, config, stored(model), picture=picture), expected) < bound


@pytest.mark.parametrize("kind", KINDS)
def test_it_asks_for_the_tensors_that_there_are(kind):
    shapes = rrdb_shapes(config_of(KINDS[kind]))
    assert shapes == {name: tensor.shape for name, tensor in stored(make_upscaler(**KINDS[kind])).items()}


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("channels", 1, "channels of a picture = 1"),
        ("channels_read", 4, "channels that are read = 4"),
        ("blocks", 0, "blocks = 0"),
        ("doublings", 1, "make pictures smaller"),
    ],
)
def test_shapes_that_make_no_sense(key, value, fault):
    table = {"channels": 3, "channels_read": 48, "width": 8, "growth": 4, "blocks": 1, "doublings": 2}
    with pytest.raises(InvalidCheckpoint, match=fault):
        rrdb_config({**table, key: value})


def test_the_published_model_has_so_many_parameters():
    """RealESRGAN_x4plus and ESRGAN's own x4."""
    assert sum(map(math.prod, rrdb_shapes(RrdbConfig()).values())) == 16_697_987
