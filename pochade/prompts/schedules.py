r"""Prompt editing and alternation: prompts that change from step to step, with A1111's syntax.

    [from:to:when]    `from` up to step `when`, then `to`
    [to:when]         nothing, then `to`
    [from::when]      `from`, then nothing
    [a|b|c]           a, b, c, a, ... from step to step

`when` with a decimal point is a fraction of the steps, without one a number of steps. The forms nest. A
bracket of another form, or without its counterpart, is text here (it may be emphasis in `attention`), and so
is a character after a backslash. Colons and bars inside round brackets do not belong to the enclosing square
brackets, and a bar next to the colons of a change is text.

Any text can be read, however deep: nothing here recurses.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import TypeAlias

from pochade.errors import InvalidRequest

MAX_CHARACTERS = 10_000_000
"""The limit for the texts of all steps together: a prompt of 10,000 characters may change 1,000 times."""

SIGNS = re.compile(r"\\.|[\[\]():|]|[^\\\[\]():|]+|\\", re.DOTALL)
NUMBER = re.compile(r"\s*([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))\s*")


@dataclass(frozen=True, eq=False)
class _Change:
    """A change. when: as written; its meaning depends on the number of steps."""

    before: "_Node"
    after: "_Node"
    when: str


@dataclass(frozen=True, eq=False)
class _Alternation:
    options: "list[_Node]"


_Node: TypeAlias = "str | list[_Node] | _Change | _Alternation"


@dataclass(eq=False)
class _Open:
    """An open bracket, its parts so far, and their separators."""

    bracket: str
    separators: list[str] = field(default_factory=list)
    parts: list[list[_Node]] = field(default_factory=lambda: [[]])

    def add(self, *nodes: _Node) -> None:
        self.parts[-1].extend(nodes)

    def as_text(self) -> list[_Node]:
        nodes: list[_Node] = [self.bracket, self.parts[0]]
        for separator, part in zip(self.separators, self.parts[1:], strict=True):
            nodes += [separator, part]
        return nodes


@dataclass(frozen=True, eq=False)
class Schedule:
    """A parsed prompt; `stretches` returns its texts for any number of steps."""

    prompt: str
    tree: "_Node"

    def stretches(self, steps: int, *, first_pass_steps: int | None = None) -> list[tuple[int, str]]:
        """Return (last step, text) for each range of steps with one text, counted from 1; the last ends at
        `steps`.

        Adjacent ranges differ in their text, so a prompt without a schedule has one range.

        first_pass_steps: set for the second pass of a hires fix. Whole numbers then continue the count of the
            first pass, and fractions start at 1: 1.5 is the middle of the second pass.

        Raises InvalidRequest if a long prompt changes so often that its texts together are too long.
        """
        stops = _stops(self.tree, steps, first_pass_steps)
        if len(stops) > 1 and len(stops) * len(self.prompt) > MAX_CHARACTERS:
            raise InvalidRequest(
                f"the prompt has {len(self.prompt):,} characters and changes in {len(stops):,} steps, which"
                f" makes more than {MAX_CHARACTERS:,} characters in all: shorten it or use fewer steps"
            )
        texts = ((step, "".join(_texts(self.tree, step, steps, first_pass_steps))) for step in stops)
        return [(list(alike)[-1][0], text) for text, alike in groupby(texts, key=lambda each: each[1])]


def parse_schedule(prompt: str) -> Schedule:
    """Parse the schedule of a prompt."""
    return Schedule(prompt, _tree(prompt) if "[" in prompt else prompt)


def schedule(prompt: str, steps: int, *, first_pass_steps: int | None = None) -> list[tuple[int, str]]:
    """Parse a prompt and return its `Schedule.stretches`."""
    return parse_schedule(prompt).stretches(steps, first_pass_steps=first_pass_steps)


def _tree(prompt: str) -> _Node:
    opened = [_Open("")]
    for sign in SIGNS.findall(prompt):
        last = opened[-1]
        if sign in ("[", "("):
            opened.append(_Open(sign))
        elif sign in (":", "|") and last.bracket == "[":
            last.separators.append(sign)
            last.parts.append([])
        elif sign in ("]", ")") and last.bracket + sign not in ("[]", "()"):
            # It crosses the open brackets, so they are text.
            _give_up(opened)
            opened[0].add(sign)
        elif sign in ("]", ")"):
            opened.pop()
            node = _node(last) if sign == "]" else None
            opened[-1].add(*([*last.as_text(), sign] if node is None else [node]))
        else:
            last.add(sign)
    _give_up(opened)
    return opened[0].parts[0]


def _give_up(opened: list[_Open]) -> None:
    """Turn all open brackets into text."""
    while len(opened) > 1:
        last = opened.pop()
        opened[-1].add(*last.as_text())


def _node(group: _Open) -> "_Node | None":
    """Return a change or an alternation, or None for a bracket of another form."""
    if "|" in group.separators and ":" not in group.separators:
        return _Alternation(list(group.parts))
    sides: list[list[_Node]] = [[*group.parts[0]]]
    for separator, part in zip(group.separators, group.parts[1:], strict=True):
        if separator == ":":
            sides.append([*part])
        else:
            sides[-1] += [separator, *part]
    if len(sides) not in (2, 3) or len(sides[-1]) != 1:
        return None
    last = sides[-1][0]
    number = NUMBER.fullmatch(last) if isinstance(last, str) else None
    if number is None:
        return None
    before = sides[0] if len(sides) == 3 else ""
    return _Change(before, sides[-2], number[1])


def _when(number: str, steps: int, first_pass_steps: int | None) -> int:
    """Return the last step before the change: 0 if before the first, `steps` if after the last."""
    passes, passed = (0, 0) if first_pass_steps is None else (1, first_pass_steps)
    value = (float(number) - passes) * steps if "." in number else float(number) - passed
    return int(max(0, min(steps, value)))


def _stops(tree: _Node, steps: int, first_pass_steps: int | None) -> list[int]:
    """Return the last step of each range in which the text cannot change."""
    found = {steps}
    for node in _walk(tree):
        if isinstance(node, _Alternation):
            return list(range(1, steps + 1))
        if isinstance(node, _Change):
            found.add(_when(node.when, steps, first_pass_steps))
    return sorted(found - {0})


def _walk(tree: _Node) -> Iterator[_Node]:
    todo = [tree]
    while todo:
        node = todo.pop()
        yield node
        if isinstance(node, list):
            todo.extend(node)
        elif isinstance(node, _Change):
            todo += [node.before, node.after]
        elif isinstance(node, _Alternation):
            todo.extend(node.options)


def _texts(tree: _Node, step: int, steps: int, first_pass_steps: int | None) -> Iterator[str]:
    """Yield the pieces of the text at a step."""
    todo = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, str):
            yield node
        elif isinstance(node, list):
            todo.extend(reversed(node))
        elif isinstance(node, _Change):
            when = _when(node.when, steps, first_pass_steps)
            todo.append(node.before if step <= when else node.after)
        else:
            todo.append(node.options[(step - 1) % len(node.options)])
