"""8-bit networks: where a model's grids lie, and networks that compute with them."""

import hashlib
from dataclasses import replace
from pathlib import Path

from pochade.checkpoints.folder import Checkpoint
from pochade.errors import InvalidCheckpoint
from pochade.int8 import Grids
from pochade.pipeline.loading.networks import Network, Networks
from pochade.quantization import files
from pochade.quantization.choosing import Table
from pochade.quantization.files import Tables
from pochade.settings import cache_dir

BESIDE = "int8.safetensors"
"""The name of a model's grids in its folder; beside a single file, model.int8.safetensors."""


def grids_beside(model: Path) -> Path:
    """Where grids that come with a model lie. model: its folder or file."""
    return model / BESIDE if model.is_dir() else model.with_suffix(f".{BESIDE}")


def grids_in_cache(checkpoint: Checkpoint) -> Path:
    """Where grids that were made here are kept: for these weights and no others."""
    named = hashlib.sha256(f"{checkpoint.unet.fingerprint} {checkpoint.vae.fingerprint}".encode())
    return cache_dir() / "int8" / f"{named.hexdigest()[:32]}.safetensors"


def find_grids(model: Path, checkpoint: Checkpoint) -> Tables | None:
    """Those beside the model, else those made here before. Raises InvalidCheckpoint if a file is damaged."""
    for path in (grids_beside(model), grids_in_cache(checkpoint)):
        if path.is_file():
            return files.load(path)
    return None


def in_int8(networks: Networks, tables: Tables) -> Networks:
    """UNet and autoencoder with 8-bit products. Raises InvalidCheckpoint if the grids are another model's."""
    return replace(
        networks,
        unet=_in_int8(networks.unet, tables.get("unet", {})),
        autoencoder=_in_int8(networks.autoencoder, tables.get("vae", {})),
    )


def _in_int8(network: Network, table: Table) -> Network:
    used: Grids = {name: each.grid for name, each in table.items() if each.used}
    for name, grid in used.items():
        stored = network.tensors.get(name.partition("[")[0])
        if stored is None or stored.ndim < 2 or stored.shape[1] != len(grid.smoothing):
            raise InvalidCheckpoint(
                f"the 8-bit grids are another model's: their '{name}' has {len(grid.smoothing)} channels,"
                " which this model has not; make its own with `pochade models quantize`"
            )
    return replace(network, engine=network.engine.quantized(used), _compiled={})
