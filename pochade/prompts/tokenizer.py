"""CLIP's tokenizer: from a prompt to the numbers that a text encoder looks up (Radford et al. 2021).

The text is normalised (Unicode NFC, runs of white space to one space, lower case), split into words, each
word written as bytes, and its bytes merged into the pieces of the vocabulary; `</w>` marks a word's end.
The ids are those of transformers 5, whose tokenizer the models' own folders are written for. That includes:

- Special tokens written in a prompt ("<|endoftext|>") act as such. A prompt that holds one ends there for
  the pooled embedding, as in every tool that feeds prompts to transformers.
- SD 2.x and the second encoder of SDXL pad with "!", which so is a special token too: in a prompt it
  becomes id 0. The models were trained with 256, "!</w>"; `dataclasses.replace(tokenizer, specials=())`
  gives that.
"""

import heapq
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import regex

Merges = Mapping[tuple[int, int], tuple[int, int]]
"""(left id, right id) -> (rank, id of the two together); the lowest rank is merged first."""

GONE = -1

WORD_END = "</w>"
WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
SPACES = r"\s+"

CACHED_WORDS = 50_000
CACHED_LENGTH = 64


Word = tuple[int, ...]
Phrase = tuple[Word, ...]


@dataclass(frozen=True)
class Special:
    """A token that is looked for in the text before it is split into words.

    normalized: whether it is looked for in the normalised text (so in any case of its letters), or in the
        text as it was typed, before all others.
    """

    content: str
    id: int
    normalized: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Tokenizer:
    """A vocabulary with its merges, and how a sequence begins, ends and is filled up.

    vocabulary: piece, in the byte alphabet -> id.
    unknown_id: for a byte that the vocabulary lacks (CLIP's own lacks none).
    max_length: ids in a sequence with start and end, 77 in every Stable Diffusion.
    phrases: words, by their ids -> ids that are written in their place (see `pochade.prompts.phrases`).
    signed: of these, normalised, those that begin or end with a sign.
    """

    vocabulary: Mapping[str, int] = field(repr=False)
    merges: Merges = field(repr=False)
    specials: tuple[Special, ...]
    start_id: int
    end_id: int
    pad_id: int
    unknown_id: int
    max_length: int = 77
    phrases: Mapping[Phrase, tuple[int, ...]] = field(default_factory=dict, repr=False)
    signed: tuple[str, ...] = field(default=(), repr=False)
    _words: dict[str, list[int]] = field(default_factory=dict, init=False, repr=False)

    def encode(self, text: str) -> list[int]:
        """The ids of a text of any length, without start, end and padding."""
        return [token for run in self.encode_runs(text) for token in run]

    def encode_runs(self, text: str) -> list[tuple[int, ...]]:
        """The same ids, those of a phrase in one tuple: they are not to be torn apart."""
        words = self.encode_words(text)
        runs: list[tuple[int, ...]] = []
        at = 0
        while at < len(words):
            phrase = next((key for key in self._phrases.get(words[at], ()) if _stands(key, words, at)), None)
            if phrase is None:
                runs += [(token,) for token in words[at]]
                at += 1
            else:
                runs.append(self.phrases[phrase])
                at += len(phrase)
        return runs

    def encode_words(self, text: str) -> list[Word]:
        """The ids of each word, and of each sign."""
        words: list[Word] = []
        for part, typed in _split(text, self._typed):
            if typed is not None:
                words.append((typed,))
                continue
            for piece, special in _split(normalize(part), self._normalized):
                if special is not None:
                    words.append((special,))
                else:
                    words += [
                        tuple(self._encode_word(word))
                        for between in self._cut(piece)
                        for word in split_words(between)
                    ]
        return words

    def _encode_word(self, word: str) -> list[int]:
        known = self._words.get(word)
        if known is not None:
            return known
        letters = [self._alphabet[byte] for byte in word.encode("utf-8", errors="replace")]
        letters[-1] += WORD_END
        ids = merge([self.vocabulary.get(letter, self.unknown_id) for letter in letters], self.merges)
        # Prompts repeat their words; what is long or one too many is not worth the memory.
        if len(word) <= CACHED_LENGTH and len(self._words) < CACHED_WORDS:
            self._words[word] = ids
        return ids

    @cached_property
    def _phrases(self) -> dict[Word, list[Phrase]]:
        """First word -> the phrases that begin with it, the longest first."""
        found: dict[Word, list[Phrase]] = {}
        for key in sorted(self.phrases, key=len, reverse=True):
            found.setdefault(key[0], []).append(key)
        return found

    def _cut(self, text: str) -> list[str]:
        """A normalised text, cut before and behind each phrase that begins or ends with a sign."""
        if not self.signed:
            return [text]
        return [part for part in self._signed_phrases.split(text) if part]

    @cached_property
    def _signed_phrases(self) -> "regex.Pattern[str]":
        longest_first = sorted(self.signed, key=len, reverse=True)
        bounded = (
            (r"(?<!\p{L})" if text[0].isalpha() else "")
            + regex.escape(text, special_only=True)
            + (r"(?!\p{L})" if text[-1].isalpha() else "")
            for text in longest_first
        )
        return regex.compile("(" + "|".join(bounded) + ")")

    @cached_property
    def _alphabet(self) -> tuple[str, ...]:
        return byte_alphabet()

    @cached_property
    def _typed(self) -> dict[str, int]:
        return {special.content: special.id for special in self.specials if not special.normalized}

    @cached_property
    def _normalized(self) -> dict[str, int]:
        return {normalize(special.content): special.id for special in self.specials if special.normalized}


