"""CLIP's byte-pair tokenizer (Radford et al. 2021).

The text is normalised (Unicode NFC, white space collapsed, lower case) and split into words; each word is
written as bytes, which are merged into tokens of the vocabulary. `</w>` marks the end of a word. The ids are
those of transformers 5, for which the models' folders are written. That includes:

- Special tokens written in a prompt ("<|endoftext|>") act as such. The pooled embedding of a prompt that
  contains one is read there, as in every tool that uses transformers.
- SD 2.x and the second encoder of SDXL pad with "!", which is therefore a special token too: in a prompt it
  becomes id 0. The models were trained with 256, "!</w>", which `dataclasses.replace(tokenizer, specials=())`
  restores.
"""

import heapq
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import regex

Merges = Mapping[tuple[int, int], tuple[int, int]]
"""(left id, right id) -> (rank, id of the merged token); the lowest rank is merged first."""

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
    """A special token, which is searched for before the text is split into words.

    normalized: whether it is searched for in the normalised text (ignoring case), or before that in the
        original text.
    """

    content: str
    id: int
    normalized: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Tokenizer:
    """A byte-pair tokenizer: vocabulary, merges, and the ids for start, end and padding.

    vocabulary: token, in the byte alphabet -> id.
    unknown_id: for bytes that the vocabulary lacks (CLIP's lacks none).
    max_length: ids in a sequence with start and end, 77 in every Stable Diffusion.
    phrases: ids of the words of a phrase -> ids that replace them (see `with_phrases`).
    punctuated: the normalised phrases that begin or end with punctuation.
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
    punctuated: tuple[str, ...] = field(default=(), repr=False)
    _words: dict[str, list[int]] = field(default_factory=dict, init=False, repr=False)

    def encode(self, text: str) -> list[int]:
        """Encode a text of any length, without start, end and padding."""
        return [token for run in self.encode_runs(text) for token in run]

    def encode_runs(self, text: str) -> list[tuple[int, ...]]:
        """Encode a text; the ids of a phrase form one tuple, which must not be split."""
        words = self.encode_words(text)
        runs: list[tuple[int, ...]] = []
        at = 0
        while at < len(words):
            phrase = next((key for key in self._phrases.get(words[at], ()) if _matches(key, words, at)), None)
            if phrase is None:
                runs += [(token,) for token in words[at]]
                at += 1
            else:
                runs.append(self.phrases[phrase])
                at += len(phrase)
        return runs

    def encode_words(self, text: str) -> list[Word]:
        """Encode each word or run of punctuation separately."""
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
                        for between in self._split_at_phrases(piece)
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
        # Prompts repeat words. Long words, and words beyond the limit, are not cached.
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

    def _split_at_phrases(self, text: str) -> list[str]:
        """Split a normalised text around each phrase that begins or ends with punctuation."""
        if not self.punctuated:
            return [text]
        return [part for part in self._punctuated_phrases.split(text) if part]

    @cached_property
    def _punctuated_phrases(self) -> "regex.Pattern[str]":
        longest_first = sorted(self.punctuated, key=len, reverse=True)
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


def with_phrases(tokenizer: Tokenizer, phrases: Mapping[str, Sequence[int]]) -> Tokenizer:
    """Return a tokenizer that replaces phrases by the given ids.

    A phrase is recognised by the ids of its words: in any case and next to any punctuation, but not within a
    word. The longest matching phrase wins. A phrase without words is never found. Consecutive punctuation is
    one word to the tokenizer, so the text is first split around phrases that begin or end with punctuation.
    """
    by_words = {tuple(tokenizer.encode_words(phrase)): tuple(ids) for phrase, ids in phrases.items()}
    by_words.pop((), None)
    texts = (normalize(phrase).strip() for phrase in phrases)
    punctuated = tuple(text for text in texts if text and not (text[0].isalnum() and text[-1].isalnum()))
    return replace(tokenizer, phrases=by_words, punctuated=punctuated)


def normalize(text: str) -> str:
    """Normalise to Unicode NFC, collapse white space, and convert to lower case letter by letter.

    Letter by letter, so that a capital sigma at the end of a word becomes the ordinary sigma, as in training.
    """
    spaced = regex.sub(SPACES, " ", unicodedata.normalize("NFC", text))
    return "".join(letter.lower() for letter in spaced)


def split_words(text: str) -> Iterator[str]:
    """Split a normalised text into words: letters, a digit, the end of an English contraction, or
    punctuation."""
    for word in regex.findall(WORDS, text):
        if word in ("<|startoftext|>", "<|endoftext|>"):
            # It is a word for the first of two splits in transformers; the second knows no such exception.
            yield from (word[:2], word[2:-2], word[-2:])
        else:
            yield word


def _matches(phrase: Phrase, words: list[Word], at: int) -> bool:
    return tuple(words[at : at + len(phrase)]) == phrase


def _split(text: str, specials: Mapping[str, int]) -> Iterator[tuple[str, int | None]]:
    """Split the text into (special token, its id) and (other text, None). The longest token wins."""
    if not specials:
        yield text, None
        return
    longest_first = sorted(specials, key=len, reverse=True)
    pattern = "(" + "|".join(map(regex.escape, longest_first)) + ")"
    for part in regex.split(pattern, text):
        if part:
            yield part, specials.get(part)


def byte_alphabet() -> tuple[str, ...]:
    """Return a printable character for each of the 256 bytes, so that a vocabulary can be a text file.

    Printable bytes of Latin-1 map to themselves; the others, in order, are U+0100, U+0101, ... (Radford et
    al. 2019, GPT-2).
    """
    printed = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printed]
    return tuple(chr(byte) if byte in printed else chr(0x100 + others.index(byte)) for byte in range(256))


def merge(symbols: Sequence[int], merges: Merges) -> list[int]:
    """Merge adjacent symbols, lowest rank and then leftmost first, until no merge is left (Sennrich et al.
    2016, section 3.2).

    Searching for the best pair after each merge takes quadratic time: minutes for a word of 100 kB. A heap of
    candidates over a linked list takes O(n log n).
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
            continue  # an earlier merge has changed or removed one of the two
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
