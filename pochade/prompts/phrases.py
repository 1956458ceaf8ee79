"""Words that stand for tokens of their own, beyond the vocabulary."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pochade.prompts.tokenizer import Tokenizer, normalize


def with_phrases(tokenizer: Tokenizer, phrases: Mapping[str, Sequence[int]]) -> Tokenizer:
    """A tokenizer that writes these ids where a phrase stands in the text.

    A phrase is found by the usual ids of its words: whatever the case of its letters, and next to whatever
    signs, but not within a word. Where several fit, the longest one wins. One without words is never found.
    Signs that follow each other are one word to the tokenizer; so a phrase that begins or ends with a sign is
    cut out of the text before.
    """
    by_words = {tuple(tokenizer.encode_words(phrase)): tuple(ids) for phrase, ids in phrases.items()}
    by_words.pop((), None)
    texts = (normalize(phrase).strip() for phrase in phrases)
    signed = tuple(text for text in texts if text and not (text[0].isalnum() and text[-1].isalnum()))
    return replace(tokenizer, phrases=by_words, signed=signed)
