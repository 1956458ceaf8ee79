"""The UNet in two halves: with its own deep features the last layers give what the whole gives."""

from functools import cache

import numpy as np
import pytest

from pochade.configs.read_json import unet_config
from pochade.engines.numpy import NumpyOps, float32
from pochade.models.deepcache import unet_from_features, unet_with_features
from pochade.models.embedding import embed_sizes, embed_timestep
from pochade.models.unet import unet, up_layers
from pochade.weights import View
from tests.reference import UNETS, make_unet, stored, unet_inputs


@cache
def case(family):
    """Configuration, weights, and inputs at 13 x 9 latent pixels, which halve to no whole numbers."""
    reference = make_unet(family)
    config, given = unet_config(reference.config), unet_inputs(reference.config)
    named = {
        "x": given["sample"].numpy(),
        "time": embed_timestep(config, given["timestep"].numpy()).astype(np.float32),
        "context": given["encoder_hidden_states"].numpy(),
    }
    if "added_cond_kwargs" in given:
        added = given["added_cond_kwargs"]
        named["added"] = embed_sizes(config, added["text_embeds"].numpy(), added["time_ids"].numpy())
    if "timestep_cond" in given:
        named["guidance"] = given["timestep_cond"].numpy()
    return config, View(stored(reference), bind=float32), named


@pytest.mark.parametrize("family", UNETS)
def test_the_halves_make_the_whole(family):
    config, weights, inputs = case(family)
    whole = unet(NumpyOps(), config, weights, **inputs)
    count = len(up_layers(config))
    for layers in {1, 2, count - 1, count}:
        result, deep = unet_with_features(NumpyOps(), config, weights, **inputs, layers=layers)
        np.testing.assert_array_equal(result, whole)
        again = unet_from_features(NumpyOps(), config, weights, **inputs, deep=deep, layers=layers)
        np.testing.assert_allclose(again, whole, rtol=1e-5, atol=1e-5)


def test_the_last_layers_see_the_latent_and_leave_the_deep_features_alone():
    config, weights, inputs = case("SD 1.5")
    whole, deep = unet_with_features(NumpyOps(), config, weights, **inputs, layers=1)
    other = {**inputs, "x": inputs["x"] + np.float32(0.5)}
    again = unet_from_features(NumpyOps(), config, weights, **other, deep=deep, layers=1)
    truth, fresh = unet_with_features(NumpyOps(), config, weights, **other, layers=1)
    assert not np.allclose(deep, fresh)
    assert 0 < np.abs(again - truth).mean() < np.abs(whole - truth).mean()
