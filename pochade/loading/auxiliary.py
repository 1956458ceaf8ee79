"""Opens auxiliary networks on a model's engine: ControlNets, upscalers and refiners."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pochade.checkpoints.contents import contents_of
from pochade.checkpoints.controlnet import read_controlnet
from pochade.checkpoints.folder import Checkpoint
from pochade.checkpoints.library import entries, pick
from pochade.checkpoints.read import read_checkpoint
from pochade.checkpoints.upscaler import read_upscaler
from pochade.configs.read_json import controlnet_config, rrdb_config
from pochade.engines.engine import Engine
from pochade.errors import InvalidRequest
from pochade.families.registry import family_of
from pochade.images.upscaling import find_upscaler, is_model_file
from pochade.loading.compiled_graphs import CompiledGraphs
from pochade.loading.engine_choice import choose, make_engine
from pochade.loading.model import Model, make_model
from pochade.loading.network import Network, make_network
from pochade.loading.networks import Networks
from pochade.loading.parameter_shapes import controlnet_shapes, rrdb_shapes


def controlnet_on(engine: Engine, path: Path, *, graphs: CompiledGraphs | None = None) -> Network:
    """Open a ControlNet on an engine. Raises InvalidCheckpoint for anything else."""
    component = read_controlnet(path)
    config = controlnet_config(component.config)
    return make_network(component, config, controlnet_shapes(config), engine, graphs)


def upscaler_on(engine: Engine, path: Path | str, *, graphs: CompiledGraphs | None = None) -> Network:
    """Open an ESRGAN model on an engine. Raises InvalidCheckpoint for anything else."""
    component = read_upscaler(path)
    config = rrdb_config(component.config)
    return make_network(component, config, rrdb_shapes(config), engine, graphs)


def load_upscaler(
    path: Path | str,
    *,
    device: str = "auto",
    precision: str = "auto",
    engine: str = "auto",
    threads: int | None = None,
) -> Network:
    """Load an ESRGAN model alone; the arguments are those of `pochade.load`."""
    return upscaler_on(make_engine(choose(device, precision, engine), threads=threads), path)


def resolve_upscaler(name: str, roots: Sequence[Path]) -> str:
    """Return the canonical name of an upscaler without a model, or the path of a model given by path or name.

    roots: the folders of models. Raises InvalidRequest, listing all upscalers, for an unknown name,
    InvalidCheckpoint if several files have the name.
    """
    try:
        return find_upscaler(name)
    except InvalidRequest as unknown:
        if Path(name).is_file():
            return name
        known = entries(roots)
        if any(entry.answers_to(name) for entry in known):
            return str(pick(name, known, roots, "upscaler").path)
        if is_model_file(name):  # a path; opening it reports if it does not exist
            return name
        files = [entry.name for entry in known if contents_of(entry.path).kind == "upscaler"]
        listed = f"; in the folders of models: {', '.join(files)}" if files else ""
        raise InvalidRequest(f"{unknown}{listed}") from unknown


def open_refiner(networks: Networks, checkpoint: Checkpoint, path: Path) -> Model:
    """Open the model at `path` on the engine of these networks, with their autoencoder; it is opened once.

    Raises InvalidCheckpoint as loading does, InvalidRequest for a model with other latents.
    """
    model = networks.auxiliary(path, partial(_model_on, checkpoint))
    ours, theirs = (family_of(each) for each in (checkpoint, model.checkpoint))
    if ours.latents != theirs.latents:
        raise InvalidRequest(
            f"the refiner '{path}' is {theirs.label}, the model {ours.label}: their latents differ; use a"
            " refiner of the model's family"
        )
    if model.networks.traits.reads_mask and not networks.traits.reads_mask:
        raise InvalidRequest(
            f"the refiner '{path}' is an inpainting model and the model is not; take a plain one"
        )
    return model


def _model_on(base: Checkpoint, engine: Engine, path: Path, *, graphs: CompiledGraphs | None = None) -> Model:
    return make_model(read_checkpoint(path, vae=base.vae), engine, path, graphs=graphs)
