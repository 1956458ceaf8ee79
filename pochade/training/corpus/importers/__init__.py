"""A user's own captioned pictures: folders, JSON lines, parquet tables and webdataset tars."""

from pochade.training.corpus.importers.importer import gather

__all__ = ["gather"]
