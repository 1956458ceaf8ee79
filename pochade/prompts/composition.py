"""Several prompts for one picture: "a cat AND a dog:0.5", as A1111's web UI reads it.

Each is evaluated by itself, and what they say apart from the negative prompt is added up by weight (Liu et
al. 2022, "Compositional visual generation with composable diffusion models", equation 11).
"""

import re
from typing import NamedTuple

from pochade.errors import InvalidRequest
from pochade.prompts.attention import MAX_WEIGHT

MAX_PARTS = 16
"""Each is a picture's worth of work and memory in every step."""

AND = re.compile(r"\bAND\b")
WEIGHT = re.compile(r":\s*([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))\s*\Z")


class Part(NamedTuple):
    """One of the prompts, and its weight; 1 unless it is written."""

    prompt: str
    weight: float


def composition(prompt: str) -> list[Part]:
    """The prompts between one AND and the next. Without an AND it is the whole text, as it is.

    AND counts wherever it stands; small letters mean the same to the model and are never read so. Raises
    InvalidRequest for more than 16 prompts.
    """
    parts = AND.split(prompt)
    if len(parts) == 1:
        return [Part(prompt, 1.0)]
    if len(parts) > MAX_PARTS:
        raise InvalidRequest(f"the prompt joins {len(parts):,} prompts by AND; at most {MAX_PARTS} are read")
    return [_part(text) for text in parts]


def _part(text: str) -> Part:
    found = WEIGHT.search(text)
    if found is None:
        return Part(text, 1.0)
    return Part(text[: found.start()], max(-MAX_WEIGHT, min(MAX_WEIGHT, float(found[1]))))
