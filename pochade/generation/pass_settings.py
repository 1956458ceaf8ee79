"""What each of the two passes of a drawing draws with."""

from dataclasses import replace

from pochade.request import Settled
from pochade.request_options import Control

OWN_OF_HIRES = ("prompt", "negative_prompt", "sampler", "schedule", "cfg_scale")
"""Fields of a request that its second pass may have of its own, under the same names."""


def second_request(request: Settled) -> Settled:
    """What the second pass draws with: the request with the settings that `hires` has of its own.

    Its size is not in it (`hires.size_of`). A request without a second pass is returned as it is.
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
