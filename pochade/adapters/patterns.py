r"""Regular expressions for layer names, as in PEFT's `alpha_pattern` and `rank_pattern`, in bounded time.

PEFT's entries are untrusted regular expressions: one like `(a+)+$` would keep Python's `re` busy forever.
Here a pattern is compiled to an automaton whose states are the positions of its characters (Glushkov 1961). A
name is read once, so the time is bounded by the product of both lengths.

Supported are letters, `.`, escapes such as `\.` and `\d`, sets (`[0-9a-z]`, `[^.]`), groups, `|`, and the
quantifiers `*`, `+`, `?`, `{2}`, `{1,3}`; `^` at the start of the pattern and `$` at its end.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

Fits = Callable[[str], bool]
"""Whether a character matches at a position."""

MAX_LENGTH = 500
MAX_PLACES = 500
MAX_DEPTH = 20
MAX_REPEATS = 50

PLAIN = re.compile(r"[\w.]+")
COUNTS = re.compile(r"\{(\d{1,3})(,(\d{0,3}))?\}")
CLASSES: dict[str, Fits] = {
    "d": str.isdecimal,
    "D": lambda char: not char.isdecimal(),
    "w": lambda char: char.isalnum() or char == "_",
    "W": lambda char: not (char.isalnum() or char == "_"),
    "s": str.isspace,
    "S": lambda char: not char.isspace(),
}


class UnreadablePattern(ValueError):
    """An invalid pattern. The message is the end of a sentence."""


def is_plain(pattern: str) -> bool:
    """Whether a pattern is a plain name or the end of one, as nearly all entries are."""
    return PLAIN.fullmatch(pattern) is not None


def fits(pattern: str, name: str) -> bool:
    """Whether a pattern matches the name of a layer, or its end after a dot, as in PEFT.

    Raises UnreadablePattern.
    """
    if is_plain(pattern):
        before, end = name[: -len(pattern)], name[-len(pattern) :]
        alike = end == pattern or all(map(lambda sign, char: sign in (char, "."), pattern, end))
        return len(end) == len(pattern) and alike and before[-1:] in ("", ".")
    return compiled(pattern).fits(name)


@dataclass(frozen=True, eq=False)
class Automaton:
    """A Glushkov automaton; sets of positions are bits of an integer.

    places: the predicate of each position. first, last: possible start and end positions. following: the
    successors of each position. empty: whether it matches the empty string. anchored: whether it only
    matches whole names.
    """

    places: list[Fits]
    first: int
    last: int
    following: list[int]
    empty: bool
    anchored: bool
    _by_char: dict[str, int] = field(default_factory=dict)

    def fits(self, name: str) -> bool:
        now, begins = 0, True
        for char in name:
            reached = self.first if begins else 0
            while now:
                lowest = now & -now
                reached |= self.following[lowest.bit_length() - 1]
                now ^= lowest
            now = reached & self._places_of(char)
            begins = char == "." and not self.anchored
        return bool(now & self.last) or (self.empty and (begins or not name))

    def _places_of(self, char: str) -> int:
        if char not in self._by_char:
            self._by_char[char] = sum(1 << i for i, fits in enumerate(self.places) if fits(char))
        return self._by_char[char]


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> Automaton:
    """Compile a pattern. Raises UnreadablePattern."""
    if len(pattern) > MAX_LENGTH:
        raise UnreadablePattern(f"has {len(pattern):,} characters; at most {MAX_LENGTH} are read")
    anchored = pattern.startswith("^")
    text = pattern.removeprefix("^")
    if text.endswith("$") and not text.endswith("\\$"):
        text = text[:-1]
    reader = _Reader(text)
    root = reader.choice(0)
    if reader.at < len(text):
        raise UnreadablePattern("has a parenthesis without its counterpart")
    return Automaton(reader.places, root.first, root.last, reader.following, root.empty, anchored)


@dataclass(eq=False)
class _Piece:
    """A part of the pattern: its first and last positions, and whether it may be empty."""

    first: int
    last: int
    empty: bool


@dataclass(eq=False)
class _Reader:
    """Parses a pattern; each of its characters becomes a position."""

    text: str
    at: int = 0
    places: list[Fits] = field(default_factory=list)
    following: list[int] = field(default_factory=list)
    atoms: int = 0

    def choice(self, depth: int) -> _Piece:
        """One or more sequences with `|` between them."""
        if depth > MAX_DEPTH:
            raise UnreadablePattern(f"nests groups more than {MAX_DEPTH} deep")
        root = self._sequence(depth)
        while self._next() == "|":
            self.at += 1
            other = self._sequence(depth)
            root = _Piece(root.first | other.first, root.last | other.last, root.empty or other.empty)
        return root

    def _sequence(self, depth: int) -> _Piece:
        root = _Piece(0, 0, True)
        while self._next() not in ("", "|", ")"):
            root = self._joined(root, self._repeated(depth))
        return root

    def _repeated(self, depth: int) -> _Piece:
        """Parse an atom with its quantifier. A counted atom is parsed again for each repetition."""
        begin = self.at
        piece = self._atom(depth)
        sign, end = self._next(), self.at
        counts = COUNTS.match(self.text, end) if sign == "{" else None
        if sign and sign in "*+?":
            self.at += 1
            if sign != "?":
                self._follow(piece, piece)
            result = _Piece(piece.first, piece.last, piece.empty or sign != "+")
        elif counts is not None:
            least = int(counts[1])
            most = least if counts[2] is None else int(counts[3]) if counts[3] else None
            result = self._counted(begin, piece, least, most, depth)
            self.at = counts.end()
        else:
            return piece
        if self._next() == "?":  # non-greedy: makes no difference for a full match
            self.at += 1
        if self._next() and self._next() in "*+?{":
            raise UnreadablePattern("has two signs of repetition, one after the other")
        return result

    def _counted(self, begin: int, piece: _Piece, least: int, most: int | None, depth: int) -> _Piece:
        times = max(1, least) if most is None else most
        if times > MAX_REPEATS or times < max(1, least):
            raise UnreadablePattern(
                f"repeats a part {{{least},{most}}} times; at most {MAX_REPEATS}, and once"
            )
        copies = [piece]
        for _ in range(times - 1):
            self.at = begin
            copies.append(self._atom(depth))
        if most is None:
            self._follow(copies[-1], copies[-1])
        root = _Piece(0, 0, True)
        for i, copy in enumerate(copies):
            root = self._joined(root, _Piece(copy.first, copy.last, copy.empty or i >= least))
        return root

    def _atom(self, depth: int) -> _Piece:
        char = self._next()
        self.at += 1
        self.atoms += 1
        if self.atoms > MAX_PLACES:
            raise UnreadablePattern(
                f"has more than {MAX_PLACES:,} places once its repetitions are written out"
            )
        if char == "(":
            if self.text.startswith("?:", self.at):
                self.at += 2
            elif self._next() == "?":
                raise UnreadablePattern("looks ahead or behind, or names a group, which is not read")
            inside = self.choice(depth + 1)
            if self._next() != ")":
                raise UnreadablePattern("has a parenthesis without its counterpart")
            self.at += 1
            return inside
        if char == "[":
            return self._place(self._set())
        if char == "\\":
            return self._place(self._escape())
        if char == ".":
            return self._place(lambda each: each != "\n")
        if char in "*+?{":
            raise UnreadablePattern(f"has '{char}' with nothing to repeat")
        if char in "^$":
            raise UnreadablePattern(f"has '{char}' where it is not supported")
        return self._place(char.__eq__)

    def _escape(self) -> Fits:
        char = self._next()
        self.at += 1
        if char in CLASSES:
            return CLASSES[char]
        if not char or char.isalnum():
            raise UnreadablePattern(f"has '\\{char}', which is not read")
        return char.__eq__

    def _set(self) -> Fits:
        """Parse a set between [ and ]."""
        negated = self._next() == "^"
        self.at += negated
        members: list[Fits] = []
        while (char := self._next()) != "]" or not members:
            self.at += 1
            if not char:
                raise UnreadablePattern("has a bracket without its counterpart")
            if char == "\\":
                members.append(self._escape())
            elif self._next() == "-" and self.text[self.at + 1 : self.at + 2] not in ("", "]"):
                last = self.text[self.at + 1]
                self.at += 2
                members.append(_between(char, last))
            else:
                members.append(char.__eq__)
        self.at += 1
        return lambda each: any(member(each) for member in members) != negated

    def _place(self, what: Fits) -> _Piece:
        self.places.append(what)
        self.following.append(0)
        place = 1 << (len(self.places) - 1)
        return _Piece(place, place, False)

    def _joined(self, one: _Piece, two: _Piece) -> _Piece:
        self._follow(one, two)
        return _Piece(
            one.first | two.first if one.empty else one.first,
            two.last | one.last if two.empty else two.last,
            one.empty and two.empty,
        )

    def _follow(self, one: _Piece, two: _Piece) -> None:
        for place in range(one.last.bit_length()):
            if one.last >> place & 1:
                self.following[place] |= two.first

    def _next(self) -> str:
        return self.text[self.at : self.at + 1]


def _between(first: str, last: str) -> Fits:
    return lambda each: first <= each <= last
