"""Which pictures models are judged by, and which ones the scorer may learn from."""

from pochade.training.corpus import SOURCES, CorpusEntry
from pochade.training.corpus.store import split_of

SCORER_ONLY = frozenset(source.name for source in SOURCES if source.use == "scorer")
"""Sources that no model is trained on, and so none is judged by."""


def held_out(entry: CorpusEntry) -> bool:
    """Whether an entry is one of those by which models are judged: neither they nor the scorer learn it."""
    return entry.source not in SCORER_ONLY and split_of(entry.code, entry.source) == "held-out"
