"""The starter's own vocabulary: byte-pair encoding in CLIP's layout, learned from its captions.

CLIP's 49,408 entries would have more weights than all layers of the small text encoder. About 4,000 entries
learned from the captions contain every word in them, and since all bytes are included, any other text can be
tokenized too (Sennrich et al. 2016; Radford et al. 2019 for the bytes).
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pochade.errors import InvalidRequest, MissingDependency
from pochade.training.corpus import Corpus
from pochade.training.corpus.colours import COLOURS
from pochade.training.corpus.store import write_atomically
from pochade.training.data.captions import caption, countable, counted

SIZE = 4000
MAX_LENGTH = 77
END_OF_WORD = "</w>"
START, END = "<|startoftext|>", "<|endoftext|>"
BYTES = 256
PRIVATE = 0xE000  # the first character of Unicode's private use area

PATTERN = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""How CLIP splits a text: contractions, words, single digits, runs of anything else."""

PLACES = (
    "in", "on", "at", "under", "above", "below", "behind", "between", "inside", "over", "with",
    "without", "and", "next to", "near", "in front of", "to the left of", "to the right of",
    "on top of", "of", "from",
)  # fmt: skip
QUALITIES = (
    "small", "big", "large", "tiny", "huge", "little", "tall", "short", "long", "round", "old", "young",
    "new", "happy", "sad", "angry", "smiling", "cute", "funny", "beautiful", "pretty", "simple",
    "colorful", "shiny", "bright", "dark", "light", "golden", "silver", "wooden", "glass", "metal",
    "soft", "warm", "cold", "hot", "grey", "cyan", "magenta", "turquoise", "violet", "beige", "wet",
    "sleeping", "running", "flying",
)  # fmt: skip
NUMBERS = (
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "a pair of", "many",
    "several",
)  # fmt: skip
KINDS = (
    "a picture of", "an image of", "a photo of", "a drawing of", "a painting of", "an illustration of",
    "a sketch of", "an icon of", "a close-up of", "a portrait of", "a cartoon of", "an emoji of",
    "a sticker of",
)  # fmt: skip
SCENES = (
    "a white background", "a plain background", "a forest", "the snow", "the sky", "the sea",
    "the beach", "the city", "a field", "the grass", "the desert", "the mountains", "a table",
    "the street", "space", "the rain", "the night", "the garden", "a house", "a room", "the water",
    "the sun", "a river", "a road", "the ocean",
)  # fmt: skip
ENDINGS = (
    "high quality", "best quality", "highly detailed", "detailed", "minimal", "digital art",
    "vector art", "3d render", "watercolor", "oil painting", "pixel art", "isometric", "masterpiece",
    "centered", "no text", "low quality", "blurry", "ugly", "worst quality", "flat style", "3d style",
    "noto style", "soft light",
)  # fmt: skip


def training_texts(
    corpus: Corpus,
    chosen: Iterable[int] | None = None,
    *,
    seed: int = 0,
    captions_each: int = 4,
    labels_each: int = 4,
) -> Iterator[str]:
    """Yield the texts to learn from: captions, every label and tag, and typical prompts."""
    rng = np.random.default_rng(seed)
    entries = corpus.entries if chosen is None else [corpus.entries[index] for index in chosen]
    for entry in entries:
        yield from [entry.label] * labels_each
        yield from entry.tags
        yield from entry.translations
        for _ in range(captions_each):
            yield caption(entry, rng)
        if countable(entry):
            yield counted(entry, int(rng.integers(2, 6)))
    labels = list(dict.fromkeys(entry.label for entry in entries))
    for label in labels:
        yield prompt_sentence(label, labels, rng)


def prompt_sentence(label: str, others: list[str], rng: np.random.Generator) -> str:
    """Put common prompt words around a label: "a drawing of two small green owls in the snow, watercolor"."""

    def one_of(words: Iterable[str]) -> str:
        choices = list(words)
        return choices[int(rng.integers(len(choices)))]

    return (
        f"{one_of(KINDS)} {one_of((*NUMBERS, 'a', 'an', 'the'))} {one_of(QUALITIES)} {one_of(COLOURS)} "
        f"{label} {one_of(PLACES)} {one_of((*SCENES, 'a ' + one_of(others)))} "
        f"on a {one_of((*COLOURS, *QUALITIES))} background, {one_of(ENDINGS)}, {one_of(ENDINGS)}"
    )


