"""8-bit networks: finds and stores a model's grids, and applies them to its networks."""

import hashlib
import warnings
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import cast

from pochade.atomic import unwritable
from pochade.checkpoints.check import unchecked
from pochade.checkpoints.folder import Checkpoint
from pochade.checkpoints.grids import grids_path
from pochade.engines.engine import QuantizingEngine
from pochade.errors import InvalidCheckpoint
from pochade.int8 import Grids
from pochade.loading.network import Network
from pochade.loading.networks import Networks
from pochade.quantization import files
from pochade.quantization.files import StoredGrids, Tables, mark
from pochade.quantization.fit_grids import Table
from pochade.settings import cache_dir


def grids_in_cache(checkpoint: Checkpoint) -> Path:
    """Return the cache file of grids for exactly these weights."""
    named = hashlib.sha256(f"{checkpoint.unet.fingerprint} {checkpoint.vae.fingerprint}".encode())
    return cache_dir() / "int8" / f"{named.hexdigest()[:32]}.safetensors"


def find_grids(model: Path, checkpoint: Checkpoint, networks: Networks) -> Tables | None:
    """Return cached grids for these weights, else those that come with the model if they fit its weights.

    So grids fitted here take precedence, and another autoencoder or a replaced file gets new grids. Raises
    InvalidCheckpoint if the file that comes with the model is damaged.
    """
    own, shipped = grids_in_cache(checkpoint), grids_path(model)
    if own.is_file():
        with suppress(InvalidCheckpoint):  # damaged, or of an older version: fitted again
            return files.load(own).tables
    if shipped.is_file():
        kept = files.load(shipped)
        if kept.marks == marks_of(networks):
            return kept.tables
        warnings.warn(
            f"'{shipped}' holds 8-bit grids of other weights; it is ignored",
            RuntimeWarning,
            stacklevel=2,
        )
    return None


def marks_of(networks: Networks) -> dict[str, str]:
    """Return the hashes that identify the weights for which grids are fitted."""
    return {
        "unet": mark(unchecked(networks.unet.tensors)),
        "vae": mark(unchecked(networks.autoencoder.tensors)),
    }


def keep_grids(path: Path, tables: Tables, networks: Networks) -> None:
    """Write the grids of these networks atomically. Raises OutputError."""
    files.save(path, StoredGrids(tables, marks_of(networks)))


def keep_in_cache(checkpoint: Checkpoint, tables: Tables, networks: Networks) -> Path:
    """Write the grids to the cache, where `find_grids` looks first. Raises OutputError."""
    path = grids_in_cache(checkpoint)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error
    keep_grids(path, tables, networks)
    return path


def in_int8(networks: Networks, tables: Tables) -> Networks:
    """Return the networks with 8-bit products. Raises InvalidCheckpoint if the grids are for another
    model."""
    return replace(
        networks,
        unet=_in_int8(networks.unet, tables.get("unet", {})),
        autoencoder=_in_int8(networks.autoencoder, tables.get("vae", {})),
    )


def _in_int8(network: Network, table: Table) -> Network:
    used: Grids = {name: each.grid for name, each in table.items() if each.used}
    tensors = unchecked(network.tensors)
    for name, grid in used.items():
        stored = tensors.get(name.partition("[")[0])
        if stored is None or stored.ndim < 2 or stored.shape[1] != len(grid.smoothing):
            raise InvalidCheckpoint(
                f"the 8-bit grids are another model's: their '{name}' has {len(grid.smoothing)} channels,"
                " which this model has not; make its own with `pochade models quantize`"
            )
    engine = cast(QuantizingEngine, network.engine)  # `choose` takes int8 on such engines only
    return replace(network, engine=engine.quantized(used))
