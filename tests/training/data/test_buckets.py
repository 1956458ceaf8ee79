"""Aspect ratio buckets: sizes, assignment, and batches."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pochade.errors import InvalidRequest
from pochade.training.data.buckets import TOO_SMALL, Bucket, assign, buckets, draw, fit

SMALL = buckets(64 * 64, 16, widest=2.0)


@settings(deadline=None)
@given(st.integers(64, 512), st.sampled_from((8, 16, 32, 64)), st.floats(1.0, 5.0))
def test_buckets_keep_the_budget_the_multiple_and_the_aspect(side: int, multiple: int, widest: float) -> None:
    found = buckets(side * side, multiple, widest=widest)
    for bucket in found:
        assert bucket.width % multiple == bucket.height % multiple == 0
        assert bucket.width * bucket.height <= side * side
        assert 1 / widest - 1e-9 <= bucket.aspect <= widest + 1e-9
        # nothing larger of its kind would do
        longer, wider = bucket.width * (bucket.height + multiple), (bucket.width + multiple) * bucket.height
        larger = (bucket.width + multiple) ** 2 if bucket.aspect == 1 else max(longer, wider)
        assert larger > side * side
        assert Bucket(bucket.height, bucket.width) in found
    assert [bucket.aspect for bucket in found] == sorted(bucket.aspect for bucket in found)
    assert 1.0 in [bucket.aspect for bucket in found]


def test_the_buckets_of_sdxl() -> None:
    found = buckets(1024 * 1024, 64)
    for size in ((512, 2048), (640, 1536), (832, 1216), (1024, 1024), (1152, 896), (1344, 768), (1984, 512)):
        assert Bucket(*size) in found


@pytest.mark.parametrize(
    ("size", "bucket"),
    [
        ((400, 400), (64, 64)),
        ((410, 400), (64, 64)),
        ((800, 400), (80, 48)),  # nothing wider is allowed, and 5 : 3 is the widest there is
        ((40_000, 400), (80, 48)),
        ((400, 620), (48, 80)),
    ],
)
def test_a_picture_goes_to_the_nearest_aspect(size: tuple[int, int], bucket: tuple[int, int]) -> None:
    (number,) = assign([size], SMALL)
    assert SMALL[number] == Bucket(*bucket)


def test_a_bucket_that_needs_too_much_enlarging_is_left_out() -> None:
    choices = (Bucket(64, 64), Bucket(48, 64))
    # 60 x 66 is nearer to a square, but only the other one is covered without enlarging
    assert assign([(60, 66), (40, 40), (64, 64)], choices).tolist() == [1, TOO_SMALL, 0]
    assert assign([(60, 66), (40, 40)], choices, enlargement=1.1).tolist() == [0, TOO_SMALL]
    assert assign([(60, 66), (40, 40)], choices, enlargement=1.6).tolist() == [0, 0]


def test_of_two_sizes_of_one_aspect_the_larger_is_taken_if_it_can_be() -> None:
    assert assign([(500, 500), (40, 40)], (Bucket(32, 32), Bucket(64, 64))).tolist() == [1, 0]


def test_a_batch_is_of_one_bucket_and_every_picture_comes_equally_often() -> None:
    assigned = np.array([0] * 40 + [1] * 10 + [TOO_SMALL] * 5 + [2] * 3)
    rng = np.random.default_rng(5)
    seen: Counter[int] = Counter()
    for _ in range(4000):
        bucket, chosen = draw(assigned, 4, rng)
        assert len(chosen) == 4
        assert set(assigned[chosen].tolist()) == {bucket}
        assert len(set(chosen.tolist())) == min(4, (assigned == bucket).sum())
        seen.update(chosen.tolist())
    expected = 4000 * 4 / 53
    assert set(seen) == set(np.flatnonzero(assigned != TOO_SMALL).tolist())
    # a picture of the smallest bucket has a deviation of 21 around 302, one of the largest of 17
    assert max(abs(count - expected) for count in seen.values()) < 5 * 21
    shares = [sum(seen[int(n)] for n in np.flatnonzero(assigned == b)) / 16_000 for b in range(3)]
    assert np.allclose(shares, np.array([40, 10, 3]) / 53, atol=0.02)


def test_the_draw_depends_on_the_generator_alone() -> None:
    assigned = assign(np.random.default_rng(0).integers(100, 400, (50, 2)), SMALL)
    first, again = (draw(assigned, 6, np.random.default_rng((1, 2))) for _ in range(2))
    assert first[0] == again[0]
    assert first[1].tolist() == again[1].tolist()
    others = [draw(assigned, 6, np.random.default_rng((1, step)))[1].tolist() for step in range(3, 8)]
    assert any(other != first[1].tolist() for other in others)


def ramp(width: int, height: int) -> Image.Image:
    """A picture whose red tells the column and whose green the row."""
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([columns, rows, 0 * rows], axis=2).astype(np.uint8))


def test_the_crop_tells_where_it_was() -> None:
    picture = ramp(200, 100)
    bucket = Bucket(112, 100)  # as high as the picture, so that it is cut and not resized
    middle, where = fit(picture, bucket)
    assert middle.size == (112, 100)
    assert (where.left, where.top) == (44, 0)
    assert middle.getpixel((0, 7)) == (44, 7, 0)
    lefts = set()
    for seed in range(60):
        cut, where = fit(picture, bucket, np.random.default_rng(seed))
        assert cut.getpixel((3, 5)) == (where.left + 3, where.top + 5, 0)
        lefts.add(where.left)
    assert 0 <= min(lefts) < 10
    assert 78 < max(lefts) <= 88


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(SMALL))
def test_a_picture_of_any_size_fills_its_bucket(width: int, height: int, bucket: Bucket) -> None:
    cut, where = fit(Image.new("RGB", (width, height), "white"), bucket)
    assert cut.size == (bucket.width, bucket.height)
    assert cut.getextrema() == ((255, 255),) * 3  # no black from beyond the border
    assert min(where.left, where.top) == 0  # one of the sides just covers it


def test_what_is_impossible_is_said() -> None:
    with pytest.raises(InvalidRequest, match="100 pixels is less than 16 x 16"):
        buckets(100, 16)
    with pytest.raises(InvalidRequest, match=r"widest aspect 0\.5"):
        buckets(10_000, 16, widest=0.5)
    with pytest.raises(InvalidRequest, match="picture 1 has the size 0 x 30"):
        assign([(20, 30), (0, 30)], SMALL)
    with pytest.raises(InvalidRequest, match="no buckets"):
        assign([(20, 30)], ())
    with pytest.raises(InvalidRequest, match="none of 2 pictures"):
        draw(assign([(3, 3), (2, 2)], SMALL), 4, np.random.default_rng(0))
