"""Large pictures in parts."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

import pochade
from pochade.pipeline.loading import networks as module
from pochade.pipeline.loading.tiles import in_tiles, ramp, starts
from tests.reference import psnr


@pytest.mark.parametrize(("length", "tile", "overlap"), [(96, 96, 24), (97, 96, 24), (500, 96, 24)])
def test_parts_cover_all_and_overlap(length: int, tile: int, overlap: int) -> None:
    found = starts(length, tile, overlap)
    assert found[0] == 0 and found[-1] == length - tile
    assert all(0 < later - earlier <= tile - overlap + 1 for earlier, later in pairwise(found))


def test_weights_fade_at_both_ends_and_never_vanish() -> None:
    weights = ramp(20, 4)
    np.testing.assert_allclose(weights[:5], [0.2, 0.4, 0.6, 0.8, 1.0])
    np.testing.assert_allclose(weights, weights[::-1])


@pytest.mark.parametrize(("given", "made"), [(1, 4), (4, 1)])
def test_a_function_of_single_pixels_is_not_changed(given: int, made: int) -> None:
    x = np.random.default_rng(0).standard_normal((1, 3, 11 * given, 29 * given), np.float32)
    sizes = set()

    def scaled(part: np.ndarray) -> np.ndarray:
        sizes.add(part.shape)
        if made > given:
            return part.repeat(made, axis=2).repeat(made, axis=3)
        return part[:, :, ::given, ::given]

    found = in_tiles(scaled, x, given=given, made=made, tile=8, overlap=3)
    np.testing.assert_allclose(found, scaled(x), atol=1e-6)
    assert len(sizes) == 2  # of all parts one, and the whole


def test_a_large_picture_is_nearly_the_same_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TILE", 24)
    monkeypatch.setattr(module, "OVERLAP", 8)
    networks = pochade.load(device="cpu", precision="f32").networks
    divided = replace(networks, whole=24 * 24)
    y, x = np.mgrid[0:256, 0:192] / 20
    picture = np.stack([np.sin(x), np.cos(y), np.sin(x + y)])[None].astype(np.float32) * 0.8
    whole = networks.encode(picture)
    parts = divided.encode(picture)
    assert parts.shape == whole.shape
    assert np.abs(parts - whole).mean() < 0.03 * np.abs(whole).mean()
    images = [(each.decode(whole).clip(-1, 1) + 1) * 127.5 for each in (networks, divided)]
    assert images[0].shape == picture.shape
    assert psnr(images[1], images[0]) > 45
