"""Pochade through the package's own parts: a mapped component, the engine that `load` chooses, its cache."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contenders.fixture import read_case
from measure.worker import Contender, Phases


@dataclass(frozen=True)
class Loaded:
    """The UNet of a folder, not yet compiled. inputs: those of the case, as the model takes them."""

    function: Callable[..., Any]
    tensors: Any
    inputs: dict[str, Any]
    shapes: dict[str, tuple[tuple[int, ...], str]]
    key: str


def load(folder: Path) -> Loaded:
    """Map the weights and check their names, as `pochade.load` does."""
    from pochade.checkpoints.check import FiniteTensors, check_names
    from pochade.checkpoints.folder import KEY_MAPS, read_component
    from pochade.configs.read_json import unet_config
    from pochade.loading.parameter_shapes import unet_shapes, with_config
    from pochade.models.embedding import embed_timestep
    from pochade.models.unet import unet

    component = read_component(folder / "unet", "unet", KEY_MAPS["unet"])
    config = unet_config(component.config)
    check_names(component.tensors, unet_shapes(config), component.files[0])
    case, _ = read_case(folder)
    time = embed_timestep(config, case["timestep"])
    inputs = {"x": case["x"], "time": time, "context": case["context"]}
    return Loaded(
        with_config(unet, config),
        FiniteTensors(component.tensors, component.files[0]),
        inputs,
        {name: (array.shape, "f32") for name, array in inputs.items()},
        f"{component.fingerprint} unet {config}",
    )


def pochade(folder: Path, compiled: Path, precision: str) -> Contender:
    """The OpenVINO engine, with compiled graphs cached in the folder `compiled`."""
    os.environ["POCHADE_CACHE"] = str(compiled)
    phases = Phases()
    with phases("import"):
        from pochade.loading.engine_choice import choose, make_engine

        engine = make_engine(choose("cpu", precision, "openvino"), low_memory=True)  # kept before it is used
    with phases("load"):
        network = load(folder)
    with phases("compile"):
        graph: Any = engine.compile(network.function, network.tensors, network.shapes, key=network.key)
    return Contender(
        lambda: graph(**network.inputs), phases.seconds, graph.model.get_property("INFERENCE_NUM_THREADS")
    )


def build_phases(folder: Path) -> dict[str, float]:
    """Seconds of the phases before the first compilation.

    load: mapping the weights and checking their names. check: searching for values that are not finite.
    build: creating OpenVINO's graph, which shares the mapped memory.
    """
    from pochade.checkpoints.check import check_finite
    from pochade.engines.openvino_ops import Constants, build
    from pochade.weights import View

    phases = Phases()
    with phases("load"):
        network = load(folder)
    with phases("check"):
        check_finite(network.tensors.tensors, folder)
    with phases("build"):
        build(network.function, View(network.tensors.tensors, bind=Constants()), network.shapes)
    return phases.seconds
