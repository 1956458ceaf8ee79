"""Classifier-free guidance and its rescaling."""

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

from pochade.diffusion.guidance import combine, guide, rescale
from pochade.diffusion.parametrization import denoiser, v
from pochade.diffusion.schedule import noise_schedule


@pytest.fixture
def predictions():
    return np.random.default_rng(3).normal(size=(2, 3, 4, 8, 8)).astype(np.float32)


def test_combine(predictions):
    cond, uncond = predictions
    np.testing.assert_array_equal(combine(cond, uncond, 0.0), uncond)
    np.testing.assert_allclose(combine(cond, uncond, 1.0), cond, atol=1e-6)
    np.testing.assert_allclose(combine(cond, uncond, 7.5), 7.5 * cond - 6.5 * uncond, atol=1e-5)


@pytest.mark.parametrize("amount", [0.0, 0.3, 0.7, 1.0])
def test_rescale_is_that_of_diffusers(predictions, amount):
    cond, uncond = predictions
    guided = combine(cond, uncond, 7.5)
    theirs = rescale_noise_cfg(torch.tensor(guided), torch.tensor(cond), guidance_rescale=amount)
    np.testing.assert_allclose(rescale(guided, cond, amount), theirs.numpy(), rtol=1e-5, atol=1e-6)
    ours = rescale(torch.tensor(guided), torch.tensor(cond), amount)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-5, atol=1e-6)


def test_rescale_restores_each_picture_on_its_own(predictions):
    cond, uncond = predictions
    cond = cond * np.array([1.0, 2.0, 5.0], np.float32).reshape(3, 1, 1, 1)
    result = rescale(combine(cond, uncond, 9.0), cond, 1.0)
    np.testing.assert_allclose(result.std(axis=(1, 2, 3)), cond.std(axis=(1, 2, 3)), rtol=1e-5)
    alone = rescale(combine(cond[1:2], uncond[1:2], 9.0), cond[1:2], 1.0)
    np.testing.assert_array_equal(result[1:2], alone)


def test_combining_predictions_or_denoised_latents_is_the_same(predictions):
    cond, uncond = predictions
    schedule = noise_schedule()
    x = cond + uncond
    guided = denoiser(guide(lambda x, t: (cond, uncond), 6.0), v, schedule)(x, 3.0)
    parts = [denoiser(lambda x, t, part=part: part, v, schedule)(x, 3.0) for part in (cond, uncond)]
    np.testing.assert_allclose(guided, combine(*parts, 6.0), atol=1e-5)


def test_guide_passes_on_what_the_model_is_given(predictions):
    cond, uncond = predictions
    seen = []

    def predict_both(x, timestep):
        seen.append((x, timestep))
        return cond, uncond

    result = guide(predict_both, 4.0, 0.5)(cond, 123.5)
    assert seen[0][0] is cond
    assert seen[0][1] == 123.5
    np.testing.assert_array_equal(result, rescale(combine(cond, uncond, 4.0), cond, 0.5))
