"""X/Y/Z grids: tables of pictures that differ in up to three settings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from types import MappingProxyType
from typing import Any

from pochade.errors import InvalidRequest
from pochade.request import Request, find_emphasis, find_rng

MAX_PICTURES = 1000


@dataclass(frozen=True)
class Axis:
    """An axis of a grid. name: a key of CHANGES. values: as the user wrote them."""

    name: str
    values: tuple[str, ...]


def axis(text: str) -> Axis:
    """Parse 'sampler=Euler,Heun' or 'seed=1-4'. Raises InvalidRequest for an unknown name or no values.

    A comma inside a value is doubled. Integers may be given as a range.
    """
    name, equals, listed = text.partition("=")
    name = name.strip().lower()
    if not equals or name not in CHANGES:
        raise InvalidRequest(
            f"'{text}' is not an axis; write NAME=VALUE,VALUE with one of: {', '.join(CHANGES)}"
        )
    parts = [part.replace("\0", ",").strip() for part in listed.replace(",,", "\0").split(",")]
    values = tuple(value for part in parts for value in (_range(part) if name in WHOLE else [part]))
    if not any(values):
        raise InvalidRequest(f"the axis '{text}' has no values")
    return Axis(name, values)


def requests(base: Request, axes: Sequence[Axis]) -> list[Request]:
    """Return a request for each combination of values; the last axis changes fastest.

    Raises InvalidRequest for an invalid value, and for too many pictures.
    """
    count = 1
    for each in axes:
        count *= len(each.values)
    if count > MAX_PICTURES:
        raise InvalidRequest(f"these axes make {count:,} pictures; at most {MAX_PICTURES:,} are allowed")
    drawn = []
    for combination in product(*(each.values for each in axes)):
        request = base
        for each, value in zip(axes, combination, strict=True):
            request = _changed(request, each, value)
        drawn.append(request)
    return drawn


def _changed(request: Request, changing: Axis, value: str) -> Request:
    try:
        return replace(request, **CHANGES[changing.name](request, changing, value))
    except InvalidRequest:
        raise
    except ValueError as wrong:
        raise InvalidRequest(f"'{value}' is not a value of the axis '{changing.name}' ({wrong})") from wrong


def _field(name: str, kind: Callable[[str], Any]) -> Callable[[Request, Axis, str], dict[str, Any]]:
    return lambda request, changing, value: {name: kind(value)}


def _words(request: Request, changing: Axis, value: str) -> dict[str, Any]:
    """Replace the first value of the axis in all prompts by this one."""
    first = changing.values[0]
    hires = request.hires
    own = () if hires is None else (hires.prompt or "", hires.negative_prompt or "")
    if not any(first in text for text in (request.prompt, request.negative_prompt, *own)):
        raise InvalidRequest(f"the prompt does not hold '{first}', which the axis 'words' would replace")

    def changed(text: str) -> str:
        return text.replace(first, value)

    return {
        "prompt": changed(request.prompt),
        "negative_prompt": changed(request.negative_prompt),
        "hires": None if hires is None else hires.with_texts(changed, changed),
    }


def _size(request: Request, changing: Axis, value: str) -> dict[str, Any]:
    width, _, height = value.lower().partition("x")
    return {"width": int(width), "height": int(height)}


def _strength(request: Request, changing: Axis, value: str) -> dict[str, Any]:
    if request.source is not None:
        return {"source": replace(request.source, denoising_strength=float(value))}
    if request.hires is not None:
        return {"hires": replace(request.hires, denoising_strength=float(value))}
    raise InvalidRequest("the axis 'strength' needs a picture to draw over, or a second pass")


CHANGES: Mapping[str, Callable[[Request, Axis, str], dict[str, Any]]] = MappingProxyType(
    {
        "prompt": _field("prompt", str),
        "words": _words,
        "negative": _field("negative_prompt", str),
        "seed": _field("seed", int),
        "steps": _field("steps", int),
        "cfg": _field("cfg_scale", float),
        "rescale": _field("guidance_rescale", float),
        "size": _size,
        "sampler": _field("sampler", str),
        "schedule": _field("schedule", str),
        "eta": _field("eta", float),
        "clip-skip": _field("clip_skip", int),
        "rng": _field("rng", find_rng),
        "emphasis": _field("emphasis", find_emphasis),
        "strength": _strength,
    }
)
"""Name of an axis -> function that changes a request."""

WHOLE = ("seed", "steps", "clip-skip")


def _range(text: str) -> list[str]:
    """Expand '1-4' to 1, 2, 3, 4; anything else is one value."""
    first, dash, last = text.partition("-")
    if not (dash and first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
        return [text]
    if int(last) - int(first) >= MAX_PICTURES:
        raise InvalidRequest(f"'{text}' is a range of more than {MAX_PICTURES:,} values")
    return [str(value) for value in range(int(first), int(last) + 1)]
