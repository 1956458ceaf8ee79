"""eps, v and sample: closed forms, and diffusers' conversion of raw predictions."""

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler

from pochade.diffusion.parametrization import PARAMETRIZATIONS, denoiser, eps, find_parametrization, sample, v
from pochade.diffusion.schedule import noise_schedule
from pochade.errors import InvalidCheckpoint

# diffusers 0.42 asks numpy for arrays in a way that numpy 2 deprecates
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SCHEDULE = noise_schedule()


def perfect_model(parametrization, data, noise):
    """What a model would put out that knows the data and the noise of its input."""

    def predict(x, timestep):
        share = float(np.interp(timestep, np.arange(1000), SCHEDULE.alphas_cumprod))
        alpha, sigma = share**0.5, (1 - share) ** 0.5
        np.testing.assert_allclose(x, alpha * data + sigma * noise, rtol=1e-6, atol=1e-9)
        return {eps: noise, v: alpha * noise - sigma * data, sample: data}[parametrization]

    return predict


@pytest.mark.parametrize("timestep", [0, 1, 500, 999])
@pytest.mark.parametrize("parametrization", [eps, v, sample])
def test_a_perfect_model_denoises_perfectly(parametrization, timestep):
    data, noise = np.random.default_rng(timestep).normal(size=(2, 3, 4, 5, 5))
    sigma = float(SCHEDULE.sigmas[timestep])
    denoise = denoiser(perfect_model(parametrization, data, noise), parametrization, SCHEDULE)
    np.testing.assert_allclose(denoise(data + sigma * noise, sigma), data, atol=1e-12)


@pytest.mark.parametrize(("name", "theirs"), [("eps", "epsilon"), ("v", "v_prediction")])
def test_denoised_is_that_of_diffusers(name, theirs):
    x, raw = np.random.default_rng(1).normal(size=(2, 2, 4, 6, 6)).astype(np.float32)
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=theirs
    )
    scheduler.set_timesteps(10)
    for index, timestep in enumerate(scheduler.timesteps):
        sigma = float(scheduler.sigmas[index])
        seen = []

        def predict(scaled, timestep, seen=seen):
            seen.append((scaled, timestep))
            return raw

        ours = denoiser(predict, PARAMETRIZATIONS[name], SCHEDULE)(sigma * x, sigma)
        scaled = scheduler.scale_model_input(torch.tensor(sigma * x), timestep)
        step = scheduler.step(torch.tensor(raw), timestep, torch.tensor(sigma * x))
        np.testing.assert_allclose(ours, step.pred_original_sample.numpy(), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(seen[0][0], scaled.numpy(), rtol=1e-5)
        assert seen[0][1] == pytest.approx(float(timestep), abs=1e-3)
        assert ours.dtype == np.float32


@pytest.mark.parametrize("parametrization", [eps, v, sample])
@pytest.mark.parametrize("sigma", [1e-3, 0.03, 1.0, 14.6, 4096.0])
def test_a_scaled_input_has_unit_variance_for_unit_data(parametrization, sigma):
    c_skip, c_out, c_in, _ = parametrization(SCHEDULE, sigma)
    assert c_in**2 * (1 + sigma**2) == pytest.approx(1)
    assert np.isfinite([c_skip, c_out]).all()


def test_names():
    assert find_parametrization("v_prediction") is v
    assert find_parametrization("epsilon") is find_parametrization("eps") is eps
    with pytest.raises(InvalidCheckpoint, match="prediction type 'flow' is unknown; one of: eps"):
        find_parametrization("flow")
