"""Interpolates between prompts and seeds; each frame is an ordinary request."""

from collections.abc import Sequence
from dataclasses import replace

from pochade.errors import InvalidRequest, expect
from pochade.request import Request
from pochade.request_options import Blend, Variation

MAX_FRAMES = 1000


def frames(keyframes: Sequence[Request], count: int, *, loop: bool = False) -> list[Request]:
    """Return `count` requests, evenly spaced through all keyframes. The first and the last are keyframes.

    keyframes: requests that differ only in prompts and seeds, with their seeds set. Between two of them the
    prompts are blended, and the noise is interpolated spherically.
    loop: continue to the first keyframe, which is not repeated.

    Raises InvalidRequest for fewer than two keyframes, for fewer frames than keyframes, and for keyframes
    with a blend of their own, or with different seeds and a variation.
    """
    if len(keyframes) < 2:
        raise InvalidRequest("a walk needs at least two prompts or two seeds")
    expect("frames", count, len(keyframes), MAX_FRAMES)
    for each in keyframes:
        if each.blend is not None:
            raise InvalidRequest("a walk blends its prompts itself; give it prompts without a blend")
        if each.variation is not None and each.seed != keyframes[0].seed:
            raise InvalidRequest("a walk between seeds uses variations itself; leave out the variation")
    path = [*keyframes, keyframes[0]] if loop else list(keyframes)
    segments, gaps = len(path) - 1, count if loop else count - 1
    return [_between(path, *divmod(frame * segments, gaps), gaps) for frame in range(count)]


def _between(path: Sequence[Request], segment: int, done: int, gaps: int) -> Request:
    """The request after `done` of `gaps` frames of a segment."""
    one = path[segment]
    if done == 0:
        return one
    other, share = path[segment + 1], done / gaps
    moved = one
    if other.prompt != one.prompt:
        moved = replace(moved, blend=Blend(prompt=other.prompt, share=share))
    if other.seed != one.seed:
        moved = replace(moved, variation=Variation(seed=other.seed or 0, strength=share))
    return moved
