"""Configurations from a user or from a file's metadata that override the detected ones."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pochade.checkpoints.json_files import read_table
from pochade.errors import InvalidCheckpoint

METADATA_KEY = "pochade.config"
"""The metadata key for the configuration that `models convert` cannot derive from tensors, as JSON."""

FILES: Mapping[str, str] = {
    "unet": "unet/config.json",
    "vae": "vae/config.json",
    "text_encoder": "text_encoder/config.json",
    "text_encoder_2": "text_encoder_2/config.json",
    "scheduler": "scheduler/scheduler_config.json",
    "model_index": "model_index.json",
}
TOKENIZERS = ("tokenizer", "tokenizer_2")
PREDICTIONS = ("epsilon", "v_prediction", "sample")


@dataclass(frozen=True)
class Overrides:
    """Overrides. tables: component -> entries that replace detected ones. folders: tokenizers. where: for
    messages."""

    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    folders: Mapping[str, Path] = field(default_factory=dict)
    where: str = "config"

    @classmethod
    def read(cls, config: Path | str | Mapping[str, Any] | None) -> "Overrides":
        """Read the argument of `load(config=...)`.

        It is a diffusers folder, of which only the configuration files are read, a JSON file, or its content:
        `{"unet": {...}, "vae": {...}, "text_encoder": {...}, "text_encoder_2": {...}, "scheduler": {...},
        "model_index": {...}, "tokenizer": FOLDER, "tokenizer_2": FOLDER}`. Each table is as in a diffusers
        folder and holds only the entries to override.

        Raises InvalidCheckpoint for anything else.
        """
        if config is None:
            return cls()
        if isinstance(config, Mapping):
            return cls._from_table(config, Path(), "config")
        path = Path(config)
        if not path.is_dir():
            return cls._from_table(read_table(path), path.parent, str(path))
        tables = {name: read_table(path / file) for name, file in FILES.items() if (path / file).exists()}
        if not tables:
            raise InvalidCheckpoint(
                f"'{path}' holds no configuration; expected some of {', '.join(FILES.values())}"
            )
        return cls(tables, {name: path / name for name in TOKENIZERS if (path / name).is_dir()}, str(path))

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], path: Path) -> "Overrides":
        """Read the metadata that `models convert` wrote into a file. They cannot name folders."""
        text = metadata.get(METADATA_KEY)
        if text is None:
            return cls()
        try:
            table = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidCheckpoint(
                f"'{path}': its metadata '{METADATA_KEY}' are not JSON ({error})"
            ) from error
        known = {name: table[name] for name in FILES if name in table} if isinstance(table, dict) else {}
        return cls._from_table(known, Path(), str(path))

    @classmethod
    def _from_table(cls, table: Mapping[str, Any], base: Path, where: str) -> "Overrides":
        unknown = set(table) - set(FILES) - set(TOKENIZERS)
        if unknown:
            raise InvalidCheckpoint(
                f"'{where}' configures '{sorted(unknown)[0]}', which is not part of a model; parts are:"
                f" {', '.join([*FILES, *TOKENIZERS])}"
            )
        tables, folders = {}, {}
        for name, value in table.items():
            if name in TOKENIZERS and isinstance(value, (str, Path)):
                folders[name] = base / value
            elif name in FILES and isinstance(value, Mapping):
                tables[name] = value
            else:
                wanted = "the path of a folder" if name in TOKENIZERS else "a table"
                raise InvalidCheckpoint(f"'{where}': '{name}' is {value!r}; expected {wanted}")
        return cls(tables, folders, where)

    def over(self, others: "Overrides") -> "Overrides":
        """Combine with other overrides; these take precedence."""
        names = [*self.tables, *(name for name in others.tables if name not in self.tables)]
        tables = {name: {**others.tables.get(name, {}), **self.tables.get(name, {})} for name in names}
        return Overrides(tables, {**others.folders, **self.folders}, self.where)

    def table(self, name: str, detected: Mapping[str, Any]) -> dict[str, Any]:
        """Return a component's configuration: the detected one with its overrides."""
        return {**detected, **self.tables.get(name, {})}

    def prediction(self) -> tuple[str, str] | None:
        """(what the UNet predicts, reason) from the scheduler's configuration; None if it has none."""
        value = self.tables.get("scheduler", {}).get("prediction_type")
        if value is None:
            return None
        if value not in PREDICTIONS:
            raise InvalidCheckpoint(
                f"'{self.where}': prediction_type is {value!r}; one of: {', '.join(PREDICTIONS)}"
            )
        return value, "as in its configuration"

    def number(self, part: str, name: str, detected: int) -> int:
        """Return an integer of a component's configuration."""
        value = self.tables.get(part, {}).get(name)
        if value is None:  # JSON's null means not set
            return detected
        if type(value) is not int or value < 0:
            raise InvalidCheckpoint(f"'{self.where}': {name} = {value!r} is not a positive whole number")
        return value
