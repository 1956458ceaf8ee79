"""Composable prompts: "a cat AND a dog:0.5", with A1111's syntax.

Each prompt is evaluated separately, and their differences from the negative prompt are summed by weight (Liu
et al. 2022, "Compositional visual generation with composable diffusion models", equation 11). A prompt with
"MASK(0 0.5, 0 1)", the syntax of ComfyUI's prompt control, applies to that region of the picture only.
"""

import re
from typing import NamedTuple

from pochade.errors import InvalidRequest
from pochade.prompts.attention import MAX_WEIGHT

MAX_PARTS = 16
"""The most prompts that may be joined; each costs as much time and memory as a picture."""

AND = re.compile(r"\bAND\b")
WEIGHT = re.compile(r":\s*([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))\s*\Z")


NUMBER = r"[0-9]*\.?[0-9]+"
MASK = re.compile(
    rf"\bMASK\(\s*(?:({NUMBER})(?:\s+({NUMBER}))?)?\s*(?:,\s*({NUMBER})(?:\s+({NUMBER}))?\s*)?\)"
)
"""Defaults of coordinates: 0 for a start, 1 for an end."""


class Region(NamedTuple):
    """A region of the picture, in fractions of its width and height, from the upper left corner."""

    left: float
    right: float
    top: float
    bottom: float


class PromptPart(NamedTuple):
    """One of the prompts, its weight (1 by default), and the region it applies to (None: everywhere)."""

    prompt: str
    weight: float
    region: Region | None = None


def composition(prompt: str) -> list[PromptPart]:
    """Split a prompt at AND. Without an AND the whole text is returned unchanged.

    AND works anywhere in the text, but only in capitals. Without an AND, MASK is ordinary text. Raises
    InvalidRequest for more than 16 prompts, for an empty region, and for two regions of one prompt.
    """
    parts = AND.split(prompt)
    if len(parts) == 1:
        return [PromptPart(prompt, 1.0)]
    if len(parts) > MAX_PARTS:
        raise InvalidRequest(
            f"the prompt joins {len(parts):,} prompts by AND; at most {MAX_PARTS} are allowed"
        )
    return [_part(text) for text in parts]


def _part(text: str) -> PromptPart:
    region = _region(text)
    text = MASK.sub("", text)
    found = WEIGHT.search(text)
    if found is None:
        return PromptPart(text, 1.0, region)
    return PromptPart(text[: found.start()], max(-MAX_WEIGHT, min(MAX_WEIGHT, float(found[1]))), region)


def _region(text: str) -> Region | None:
    found = list(MASK.finditer(text))
    if not found:
        return None
    if len(found) > 1:
        raise InvalidRequest(
            f"'{text.strip()[:200]}' has {len(found)} regions; join one prompt for each by AND"
        )
    defaults = (0.0, 1.0, 0.0, 1.0)
    region = Region(
        *(
            value if said is None else float(said)
            for said, value in zip(found[0].groups(), defaults, strict=True)
        )
    )
    if not (0 <= region.left < region.right <= 1 and 0 <= region.top < region.bottom <= 1):
        raise InvalidRequest(
            f"{found[0][0]} is empty: it must have left and right, then top and bottom, as shares from 0 to 1"
        )
    return region
