"""The other software: diffusers itself, and OpenVINO from a trace of it."""

from pathlib import Path
from typing import Any

import numpy as np

from contenders.fixture import load_diffusers, read_case
from measure.worker import Contender, Phases


def diffusers(folder: Path, compiled: Path, precision: str) -> Contender:
    """UNet2DConditionModel in inference mode."""
    phases = Phases()
    with phases("import"):
        import torch
        from diffusers import UNet2DConditionModel  # noqa: F401
    with phases("load"):
        network = load_diffusers(folder, precision)
    inputs, _ = read_case(folder)
    tensors = [torch.from_numpy(array) for array in inputs.values()]
    x, timestep, context = tensors[0].to(network.dtype), tensors[1], tensors[2].to(network.dtype)
    x = x.to(memory_format=torch.channels_last)

    def evaluate() -> Any:
        with torch.inference_mode():
            return network(x, timestep, context, return_dict=False)[0].float().numpy()

    return Contender(evaluate, phases.seconds, threads=torch.get_num_threads())


def traced(folder: Path, compiled: Path, precision: str) -> Contender:
    """OpenVINO with the hints that the package gives it, and with its own cache of compiled models."""
    phases = Phases()
    with phases("import"):
        from pochade.engines.openvino_import import ov
    with phases("load"):
        core = ov.Core()
        core.set_property({"CACHE_DIR": str(compiled / "traced")})
        graph = core.read_model(folder / "traced" / "unet.xml")
    hints = {
        "INFERENCE_PRECISION_HINT": {"f32": ov.Type.f32, "bf16": ov.Type.bf16}[precision],
        "PERFORMANCE_HINT": "LATENCY",
    }
    with phases("compile"):
        model = core.compile_model(graph, "CPU", hints)
        request = model.create_infer_request()
    del graph
    inputs, _ = read_case(folder)

    def evaluate() -> Any:
        return np.array(request.infer(inputs, share_inputs=True)[0])

    return Contender(evaluate, phases.seconds, threads=model.get_property("INFERENCE_NUM_THREADS"))
