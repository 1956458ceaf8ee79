"""Augmentation of the scorer's pictures, which must not change their content."""

import numpy as np
import torch

from pochade.evaluation.augmentation import augmented, compressed, recoloured
from tests.evaluation.conftest import drawn

RED = (200, 40, 40, 255)


def views(shape: str, count: int, *, mirrorable: bool = True, hue_free: bool = False) -> np.ndarray:
    """(count, 32, 32, 3) in 0..255."""
    pictures = np.stack([drawn(shape, RED)] * count)
    flags = np.full(count, mirrorable), np.full(count, hue_free)
    x = augmented(pictures, *flags, 32, np.random.default_rng(0))
    assert x.shape == (count, 3, 32, 32)
    assert x.dtype == torch.float32
    assert x.min() >= -1 and x.max() <= 1
    return ((x + 1) * 127.5).permute(0, 2, 3, 1).numpy()


def test_the_same_state_gives_the_same_pictures_and_no_two_are_alike() -> None:
    one, other = views("cross", 12), views("cross", 12)
    np.testing.assert_array_equal(one, other)
    assert min(np.abs(one[i] - one[j]).mean() for i in range(12) for j in range(i)) > 1


def upper_right(pictures: np.ndarray) -> np.ndarray:
    """How much redder the upper right quarter is than the lower left one; the wedge fills the lower left."""
    red = pictures[..., 0] - pictures[..., 1]
    return red[:, :16, 16:].mean(axis=(1, 2)) - red[:, 16:, :16].mean(axis=(1, 2))


def test_only_what_may_be_mirrored_is() -> None:
    kept, free = views("wedge", 60, mirrorable=False), views("wedge", 60)
    assert (upper_right(kept) < 0).mean() > 0.9
    red = free[..., 0] - free[..., 1]
    leaning = red[:, 16:, 16:].mean(axis=(1, 2)) - red[:, 16:, :16].mean(axis=(1, 2))
    assert 0.25 < (leaning > 0).mean() < 0.75


def test_the_hue_changes_only_where_it_is_free() -> None:
    colour = torch.tensor([200.0, 40, 40]).view(1, 3, 1, 1).repeat(200, 1, 1, 1) / 255
    kept = recoloured(colour, np.zeros(200, bool), np.random.default_rng(0))
    free = recoloured(colour, np.ones(200, bool), np.random.default_rng(0))
    assert (kept.argmax(dim=1) == 0).all()
    assert 5 < (free.argmax(dim=1) != 0).sum() < 60


def test_backgrounds_vary_and_white_is_the_commonest() -> None:
    corners = views("disc", 100)[:, 0, 0]
    white = (corners > 225).all(axis=1).mean()
    assert 0.4 < white < 0.75


def test_compression_changes_little() -> None:
    picture = torch.from_numpy(drawn("disc", RED)[..., :3].copy()).permute(2, 0, 1) / 255
    again = compressed(picture, 80)
    assert 0 < (again - picture).abs().mean() < 0.05
