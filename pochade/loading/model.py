"""A loaded model: networks on an engine, tokenizers, noise schedule and parametrization."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pochade.checkpoints.fingerprint import cached_hash
from pochade.checkpoints.folder import Checkpoint, Component
from pochade.diffusion.parametrization import Parametrization
from pochade.diffusion.schedule import NoiseSchedule
from pochade.engines.engine import Engine
from pochade.families.family import Family
from pochade.loading.compiled_graphs import CompiledGraphs
from pochade.loading.networks import Networks, make_networks
from pochade.settings import cache_dir


@dataclass(frozen=True, eq=False, kw_only=True)
class Model:
    """A checkpoint, ready for drawing. tokenizers: one for each text encoder."""

    checkpoint: Checkpoint
    networks: Networks
    tokenizers: Sequence[Any]  # of the family's own kind
    schedule: NoiseSchedule
    parametrization: Parametrization

    @property
    def family(self) -> Family:
        return self.networks.family

    @cached_property
    def hash(self) -> str | None:
        """The first ten digits of the UNet file's SHA-256; None for sharded weights."""
        return _hash_of(self.checkpoint.unet)

    @cached_property
    def vae_hash(self) -> str | None:
        """The first ten digits of the autoencoder file's SHA-256."""
        return _hash_of(self.checkpoint.vae)

    @property
    def title(self) -> str:
        """ "name [hash]", as A1111 shows models."""
        return self.checkpoint.name if self.hash is None else f"{self.checkpoint.name} [{self.hash}]"


def _hash_of(component: Component) -> str | None:
    files = component.files
    return cached_hash(files[0], cache_dir() / "hashes.json") if len(files) == 1 else None


def make_model(
    checkpoint: Checkpoint, engine: Engine, path: Path, *, graphs: CompiledGraphs | None = None
) -> Model:
    """Create a model; nothing is compiled yet. path: for messages. graphs: as for `make_networks`.

    Raises InvalidCheckpoint if the checkpoint is not supported.
    """
    networks = make_networks(checkpoint, engine, graphs=graphs)
    family = networks.family
    tokenizers = family.tokenizers(checkpoint)
    family.check(networks.configs, tokenizers, str(path))
    return Model(
        checkpoint=checkpoint,
        networks=networks,
        tokenizers=tokenizers,
        schedule=family.schedule(checkpoint.scheduler),
        parametrization=family.parametrization(checkpoint.scheduler),
    )
