"""The source of a picture's noise: `Request.rng`."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import pochade
from pochade.errors import InvalidRequest
from pochade.pipeline import Pipeline
from pochade.request import Request
from pochade.request_options import Variation

REQUEST = Request(prompt="a fox", seed=7, steps=2, width=64, height=64, sampler="Euler", rng="CPU")
SHAPE = (4, 8, 8)


@pytest.fixture(scope="module")
def starter() -> Pipeline:
    return pochade.load(device="cpu", precision="f32")


def latent(
    pipeline: Pipeline, request: Request, noise: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    *_, last = pipeline.stream(request, noise=noise)
    return np.asarray(last.denoised)


def of_torch(seed: int, shape: tuple[int, ...] = SHAPE) -> NDArray[np.float32]:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).numpy()


def test_a_picture_begins_with_the_noise_of_torch(starter: Pipeline) -> None:
    expected = latent(starter, replace(REQUEST, rng="NV"), of_torch(7)[None])
    np.testing.assert_allclose(latent(starter, REQUEST), expected, atol=1e-4)
    assert abs(latent(starter, replace(REQUEST, rng="NV")) - expected).max() > 0.1


def test_the_pictures_of_a_batch(starter: Pipeline) -> None:
    both = np.stack([of_torch(7), of_torch(8)])
    expected = latent(starter, replace(REQUEST, rng="NV", batch_size=2), both)
    np.testing.assert_allclose(latent(starter, replace(REQUEST, batch_size=2)), expected, atol=1e-4)


def test_noise_on_the_way_follows_the_first_draw(starter: Pipeline) -> None:
    """What is added comes from the generator that drew the start, as in A1111."""
    ancestral = replace(REQUEST, sampler="Euler a", steps=3, cfg_scale=1.0)
    first = latent(starter, ancestral)
    generator = torch.Generator().manual_seed(7)
    draws = [torch.randn(SHAPE, generator=generator).numpy() for _ in range(3)]
    again = latent(starter, ancestral, draws[0][None])
    np.testing.assert_allclose(again, first, atol=1e-4)
    assert abs(latent(starter, replace(ancestral, rng="NV"), draws[0][None]) - first).max() > 0.05


def test_a_second_seed_and_another_size(starter: Pipeline) -> None:
    varied = replace(REQUEST, variation=Variation(seed=9, strength=1.0))
    expected = latent(starter, replace(REQUEST, rng="NV"), of_torch(9)[None])
    np.testing.assert_allclose(latent(starter, varied), expected, atol=1e-4)
    whole = of_torch(7)
    whole[:, 2:6, 2:6] = of_torch(7, (4, 4, 4))
    resized = replace(REQUEST, variation=Variation(size=(32, 32)))
    expected = latent(starter, replace(REQUEST, rng="NV"), whole[None])
    np.testing.assert_allclose(latent(starter, resized), expected, atol=1e-4)


def test_it_is_written_into_the_picture(starter: Pipeline) -> None:
    (text,) = starter.txt2img("a fox", **{**about(REQUEST), "steps": 1}).infotexts
    assert "RNG: CPU" in text and "Emphasis" not in text
    (text,) = starter.txt2img("a fox", **{**about(REQUEST), "emphasis": "No norm", "rng": "NV"}).infotexts
    assert "RNG: NV, Emphasis: No norm" in text


def about(request: Request) -> dict[str, object]:
    names = ("seed", "steps", "width", "height", "sampler", "rng")
    return {name: getattr(request, name) for name in names}


@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [
        ("rng", "cpu ", "rng is 'cpu '; one of: NV, CPU"),
        ("emphasis", "strong", "emphasis is 'strong'; one of: Original, No norm, Ignore, None"),
    ],
)
def test_another_name_is_refused(field: str, value: str, fault: str) -> None:
    with pytest.raises(InvalidRequest, match=fault):
        Request(prompt="", **{field: value})  # type: ignore[arg-type]
