r"""Emphasis in prompts, with A1111's syntax.

    (word) [word] ((word))   times 1.1, divided by 1.1, times 1.1 twice
    (word:1.3)               times 1.3
    \( \) \[ \] \: \\        the characters themselves
    BREAK                    starts a new chunk

Round and square brackets are counted separately, so they may overlap. A closing bracket without an opening
one is text; an opening bracket without a closing one extends to the end. A backslash before any other
character is dropped. `BREAK` works within brackets too, and their weight continues after it.

Any text can be parsed, in time proportional to its length.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

BRACKET = 1.1
"""The factor of a pair of round brackets."""

MAX_WEIGHT = 100.0
"""Weights are clipped to this range, so that 1,000 brackets do not overflow 32 bits."""

FAR = 1e30
DEEP = 200

SIGNS = re.compile(
    r"\\[\\()\[\]:]|\\"
    r"|:\s*(?P<weight>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))\s*\)"
    r"|[()\[\]:]|[^\\()\[\]:]+"
)
BREAK = re.compile(r"\bBREAK\b")


class Span(NamedTuple):
    """A span of a prompt with one weight; 1 is neutral."""

    text: str
    weight: float


def sections(prompt: str) -> list[list[Span]]:
    """Split a prompt at BREAK and return the spans of each section; an empty section has no spans.

    Adjacent spans of equal weight are merged: "(a)(b)" is ("ab", 1.1). White space around BREAK is dropped.
    """
    result: list[list[Span]] = [[]]
    for text, weight in _weighed(prompt):
        parts = BREAK.split(text)
        for number, part in enumerate(parts):
            if number > 0:
                result.append([])
                part = part.lstrip()
            result[-1].append(Span(part.rstrip() if number < len(parts) - 1 else part, weight))
    return [_joined(spans) for spans in result]


def _joined(spans: Sequence[Span]) -> list[Span]:
    written = (span for span in spans if span.text)
    return [
        Span("".join(text for text, _ in alike), weight)
        for weight, alike in groupby(written, key=lambda span: span.weight)
    ]


def _weighed(prompt: str) -> Iterator[Span]:
    """Split text into spans, each weighted by the product of its brackets."""
    signs = list(SIGNS.finditer(prompt))
    roles, weights = _roles(signs)
    outside: list[tuple[float, int]] = []
    factor, rounds, squares = 1.0, 0, 0
    for number, sign in enumerate(signs):
        role = roles[number]
        if role == "(":
            outside.append((factor, rounds))
            if number in weights:
                factor = _within(factor * weights[number], FAR)
            else:
                rounds += 1
        elif role == ")":
            factor, rounds = outside.pop()
        elif role == "[":
            squares += 1
        elif role == "]":
            squares -= 1
        else:
            # A count, not a product of 1.1s, so that ([word]) is exactly 1.
            power = BRACKET ** int(_within(rounds - squares, DEEP))
            text = sign[0].removeprefix("\\") if len(sign[0]) <= 2 else sign[0]
            yield Span(text, _within(factor * power, MAX_WEIGHT))


def _roles(signs: Sequence[re.Match[str]]) -> tuple[list[str], dict[int, float]]:
    """The role of each character, "(", ")", "[", "]" or "" for text, and the weights of the round brackets by
    the position where they open."""
    roles = [""] * len(signs)
    weights = {}
    rounds: list[int] = []
    squares: list[int] = []
    for number, sign in enumerate(signs):
        text, weight = sign[0], sign["weight"]
        if text in ("(", "["):
            roles[number] = text
            (rounds if text == "(" else squares).append(number)
        elif text == ")" or weight is not None:
            if rounds:
                opened = rounds.pop()
                roles[number] = ")"
                if weight is not None:
                    weights[opened] = float(weight)
        elif text == "]" and squares:
            squares.pop()
            roles[number] = "]"
    return roles, weights


def _within(value: float, limit: float) -> float:
    return max(-limit, min(limit, value))
