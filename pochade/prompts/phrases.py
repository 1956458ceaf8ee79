"""Words that stand for tokens of their own, beyond the vocabulary."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pochade.prompts.tokenizer import Tokenizer


def with_phrases(tokenizer: Tokenizer, phrases: Mapping[str, Sequence[int]]) -> Tokenizer:
    """A tokenizer that writes these ids where a phrase stands in the text.

    A phrase is found by its usual ids: whatever the case of its letters, and next to whatever signs. Where
    several fit, the longest one wins, as in A1111's web UI. One that has no ids is never found.
    """
    by_ids = {tuple(tokenizer.encode(phrase)): tuple(ids) for phrase, ids in phrases.items()}
    by_ids.pop((), None)
    return replace(tokenizer, phrases=by_ids)