def normalize(text: str) -> str:
    """Unicode NFC, each run of white space to one space, lower case letter by letter.

    Letter by letter, so that a capital sigma at a word's end becomes the usual small one, as in training.
    """
    spaced = regex.sub(SPACES, " ", unicodedata.normalize("NFC", text))
    return "".join(letter.lower() for letter in spaced)


def split_words(text: str) -> Iterator[str]:
    """The words of a normalised text: letters, one digit, an English contraction's end, or other signs."""
    for word in regex.findall(WORDS, text):
        if word in ("<|startoftext|>", "<|endoftext|>"):
            # It is a word for the first of two splits in transformers; the second knows no such exception.
            yield from (word[:2], word[2:-2], word[-2:])
        else:
            yield word


def _stands(phrase: Phrase, words: list[Word], at: int) -> bool:
    return tuple(words[at : at + len(phrase)]) == phrase


def _split(text: str, specials: Mapping[str, int]) -> Iterator[tuple[str, int | None]]:
    """The text in parts: (special token, its id) or (what lies between, None). The longest token wins."""
    if not specials:
        yield text, None
        return
    longest_first = sorted(specials, key=len, reverse=True)
    pattern = "(" + "|".join(map(regex.escape, longest_first)) + ")"
    for part in regex.split(pattern, text):
        if part:
            yield part, specials.get(part)


def byte_alphabet() -> tuple[str, ...]:
    """A visible character for each of the 256 bytes, so that a vocabulary can be kept in a text file.

    Bytes that Latin-1 prints stand for themselves; the others, in their order, are U+0100, U+0101, ...
    (Radford et al. 2019 wrote GPT-2's vocabulary so; CLIP took it over.)
    """
    printed = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printed]
    return tuple(chr(byte) if byte in printed else chr(0x100 + others.index(byte)) for byte in range(256))


def merge(symbols: Sequence[int], merges: Merges) -> list[int]:
    """Merge neighbours, the pair of lowest rank first and the leftmost of equals, until none is left
    (Sennrich et al. 2016, section 3.2).

    Looking for the best pair anew after each merge takes quadratic time: minutes for a word of 100 kB. With
    a heap of candidates over a linked list it is O(n log n).
    """
    ids = list(symbols)
    count = len(ids)
    following = list(range(1, count + 1))
    preceding = list(range(-1, count - 1))
    candidates: list[tuple[int, int]] = []  # (rank, position of the left one)

    for left in range(count - 1):
        found = merges.get((ids[left], ids[left + 1]))
        if found is not None:
            candidates.append((found[0], left))
    heapq.heapify(candidates)

    while candidates:
        rank, left = heapq.heappop(candidates)
        right = following[left]
        found = merges.get((ids[left], ids[right])) if right < count else None
        if found is None or found[0] != rank:
            continue  # an earlier merge has changed or taken away one of the two
        ids[left], ids[right] = found[1], GONE
        after, before = following[right], preceding[left]
        following[left] = after
        if after < count:
            preceding[after] = left
            found = merges.get((ids[left], ids[after]))
            if found is not None:
                heapq.heappush(candidates, (found[0], left))
        if before >= 0:
            found = merges.get((ids[before], ids[left]))
            if found is not None:
                heapq.heappush(candidates, (found[0], before))
    return [symbol for symbol in ids if symbol != GONE]
