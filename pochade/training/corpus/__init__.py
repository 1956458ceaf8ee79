"""The training set of the starter model: licensed, captioned pictures from pinned packages."""

from pochade.training.corpus.build import build
from pochade.training.corpus.concepts import Concept, Dropped
from pochade.training.corpus.looking import contact_sheet, on_background
from pochade.training.corpus.packages import DownloadError, UntrustedArchive, npm_pack
from pochade.training.corpus.sources import SOURCES, Package, Source
from pochade.training.corpus.store import Corpus, Entry, load

__all__ = [
    "SOURCES",
    "Concept",
    "Corpus",
    "DownloadError",
    "Dropped",
    "Entry",
    "Package",
    "Source",
    "UntrustedArchive",
    "build",
    "contact_sheet",
    "load",
    "npm_pack",
    "on_background",
]
