"""Training sets: licensed, captioned pictures from pinned packages, or a user's own."""

from pochade.training.corpus.assemble import NothingUsable
from pochade.training.corpus.build import build
from pochade.training.corpus.concepts import Concept, Dropped
from pochade.training.corpus.contact_sheets import contact_sheet, on_background, style_sheet
from pochade.training.corpus.downloads import DownloadError, download, npm_pack
from pochade.training.corpus.packages import UntrustedArchive
from pochade.training.corpus.samples import Unusable
from pochade.training.corpus.sources import SOURCES, CorpusSource, Package
from pochade.training.corpus.store import Corpus, CorpusEntry, load, split_of

__all__ = [
    "SOURCES",
    "Concept",
    "Corpus",
    "CorpusEntry",
    "CorpusSource",
    "DownloadError",
    "Dropped",
    "NothingUsable",
    "Package",
    "UntrustedArchive",
    "Unusable",
    "build",
    "contact_sheet",
    "download",
    "load",
    "npm_pack",
    "on_background",
    "split_of",
    "style_sheet",
]
