"""Pictures and latents made larger without a model."""

import numpy as np
import pytest
from PIL import Image

from pochade.images.upscaling import LATENT_UPSCALERS, UPSCALERS, upscaled, upscaled_latent


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("name", LATENT_UPSCALERS)
@pytest.mark.parametrize("scale", [2, 3])
def test_a_latent_that_goes_round_is_enlarged_the_same_wherever_it_begins(name: str, scale: int) -> None:
    latent = noise(2, 4, 6, 10)

    def larger(x: np.ndarray, **options: bool) -> np.ndarray:
        return upscaled_latent(x, 10 * scale, 6 * scale, name, **options)

    moved = larger(np.roll(latent, (2, 5), (2, 3)), tiling=True)
    expected = np.roll(larger(latent, tiling=True), (2 * scale, 5 * scale), (2, 3))
    np.testing.assert_allclose(moved, expected, atol=1e-5)
    inside = np.s_[:, :, 3 * scale : -3 * scale, 3 * scale : -3 * scale]
    np.testing.assert_allclose(larger(latent, tiling=True)[inside], larger(latent)[inside], atol=1e-5)


@pytest.mark.parametrize("name", UPSCALERS)
@pytest.mark.parametrize("size", [(80, 48), (20, 12)])
def test_a_picture_that_goes_round_is_resized_the_same_wherever_it_begins(
    name: str, size: tuple[int, int]
) -> None:
    pixels = (noise(24, 40, 3) * 60 + 128).clip(0, 255).astype(np.uint8)

    def resized(x: np.ndarray) -> np.ndarray:
        return np.asarray(upscaled(Image.fromarray(x), *size, name, tiling=True)).astype(int)

    moved = resized(np.roll(pixels, (8, 20), (0, 1)))
    expected = np.roll(resized(pixels), (8 * size[1] // 24, 20 * size[0] // 40), (0, 1))
    assert np.abs(moved - expected).max() <= 1
