"""8-bit networks: where a model's grids lie, and networks that compute with them."""

import hashlib
import warnings
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import cast

from pochade.atomic import unwritable
from pochade.checkpoints.check import unchecked
from pochade.checkpoints.folder import Checkpoint
from pochade.checkpoints.grids import grids_beside
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
    """Where grids that were made here are kept: for these weights and no others."""
    named = hashlib.sha256(f"{checkpoint.unet.fingerprint} {checkpoint.vae.fingerprint}".encode())
    return cache_dir() / "int8" / f"{named.hexdigest()[:32]}.safetensors"


def find_grids(model: Path, checkpoint: Checkpoint, networks: Networks) -> Tables | None:
    """Those made here for these very weights; else those beside the model, if they were fitted to the same.

    So one's own win over those that came with a model, and another autoencoder, or a file that was replaced
    under its name, gets new ones. Raises InvalidCheckpoint if the file beside the model is damaged.
    """
    own, beside = grids_in_cache(checkpoint), grids_beside(model)
    if own.is_file():
        with suppress(InvalidCheckpoint):  # damaged, or of an older version: made again
            return files.load(own).tables
    if beside.is_file():
        kept = files.load(beside)
        if kept.marks == marks_of(networks):
            return kept.tables
        warnings.warn(
            f"'{beside}' holds 8-bit grids of other weights; it is left alone, and others are used",
            RuntimeWarning,
            stacklevel=2,
        )
    return None


def marks_of(networks: Networks) -> dict[str, str]:
    """What tells the weights that grids were fitted to."""
    return {
        "unet": mark(unchecked(networks.unet.tensors)),
        "vae": mark(unchecked(networks.autoencoder.tensors)),
    }


def keep_grids(path: Path, tables: Tables, networks: Networks) -> None:
    """Write the grids of these networks, whole or not at all. Raises OutputError."""
    files.save(path, StoredGrids(tables, marks_of(networks)))


def keep_in_cache(checkpoint: Checkpoint, tables: Tables, networks: Networks) -> Path:
    """The same where `find_grids` looks first. Raises OutputError."""
    path = grids_in_cache(checkpoint)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error
    keep_grids(path, tables, networks)
    return path


def in_int8(networks: Networks, tables: Tables) -> Networks:
    """UNet and autoencoder with 8-bit products. Raises InvalidCheckpoint if the grids are another model's."""
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