def train_vocabulary(
    texts: Iterable[str], folder: str | Path, *, size: int = SIZE, max_length: int = MAX_LENGTH
) -> Path:
    """Learn a vocabulary of `size` entries from `texts` and write it to `folder`; return the folder.

    max_length: ids in a chunk of a prompt, including start and end.
    Entries: 256 byte symbols, the same with an end-of-word mark, `size - 514` merges, start and end of text.
    Fewer texts than needed give fewer merges and so a smaller vocabulary.
    The files (vocab.json, merges.txt, tokenizer_config.json, special_tokens_map.json) are what
    transformers' CLIPTokenizer and Pochade's own tokenizer read.
    Raises InvalidRequest for a size that leaves no merges, MissingDependency without `tokenizers`.
    """
    if size <= 2 * BYTES + 2:
        raise InvalidRequest(f"a vocabulary of {size} entries is too small for merges; use 515 or more")
    merges = _learned_merges(texts, size)[: size - 2 * BYTES - 2]
    symbols = byte_symbols()
    entries = [*symbols, *(symbol + END_OF_WORD for symbol in symbols)]
    entries += [first + second for first, second in merges]
    entries = [*dict.fromkeys(entries), START, END]

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {entry: index for index, entry in enumerate(entries)}
    write_atomically(folder / "vocab.json", json.dumps(vocabulary, ensure_ascii=False))
    lines = "".join(f"{first} {second}\n" for first, second in merges)
    write_atomically(folder / "merges.txt", f"#version: 0.2\n{lines}")
    write_atomically(folder / "tokenizer_config.json", json.dumps(_configuration(max_length), indent=2))
    write_atomically(folder / "special_tokens_map.json", json.dumps(_special_tokens(), indent=2))
    return folder


def byte_symbols() -> list[str]:
    """Return one printable character for each byte, in CLIP's order.

    Printable bytes of Latin-1 map to themselves and come first; the others follow as U+0100, U+0101, ...
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(byte) for byte in printable] + [chr(0x100 + n) for n in range(BYTES - len(printable))]


def _learned_merges(texts: Iterable[str], size: int) -> list[tuple[str, str]]:
    """Return the most common pairs, most frequent first, ties in a fixed order.

    The package numbers end-of-word symbols in an order that differs between runs, and breaks ties by that
    number. So the last symbol of each word is replaced here by a unique single character, which puts all 512
    initial symbols into the (sorted) alphabet, and translated back afterwards.
    """
    try:
        from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
    except ImportError as absent:
        raise MissingDependency(
            "learning a vocabulary needs the package tokenizers: pip install 'pochade[train]'"
        ) from absent
    clean = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    split = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    ending = {symbol: chr(PRIVATE + number) for number, symbol in enumerate(byte_symbols())}
    written = {character: symbol + END_OF_WORD for symbol, character in ending.items()}

    def marked(text: str) -> str:
        words = (word for word, _ in split.pre_tokenize_str(clean.normalize_str(text)))
        return " ".join(word[:-1] + ending[word[-1]] for word in words)

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=[*ending, *ending.values()], show_progress=False
    )
    tokenizer.train_from_iterator(map(marked, texts), trainer)
    pairs = json.loads(tokenizer.to_str())["model"]["merges"]
    return [(_spelled(first, written), _spelled(second, written)) for first, second in pairs]


def _spelled(piece: str, written: dict[str, str]) -> str:
    return "".join(written.get(character, character) for character in piece)


def _special_tokens() -> dict[str, str]:
    return {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}


def _configuration(max_length: int) -> dict[str, Any]:
    return {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": max_length,
        "add_prefix_space": False,
        "do_lower_case": True,
        "errors": "replace",
        **_special_tokens(),
    }
