"""What each of the two passes of a drawing draws with."""

from dataclasses import replace

from pochade.request import Settled
from pochade.ways import Control, Hires

OWN_OF_HIRES = ("prompt", "negative_prompt", "sampler", "schedule", "cfg_scale")
"""Fields of a request that its second pass may have of its own, under the same names."""


def second_request(request: Settled) -> Settled:
    """What the second pass draws with: the request with the settings that `hires` has of its own.

    Its size is not in it (`size_of_second_pass`). A request without a second pass is returned as it is.
    """
    own = request.hires
    if own is None:
        return request
    names = ("steps", *OWN_OF_HIRES)
    given = {name: getattr(own, name) for name in names if getattr(own, name) is not None}
    return replace(request, **given)


def controls_of(request: Settled, passes: str) -> tuple[Control, ...]:
    """Those of its ControlNets that steer in a pass, "first" or "second"; all if there is one pass only."""
    if request.hires is None:
        return request.controls
    return tuple(each for each in request.controls if each.passes in ("both", passes))


def size_of_second_pass(request: Settled, hires: Hires, factor: int) -> tuple[int, int]:
    """Width and height of the second pass, px, of whole latent pixels; fractions are cut, as in A1111."""
    width, height = hires.size or (int(request.width * hires.scale), int(request.height * hires.scale))
    return max(factor, width // factor * factor), max(factor, height // factor * factor)
