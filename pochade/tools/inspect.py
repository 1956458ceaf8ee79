"""Describes and verifies checkpoints without building networks."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pochade.checkpoints.check import check_finite
from pochade.checkpoints.few_steps import FewSteps
from pochade.checkpoints.folder import Checkpoint, Component
from pochade.errors import InvalidCheckpoint
from pochade.families.family import Configs
from pochade.families.registry import family_of
from pochade.loading.networks import make_networks

CHUNK_BYTES = 16_000_000


@dataclass(frozen=True)
class ComponentFacts:
    """Facts about a network. parameters: their number; bytes: their stored size; types: their stored
    types."""

    name: str
    tensors: int
    parameters: int
    bytes: int
    types: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class CheckpointFacts:
    """Facts about a checkpoint.

    side: of its pictures, in pixels. few_steps: as in `Checkpoint`.
    """

    name: str
    family: str
    inpainting: bool
    side: int
    prediction: str
    prediction_reason: str
    parts: tuple[ComponentFacts, ...]
    files: tuple[Path, ...]
    few_steps: FewSteps | None = None

    @property
    def parameters(self) -> int:
        """The number of parameters in all networks."""
        return sum(part.parameters for part in self.parts)


def facts(checkpoint: Checkpoint) -> CheckpointFacts:
    """Read headers and configurations, but no weights. Raises InvalidCheckpoint if it is not supported."""
    family = family_of(checkpoint)
    texts = zip(family.text_encoders, checkpoint.text_encoders, strict=True)
    configs = Configs(
        denoiser=family.denoiser.config(checkpoint.unet.config),
        text_encoders=tuple(each.config(component.config) for each, component in texts),
        autoencoder=family.autoencoder(checkpoint.vae.config),
    )
    traits = family.traits(configs)
    parts = components(checkpoint)
    return CheckpointFacts(
        name=checkpoint.name,
        family=family.label,
        inpainting=traits.reads_mask,
        side=traits.side,
        prediction=checkpoint.scheduler.get("prediction_type", "epsilon"),
        prediction_reason=checkpoint.prediction_reason,
        parts=tuple(map(_part, parts)),
        files=tuple(dict.fromkeys(file for part in parts for file in part.files)),
        few_steps=checkpoint.few_steps,
    )


def verify(checkpoint: Checkpoint) -> Iterator[int]:
    """Check that no tensors are missing or superfluous, that shapes fit, and that all numbers are finite.

    Yields the number of bytes checked since the last yield; reads everything once. Raises InvalidCheckpoint
    at the first error.
    """
    make_networks(checkpoint, engine=None)
    for part in components(checkpoint):
        for name in part.tensors:
            tensor = part.tensors[name]
            check_finite({name: tensor}, part.files[0])
            yield tensor.nbytes


def hashing(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (bytes read since the last yield, SHA-256 so far); the last one is the file's hash."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                yield len(chunk), digest.hexdigest()
    except OSError as error:
        raise InvalidCheckpoint(f"'{path}' cannot be read: {error.strerror or error}") from error


def components(checkpoint: Checkpoint) -> list[Component]:
    """Return the networks, in the order in which they are used."""
    return [*checkpoint.text_encoders, checkpoint.unet, checkpoint.vae]


def _part(component: Component) -> ComponentFacts:
    tensors = [component.tensors[name] for name in component.tensors]
    return ComponentFacts(
        name=component.name,
        tensors=len(tensors),
        parameters=sum(tensor.size for tensor in tensors),
        bytes=sum(tensor.nbytes for tensor in tensors),
        types=tuple(sorted({str(tensor.dtype) for tensor in tensors})),
    )
