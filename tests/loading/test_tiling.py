"""Large pictures in parts."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import pochade
from pochade.loading import networks as module
from pochade.loading.engine_choice import choose, make_engine
from pochade.loading.parameter_shapes import with_config
from pochade.loading.tiling import ramp, run_tiled, starts
from pochade.models.shared_norms import recording_statistics, with_given_statistics
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


@pytest.mark.parametrize(("in_scale", "out_scale"), [(1, 4), (4, 1)])
def test_a_function_of_single_pixels_is_not_changed(in_scale: int, out_scale: int) -> None:
    x = np.random.default_rng(0).standard_normal((1, 3, 11 * in_scale, 29 * in_scale), np.float32)
    sizes = set()

    def scaled(part: np.ndarray) -> np.ndarray:
        sizes.add(part.shape)
        if out_scale > in_scale:
            return part.repeat(out_scale, axis=2).repeat(out_scale, axis=3)
        return part[:, :, ::in_scale, ::in_scale]

    found = run_tiled(scaled, x, in_scale=in_scale, out_scale=out_scale, tile=8, overlap=3)
    np.testing.assert_allclose(found, scaled(x), atol=1e-6)
    assert len(sizes) == 2  # of all parts one, and the whole


@pytest.mark.parametrize(("length", "tile", "overlap"), [(97, 96, 24), (129, 96, 24), (500, 96, 24)])
def test_parts_of_what_goes_round_overlap_across_the_edge_too(length: int, tile: int, overlap: int) -> None:
    found = [*starts(length, tile, overlap, tiling=True), length]
    assert found[0] == 0
    assert all(0 < later - earlier <= tile - overlap for earlier, later in pairwise(found))
    assert starts(96, 96, 24, tiling=True) == [0]


@pytest.mark.parametrize(("in_scale", "out_scale"), [(1, 4), (4, 1)])
def test_a_function_of_single_pixels_is_not_changed_by_going_round(in_scale: int, out_scale: int) -> None:
    x = np.random.default_rng(0).standard_normal((1, 3, 11 * in_scale, 29 * in_scale), np.float32)

    def scaled(part: np.ndarray) -> np.ndarray:
        larger = part.repeat(out_scale, axis=2).repeat(out_scale, axis=3)
        return larger if out_scale > in_scale else part[:, :, ::in_scale, ::in_scale]

    found = run_tiled(scaled, x, in_scale=in_scale, out_scale=out_scale, tile=8, overlap=3, tiling=True)
    np.testing.assert_allclose(found, scaled(x), atol=1e-6)


def rolled(x: np.ndarray, rows: int, columns: int) -> np.ndarray:
    return np.roll(x, (rows, columns), (2, 3))


@pytest.mark.parametrize(
    ("engine", "rows", "columns"),
    [  # both sides in parts, or one
        ("openvino", 32, 32), ("openvino", 32, 20), ("torch", 32, 32), ("torch", 20, 32), ("numpy", 20, 32),
    ],
)  # fmt: skip
def test_edges_fit_together_in_parts(engine: str, rows: int, columns: int) -> None:
    """What is shifted by a part comes out shifted: the seam across the edges is one like all others."""
    networks = pochade.load(device="cpu", precision="f32", engine=engine).networks
    going_round = replace(networks, untiled_pixels=24 * 24, tile=24, tiling=True)
    channels, factor = networks.autoencoder_config.latent_channels, networks.autoencoder_config.factor
    by = tuple(16 if side > 24 else 3 for side in (rows, columns))  # the parts begin at 0 and 16
    latent = np.random.default_rng(0).standard_normal((1, channels, rows, columns), np.float32)
    picture = going_round.decode(latent)
    moved = going_round.decode(rolled(latent, *by))
    np.testing.assert_allclose(moved, rolled(picture, *(factor * each for each in by)), atol=2e-4)
    picture = picture.clip(-1, 1)
    found = going_round.encode(rolled(picture, *(factor * each for each in by)))
    np.testing.assert_allclose(found, rolled(going_round.encode(picture), *by), atol=2e-3)


def test_no_step_where_edges_of_parts_meet() -> None:
    """Across the edges a smooth picture changes as it does everywhere else."""
    networks = replace(
        pochade.load(device="cpu", precision="f32").networks, tiling=True, untiled_pixels=24 * 24, tile=24
    )
    y, x = np.mgrid[0:256, 0:256] * 2 * np.pi / 256
    picture = np.stack([np.sin(x), np.cos(y), np.sin(x + 2 * y)])[None].astype(np.float32) * 0.8
    decoded = networks.decode(networks.encode(picture))
    for axis in (2, 3):
        steps = np.abs(np.diff(decoded, axis=axis, append=decoded.take([0], axis))).mean(axis=(1, 5 - axis))[
            0
        ]
        assert steps[-1] < 2 * np.median(steps[:-1])


def test_a_large_picture_is_nearly_the_same_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TILE", 24)
    monkeypatch.setattr(module, "OVERLAP", 8)
    networks = pochade.load(device="cpu", precision="f32").networks
    divided = replace(networks, untiled_pixels=24 * 24)
    y, x = np.mgrid[0:256, 0:192] / 20
    picture = np.stack([np.sin(x), np.cos(y), np.sin(x + y)])[None].astype(np.float32) * 0.8
    whole = networks.encode(picture)
    parts = divided.encode(picture)
    assert parts.shape == whole.shape
    assert np.abs(parts - whole).mean() < 0.03 * np.abs(whole).mean()
    images = [(each.decode(whole).clip(-1, 1) + 1) * 127.5 for each in (networks, divided)]
    assert images[0].shape == picture.shape
    assert psnr(images[1], images[0]) > 45


# --- group norms ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """Pictures of the starter's beside and above plain areas of several colours: (1, 3, H, W) in -1..1."""
    starter = pochade.load(device="cpu", precision="f32")
    drawn = [
        np.asarray(starter.txt2img(prompt, seed=seed, steps=8).images[0])
        for seed, prompt in enumerate(("a red apple, flat style", "a fox, 3d style"))
    ]
    plain = [np.full((128, 128, 3), colour, np.uint8) for colour in ((230, 230, 230), (90, 140, 220))]
    rows = [np.concatenate([*drawn, plain[0]], axis=1), np.concatenate([plain[0], *plain[::-1]], axis=1)]
    sheet = np.concatenate(rows).transpose(2, 0, 1)[None]
    return (sheet / np.float32(127.5) - 1).astype(np.float32)


