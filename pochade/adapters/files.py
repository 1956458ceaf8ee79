"""Opens an adapter's files with their configuration: a single file, or a folder of PEFT or diffusers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pochade.adapters.keys import TEXT, TEXT_2, UNET
from pochade.adapters.patterns import UnreadablePattern, compiled, fits, is_plain
from pochade.checkpoints.json_files import read_table
from pochade.checkpoints.safetensors import TensorFile
from pochade.checkpoints.weight_files import open_tensors
from pochade.errors import InvalidCheckpoint

PEFT_WEIGHTS, PEFT_CONFIG = "adapter_model", "adapter_config.json"
DIFFUSERS_WEIGHTS = "pytorch_lora_weights"
SUFFIXES = (".safetensors", ".bin")
"""Of both; the pickles of older versions are taken where there is nothing else."""
DIFFUSERS_METADATA = "lora_adapter_metadata"
"""The metadata key for PEFT's configuration, a JSON string whose names begin with the component."""


COMPONENTS = (UNET, TEXT, TEXT_2)
"""Names of folders in which PEFT saves the adapter of each network."""

MAX_PATTERNS = 100


@dataclass(frozen=True, eq=False)
class AdapterFile:
    """An adapter's file. tensors: by their names in the file. config: component -> PEFT's configuration, ""
    for any component. component: the component that the file belongs to, if its folder names one."""

    path: Path
    tensors: TensorFile
    config: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    component: str | None = None

    def scale(self, component: str, module: str, rank: int) -> float:
        """Return the scale of the factors' product for a layer without an `alpha` tensor: 1, or alpha / r or
        alpha / sqrt(r) (Kalajdzievski 2023) from PEFT's configuration.

        module: the layer's canonical name. rank: of its factors, 0 if they have none.
        """
        config = self.config.get(component, self.config.get("", {}))
        # Versions of transformers name text encoders' layers with or without `text_model.`.
        names = (module,) if component == UNET else (module, f"text_model.{module}")
        alpha = _of_layer(config, "alpha_pattern", names, _first(config, "lora_alpha", "alpha"))
        if alpha is None:
            return 1.0
        if rank == 0:
            rank = _of_layer(config, "rank_pattern", names, config.get("r")) or 1
        return float(alpha) / (rank**0.5 if config.get("use_rslora") else rank)


def adapter_files(path: Path) -> tuple[AdapterFile, ...]:
    """Open a file or, for a folder, its files: PEFT's, diffusers', or one of PEFT for each component.

    Raises InvalidCheckpoint if a folder holds no adapter, or if a file is damaged.
    """
    if path.stem == PEFT_WEIGHTS and path.suffix in SUFFIXES and (path.parent / PEFT_CONFIG).is_file():
        return (_peft(path, None),)  # without its configuration the scale would be wrong
    if not path.is_dir():
        tensors = open_tensors(path)
        return (AdapterFile(path, tensors, _diffusers_config(path, tensors)),)
    found = _weights_in(path, PEFT_WEIGHTS)
    if found is not None:
        return (_peft(found, None),)
    found = _weights_in(path, DIFFUSERS_WEIGHTS)
    if found is not None:
        return adapter_files(found)
    parts = [(each, name) for name in COMPONENTS if (each := _weights_in(path / name, PEFT_WEIGHTS))]
    if not parts:
        raise InvalidCheckpoint(
            f"the folder '{path}' holds no adapter; it needs {PEFT_WEIGHTS}.safetensors with {PEFT_CONFIG},"
            f" or {DIFFUSERS_WEIGHTS}.safetensors. Of a folder of many, name the file"
        )
    return tuple(_peft(part, name) for part, name in parts)


def _weights_in(folder: Path, stem: str) -> Path | None:
    return next((path for suffix in SUFFIXES if (path := folder / f"{stem}{suffix}").is_file()), None)


def _peft(path: Path, component: str | None) -> AdapterFile:
    folder = path.parent
    if component is None and folder.name in COMPONENTS:
        component = folder.name
    config = read_table(folder / PEFT_CONFIG)
    kind = str(config.get("peft_type", "LORA")).upper()
    if kind not in ("LORA", "LOHA", "LOKR"):
        raise InvalidCheckpoint(f"'{folder / PEFT_CONFIG}' describes a {kind}; LORA, LOHA and LOKR are read")
    return AdapterFile(path, open_tensors(path), {"": _checked(config, folder / PEFT_CONFIG)}, component)


def _diffusers_config(path: Path, tensors: TensorFile) -> dict[str, dict[str, Any]]:
    """Component -> PEFT's configuration, from a file's metadata with names such as "unet.lora_alpha"."""
    try:
        table = json.loads(tensors.metadata.get(DIFFUSERS_METADATA, "{}"))
    except (ValueError, RecursionError):
        table = None
    if not isinstance(table, dict):
        raise InvalidCheckpoint(f"'{path}' has '{DIFFUSERS_METADATA}' in its metadata, which is damaged")
    configs: dict[str, dict[str, Any]] = {}
    for name, value in table.items():
        component, _, entry = name.partition(".")
        configs.setdefault(component, {})[entry] = value
    return {component: _checked(config, path) for component, config in configs.items()}


def _checked(config: dict[str, Any], where: Path) -> dict[str, Any]:
    """Check the values of a configuration. Raises InvalidCheckpoint for invalid numbers."""
    for name in ("lora_alpha", "alpha", "r"):
        if not _is_number(config.get(name, 1)):
            raise InvalidCheckpoint(f"'{where}': {name} = {config[name]!r} is not a positive number")
    for name in ("alpha_pattern", "rank_pattern"):
        table = config.get(name) or {}
        if not isinstance(table, dict) or not all(_is_number(value) for value in table.values()):
            raise InvalidCheckpoint(f"'{where}': {name} is not a table of positive numbers")
        patterns = [layer for layer in table if not is_plain(layer)]
        if len(patterns) > MAX_PATTERNS:
            raise InvalidCheckpoint(
                f"'{where}': {name} has {len(patterns)} patterns; at most {MAX_PATTERNS} are read, beside"
                " plain names"
            )
        for pattern in patterns:
            try:
                compiled(pattern)
            except UnreadablePattern as error:
                raise InvalidCheckpoint(
                    f"'{where}': {name} has the pattern {ascii(pattern)[:80]}, which {error}"
                ) from error
    return config


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and 0 < value < 1e30  # type: ignore[operator]


def _first(config: Mapping[str, Any], *names: str) -> Any:
    return next((config[name] for name in names if name in config), None)


def _of_layer(config: Mapping[str, Any], entry: str, names: tuple[str, ...], usual: Any) -> Any:
    """Look up PEFT's patterns: the first that matches one of a layer's names, or its end after a dot,
    counts."""
    for pattern, value in (config.get(entry) or {}).items():
        if any(fits(pattern, name) for name in names):
            return value
    return usual
