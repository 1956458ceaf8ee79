"""Which pictures are held out for evaluation, and which ones the scorer may be trained on."""

from pochade.training.corpus import SOURCES, CorpusEntry
from pochade.training.corpus.store import split_of

SCORER_ONLY = frozenset(source.name for source in SOURCES if source.use == "scorer")
"""Sources that are used for training the scorer only."""


def held_out(entry: CorpusEntry) -> bool:
    """Whether an entry is held out for evaluation: neither models nor the scorer are trained on it."""
    return entry.source not in SCORER_ONLY and split_of(entry.code, entry.source) == "held-out"