@pytest.mark.parametrize("engine", ["numpy", "openvino", "torch"])
def test_parts_are_normalised_as_one_picture(engine: str) -> None:
    """With the statistics of the whole a part is what the whole is there, for a function of single pixels."""

    def function(ops: Any, config: None, w: Any, x: Any) -> Any:
        scale, shift = w("scale", (4,)), w("shift", (4,))
        once = ops.silu(ops.group_norm(x, scale, shift, 2, 1e-5))
        return ops.group_norm(once + x, shift, scale, 2, 1e-5)

    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 4, 6, 8), np.float32) + np.linspace(-2, 2, 8, dtype=np.float32)
    weights = {name: rng.standard_normal(4, np.float32) for name in ("scale", "shift")}

    def run(function: Any, **inputs: np.ndarray) -> np.ndarray:
        engine_made = make_engine(choose("cpu", "f32", engine))
        shapes = {name: (array.shape, "f32") for name, array in inputs.items()}
        found = engine_made.compile(with_config(function, None), weights, shapes, key=function.__name__)(
            **inputs
        )
        return np.asarray(found)

    whole, statistics = run(function, x=x), run(recording_statistics(function), x=x)
    assert statistics.shape == (4, 2)
    for part in (slice(0, 4), slice(4, 8)):
        alike = run(with_given_statistics(function), x=x[..., part].copy(), statistics=statistics)
        np.testing.assert_allclose(alike, whole[..., part], atol=2e-5)
        assert np.abs(run(function, x=x[..., part].copy()) - whole[..., part]).max() > 0.3


def test_plain_areas_are_not_shifted_by_the_parts(pictures: np.ndarray) -> None:
    networks = pochade.load(device="cpu", precision="f32").networks
    divided = replace(networks, untiled_pixels=24 * 24, tile=24)
    latent = networks.encode(pictures)

    def levels(found: np.ndarray) -> np.ndarray:
        return (found.clip(-1, 1) + 1) * 127.5

    whole, parts = (levels(each.decode(latent)) for each in (networks, divided))
    out_scale = networks.autoencoder_config.factor
    alone = levels(run_tiled(networks.decode, latent, in_scale=1, out_scale=out_scale, tile=24, overlap=6))
    plain = (..., slice(136, 248), slice(8, 248))
    assert np.abs(alone - whole)[plain].max() > 10  # what parts do that look at themselves alone
    assert np.abs(parts - whole)[plain].max() < 6
    assert psnr(parts, whole) > psnr(alone, whole) + 8
    encoded = divided.encode(pictures)
    assert np.abs(encoded - latent).mean() < 0.1 * np.abs(latent).mean()


def test_what_parts_need_is_compiled_before_the_drawing() -> None:
    networks = pochade.load(device="cpu", precision="f32").networks
    divided = replace(networks, untiled_pixels=24 * 24, tile=24)
    divided.prepare_decode((networks.autoencoder_config.latent_channels, 32, 40))
    known = set(divided.autoencoder.compiled)
    divided.decode(np.zeros((1, networks.autoencoder_config.latent_channels, 32, 40), np.float32))
    assert known and set(divided.autoencoder.compiled) == known
