"""Words that stand for tokens of their own, beyond the vocabulary."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pochade.prompts.tokenizer import Tokenizer


def with_phrases(tokenizer: Tokenizer, phrases: Mapping[str, Sequence[int]]) -> Tokenizer:
    """A tokenizer that writes these ids where a phrase stands in the text.

    A phrase is found by the usual ids of its words: whatever the case of its letters, and next to whatever
    signs, but not within a word. Where several fit, the longest one wins. One without words is never found.
    """
    by_words = {tuple(tokenizer.encode_words(phrase)): tuple(ids) for phrase, ids in phrases.items()}
    by_words.pop((), None)
    return replace(tokenizer, phrases=by_words)
