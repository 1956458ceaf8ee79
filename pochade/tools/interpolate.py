"""A walk: pictures on the way from one prompt and seed to the next, as ordinary requests."""

from collections.abc import Sequence
from dataclasses import replace

from pochade.errors import InvalidRequest, expect
from pochade.request import Request
from pochade.request_options import Blend, Variation

MAX_FRAMES = 1000


def frames(stations: Sequence[Request], count: int, *, loop: bool = False) -> list[Request]:
    """`count` requests, evenly along the way through all stations. The first and the last are stations.

    stations: alike but for prompts and seeds, which are settled. Between two of them the prompts are blended,
    and the noise goes from one seed's to the other's on the sphere that noise lies on.
    loop: the way leads back to the first station, which is not drawn again.

    Raises InvalidRequest for fewer than two stations, for fewer frames than stations, and for stations with a
    blend of their own, or with other seeds and a variation.
    """
    if len(stations) < 2:
        raise InvalidRequest("a walk needs two prompts, or two seeds")
    expect("frames", count, len(stations), MAX_FRAMES)
    for each in stations:
        if each.blend is not None:
            raise InvalidRequest("a walk blends its prompts itself; give it prompts without a blend")
        if each.variation is not None and each.seed != stations[0].seed:
            raise InvalidRequest("a walk between seeds is a variation itself; give it none besides")
    way = [*stations, stations[0]] if loop else list(stations)
    legs, gaps = len(way) - 1, count if loop else count - 1
    return [_between(way, *divmod(frame * legs, gaps), gaps) for frame in range(count)]


def _between(way: Sequence[Request], leg: int, done: int, gaps: int) -> Request:
    """Where `done` of `gaps` of a leg are done."""
    one = way[leg]
    if done == 0:
        return one
    other, share = way[leg + 1], done / gaps
    moved = one
    if other.prompt != one.prompt:
        moved = replace(moved, blend=Blend(prompt=other.prompt, share=share))
    if other.seed != one.seed:
        moved = replace(moved, variation=Variation(seed=other.seed or 0, strength=share))
    return moved
