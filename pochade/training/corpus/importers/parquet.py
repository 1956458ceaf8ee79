"""Parquet tables in the format of Hugging Face's datasets: pictures as {bytes, path} or as paths."""

from collections.abc import Iterator, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from pochade.errors import MissingDependency
from pochade.training.corpus.importers.common import (
    IMAGE_KEYS,
    TEXT_KEYS,
    ImportSettings,
    bad_item,
    caption_in,
    file_content,
    inside,
    item,
)
from pochade.training.corpus.samples import Item, Unusable

ROWS_AT_A_TIME = 64
BROKEN = (OSError, ValueError, KeyError, NotImplementedError)
"""The base classes of pyarrow's errors."""


def count_rows(path: Path) -> int:
    """Return the number of rows in the table's metadata; 1 for a damaged file, which is listed."""
    try:
        return int(_parquet().ParquetFile(path).metadata.num_rows)
    except BROKEN:
        return 1


def named_in_table(path: Path) -> set[str]:
    """Return the paths of pictures in a table with captions, whether or not it contains their bytes."""
    names: set[str] = set()
    try:
        table = _parquet().ParquetFile(path)
        if not {*TEXT_KEYS} & {*table.schema_arrow.names}:
            return names
        for key in (key for key in IMAGE_KEYS if key in table.schema_arrow.names):
            column = f"{key}.path" if "path" in _fields(table.schema_arrow.field(key).type) else key
            if "binary" in str(table.schema_arrow.field(key).type) and column == key:
                continue
            for batch in table.iter_batches(batch_size=1024, columns=[column]):
                for value in batch.column(0).to_pylist():
                    value = value.get("path") if isinstance(value, Mapping) else value
                    if isinstance(value, str):
                        names.add(value)
    except BROKEN:
        return names
    return names


def _fields(kind: Any) -> set[str]:
    """Return the names of a struct's fields; empty for other types."""
    count = getattr(kind, "num_fields", 0)
    return {kind.field(number).name for number in range(count)} if str(kind).startswith("struct") else set()


def table_items(path: Path, settings: ImportSettings, prefix: str = "") -> Iterator[Item]:
    """Yield the pictures of a parquet file, row by row. Raises MissingDependency without pyarrow."""
    parquet = _parquet()
    number = 0
    try:
        table = parquet.ParquetFile(path)
        wanted = [name for name in table.schema_arrow.names if name in (*IMAGE_KEYS, *TEXT_KEYS)]
        if not {*IMAGE_KEYS} & {*wanted} or not {*TEXT_KEYS} & {*wanted}:
            columns = ", ".join(table.schema_arrow.names)[:200]
            yield bad_item(prefix + path.name, "a parquet file without pictures or captions", columns)
            return
        for batch in table.iter_batches(batch_size=ROWS_AT_A_TIME, columns=wanted):
            for row in batch.to_pylist():
                yield row_item(row, path, number, settings, prefix)
                number += 1
    except BROKEN as damaged:
        yield bad_item(f"{prefix}{path.name}:{number}", "a damaged parquet file", str(damaged)[:200])


def row_item(
    row: Mapping[str, Any], path: Path, number: int, settings: ImportSettings, prefix: str = ""
) -> Item:
    """Return the picture of one row."""
    name = f"{prefix}{path.name}:{number}"
    value = next((row[key] for key in IMAGE_KEYS if row.get(key)), None)
    return item(settings, name, partial(_content, value, path.parent, list(row)), partial(caption_in, row))


def _content(value: Any, folder: Path, columns: list[str]) -> bytes:
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return file_content(inside(folder, value))
    raise Unusable("no picture named", f"none of {', '.join(IMAGE_KEYS)} is among {', '.join(columns)[:200]}")


def _parquet() -> Any:
    """Import pyarrow, which is not part of any extra: only parquet files need it."""
    try:
        return import_module("pyarrow.parquet")
    except ImportError as absent:
        raise MissingDependency(
            "reading parquet files needs the package pyarrow: pip install pyarrow"
        ) from absent
