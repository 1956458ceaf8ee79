r"""Prompt templates that expand to a different prompt for each seed, with the syntax of Dynamic Prompts.

    {a|b|c}               one of them
    {3::a|b}              a, three times as often as b
    {2$$a|b|c}            two different ones, joined by ", "; {1-2$$...}, {2-$$...} and {-2$$...} give a range
    {2$$ and $$a|b|c}     joined by " and "
    {2$$__animal__}       two different lines of animal.txt
    __animal__            a line of animal.txt; __dir/animal__ one of dir/animal.txt
    \{ \} \| \_           the characters themselves; `attention` removes the backslash later

All of these nest, in options and in lines. A brace without its counterpart is text. In a tag such as
<lora:a__b__c:0.8> underscores belong to the name, unless a whole part is a wildcard: <lora:__styles__:0.8>.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf, log
from random import Random
from typing import TypeAlias

from pochade.errors import InvalidRequest
from pochade.prompts.extra_networks import TAG
from pochade.prompts.wildcards import Read, no_wildcards
from pochade.request import MAX_PROMPT_CHARACTERS

SEPARATOR = ", "
MAX_DEPTH = 50
MAX_OPTIONS = 2_000_000
LEAST_COUNTED = 200
"""Limit on the options examined for one prompt; each choice counts as at least LEAST_COUNTED. It stops
templates that grow exponentially."""

NAME = r"[^\s_{}|\\](?:[\w\-./ ]{0,198}?[^\s_{}|\\])??"
WILDCARD = rf"__(?P<name>{NAME})__"
NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
SIGNS = re.compile(rf"\\.|{WILDCARD}|[{{}}|]|[^\\{{}}|_]+|\\|_", re.DOTALL)
SEPARATED = rf"(?:(?!__{NAME}__)[^{{}}|$])*"  # not a wildcard, which begins the first option
HOW_MANY = re.compile(rf"\s*(?:([0-9]{{1,6}})|([0-9]{{0,6}})-([0-9]{{0,6}}))\$\$(?:({SEPARATED})\$\$)?")
WEIGHT = re.compile(rf"\s*({NUMBER})::")


@dataclass(frozen=True, eq=False)
class _Wildcard:
    name: str


@dataclass(frozen=True, eq=False)
class _Line:
    """An unparsed line of a wildcard file."""

    text: str


@dataclass(frozen=True, eq=False)
class _Variants:
    """A choice of `least` to `most` options (None: all of them), joined by the separator."""

    options: "list[list[_Node]]"
    weights: list[float]
    least: int
    most: int | None
    separator: str

    @property
    def wildcard(self) -> "_Wildcard | None":
        """The only option, if it is a wildcard of which several lines may be chosen."""
        if len(self.options) != 1 or self.least == self.most == 1:
            return None
        inside = [node for node in self.options[0] if not (isinstance(node, str) and not node.strip())]
        return inside[0] if len(inside) == 1 and isinstance(inside[0], _Wildcard) else None


_Node: TypeAlias = "str | list[_Node] | _Wildcard | _Line | _Variants"


@dataclass(eq=False)
class _Open:
    """An open brace. written: its source text, in case it turns out to be plain text."""

    how_many: re.Match[str] | None
    written: list[_Node] = field(default_factory=list)
    options: list[list[_Node]] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def begin_option(self, sign: str, weight: re.Match[str] | None) -> None:
        option: list[_Node] = []
        self.options.append(option)
        self.weights.append(1.0 if weight is None else float(weight[1]))
        self.written += [sign, "" if weight is None else weight[0], option]


def expand(template: str, seed: int, read: Read = no_wildcards, *, purpose: str = "prompt") -> str:
    """Expand a template for a seed; equal arguments give equal prompts.

    read: looks wildcards up. purpose: selects another sequence of random numbers, so that a negative prompt
        does not make the same choices as the prompt.

    Raises InvalidRequest for a wildcard that is unknown or refers to itself, for options whose weights are
    all 0, and for a template that nests too deep or grows too long.
    """
    return "".join(_Expansion(Random(f"{purpose} {seed}").random, read).texts(_tree(template), ()))


def _tree(template: str) -> _Node:
    """Parse a template with an explicit stack, since input may nest 100,000 braces."""
    text: list[_Node] = []
    opened: list[_Open] = []
    place = 0
    tags = [tag.span() for tag in TAG.finditer(template)]
    while place < len(template):
        sign = SIGNS.match(template, place)
        assert sign is not None, "the last of its forms are single signs"
        place = sign.end()
        current = opened[-1].options[-1] if opened else text
        if sign[0] == "{":
            group = _Open(HOW_MANY.match(template, place))
            opened.append(group)
            prefix = sign[0] if group.how_many is None else sign[0] + group.how_many[0]
            place += len(prefix) - 1
            place = _begin(group, prefix, template, place)
        elif sign[0] == "|" and opened:
            place = _begin(opened[-1], "|", template, place)
        elif sign[0] == "}" and opened:
            group = opened.pop()
            (opened[-1].options[-1] if opened else text).append(_variants(group))
        else:
            name = sign["name"] if sign["name"] is None or _counts(sign, template, tags) else None
            current.append(sign[0] if name is None else _Wildcard(name))
    while opened:
        group = opened.pop()
        (opened[-1].options[-1] if opened else text).append(group.written)
    return text


def _counts(wildcard: re.Match[str], template: str, tags: Sequence[tuple[int, int]]) -> bool:
    """Whether a match is a wildcard rather than part of a name in one of the tags. tags: positions, in
    order."""
    begin, end = wildcard.span()
    at = bisect_right(tags, (begin, len(template))) - 1
    if at < 0 or begin >= tags[at][1]:
        return True
    return template[begin - 1] == ":" and template[end : end + 1] in (":", ">")


def _begin(group: _Open, sign: str, template: str, place: int) -> int:
    """Begin an option at a position in the template and return where its text begins."""
    weight = WEIGHT.match(template, place)
    group.begin_option(sign, weight)
    return place if weight is None else weight.end()


def _variants(group: _Open) -> _Variants:
    exactly, least, most, separator = (None,) * 4 if group.how_many is None else group.how_many.groups()
    low, high = 1, None if group.how_many is not None else 1
    if exactly is not None:
        low = high = int(exactly)
    elif group.how_many is not None:
        low, high = int(least or 1), int(most) if most else None
    return _Variants(group.options, group.weights, low, high, SEPARATOR if separator is None else separator)


@dataclass(eq=False)
class _Expansion:
    """One expansion of a template, with its random state and the size reached so far."""

    random: Callable[[], float]
    read: Read
    options: int = 0
    characters: int = 0

    def texts(self, tree: _Node, inside: tuple[str, ...]) -> list[str]:
        """Yield the pieces of a text. inside: the enclosing choices, wildcards by their names."""
        if len(inside) > MAX_DEPTH:
            raise InvalidRequest(f"the prompt nests {{...}} and wildcards more than {MAX_DEPTH} deep")
        pieces: list[str] = []
        todo = [tree]
        while todo:
            node = todo.pop()
            if isinstance(node, list):
                todo.extend(reversed(node))
            elif isinstance(node, str):
                self._count_characters(len(node))
                pieces.append(node)
            elif isinstance(node, _Line):
                todo.append(_tree(node.text))
            elif isinstance(node, _Wildcard):
                pieces += self._line(node.name, inside)
            else:
                pieces += self._some(node, inside)
        return pieces

    def _some(self, node: _Variants, inside: tuple[str, ...]) -> list[str]:
        wildcard = node.wildcard
        if wildcard is None:
            options: list[_Node] = list(node.options)
            weights, inside = node.weights, (*inside, "")
        else:
            options, weights = self._lines(wildcard.name, inside)
            inside = (*inside, wildcard.name)
        least, most = sorted((node.least, len(options) if node.most is None else node.most))
        least, most = min(least, len(options)), min(most, len(options))
        count = least
        if most > least:
            count += int(self.random() * (most - least + 1))
        chosen = [self.texts(options[i], inside) for i in self._choose(weights, count)]
        if least == most == 1 and wildcard is None:
            return chosen[0]
        joined = node.separator.join("".join(pieces).strip() for pieces in chosen)
        self._count_characters(len(node.separator) * len(chosen))
        return [joined]

    def _line(self, name: str, inside: tuple[str, ...]) -> list[str]:
        lines, weights = self._lines(name, inside)
        (i,) = self._choose(weights, 1)
        return self.texts(lines[i], (*inside, name))

    def _lines(self, name: str, inside: tuple[str, ...]) -> "tuple[list[_Node], list[float]]":
        """Read the lines of a wildcard and their weights."""
        if name in inside:
            around = [each for each in inside[inside.index(name) :] if each]
            chain = " > ".join(f"__{each}__" for each in (*around, name))
            raise InvalidRequest(f"the wildcard '__{name}__' refers to itself: {chain}")
        lines = self.read(name)
        weights = [WEIGHT.match(line) for line in lines]
        texts = [
            line if found is None else line[found.end() :] for line, found in zip(lines, weights, strict=True)
        ]
        return [_Line(text) for text in texts], [1.0 if each is None else float(each[1]) for each in weights]

    def _choose(self, weights: Sequence[float], count: int) -> list[int]:
        """Draw different indices without replacement, by weight, in the order drawn.

        Each index gets an exponentially distributed time with its weight as the rate; the smallest times win
        (Efraimidis and Spirakis 2006, "Weighted random sampling with a reservoir").
        """
        self.options += max(len(weights), LEAST_COUNTED)
        if self.options > MAX_OPTIONS:
            raise InvalidRequest(
                f"the prompt makes more than {MAX_OPTIONS // LEAST_COUNTED:,} choices, or has more than"
                f" {MAX_OPTIONS:,} options: simplify its wildcards"
            )
        rings = [-log(1 - self.random()) / weight if weight > 0 else inf for weight in weights]
        able = sum(weight > 0 for weight in weights)
        if count > 0 and able == 0:
            raise InvalidRequest("the prompt has a choice whose weights are all 0; raise one of them")
        return sorted(range(len(weights)), key=rings.__getitem__)[: min(count, able)]

    def _count_characters(self, more: int) -> None:
        self.characters += more
        if self.characters > MAX_PROMPT_CHARACTERS:
            raise InvalidRequest(
                f"the expanded prompt has more than {MAX_PROMPT_CHARACTERS:,} characters; shorten it"
            )
