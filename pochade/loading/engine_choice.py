"""Chooses engine, device and precision."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from pochade.engines.engine import Engine
from pochade.errors import InvalidRequest, MissingDependency, expect
from pochade.loading.memory_plan import budget_from
from pochade.machine import MAX_THREADS, processors

DEVICES = ("auto", "cpu", "gpu", "cuda", "mps")
PRECISIONS = ("auto", "f32", "bf16", "f16", "int8")
ENGINES = ("auto", "openvino", "torch", "numpy")
RUNS_ON: Mapping[str, tuple[str, ...]] = {
    "openvino": ("cpu", "gpu"),
    "torch": ("cpu", "cuda", "mps"),
    "numpy": ("cpu",),
}


@dataclass(frozen=True, kw_only=True)
class EngineChoice:
    """The chosen engine, device and precision, none of them 'auto', and the reason."""

    engine: str
    device: str
    precision: str
    reason: str


def choose(device: str = "auto", precision: str = "auto", engine: str = "auto") -> EngineChoice:
    """Resolve 'auto' in device, precision and engine.

    OpenVINO is the engine for CPUs and Intel GPUs, torch for CUDA (which includes ROCm) and MPS. 'auto'
    precision is bf16 if the processor supports it natively, else f32; f16 on GPUs. 'int8' means UNet and
    decoder in 8 bits and everything else as with 'auto'.
    Raises InvalidRequest for an unknown name or an unsupported combination.
    """
    _known("engine", engine, ENGINES)
    _known("precision", precision, PRECISIONS)
    if device.partition(":")[0] not in DEVICES:
        _known("device", device, DEVICES)
    reasons = []
    if device == "auto":
        device, why = _find_device(engine)
        reasons.append(why)
    if engine == "auto":
        engine = "openvino" if device in ("cpu", "gpu") else "torch"
        reasons.append(f"{engine} is the engine for {device}")
    if engine == "torch" and find_spec("torch") is None:
        raise MissingDependency(
            f"device '{device}' needs torch, which the base install leaves out: pip install 'pochade[torch]'"
        )
    kind = device.partition(":")[0]
    if kind not in RUNS_ON[engine]:
        raise InvalidRequest(
            f"engine '{engine}' does not run on '{device}'; it runs on: {', '.join(RUNS_ON[engine])}"
        )
    if precision == "auto":
        precision, why = _find_precision(engine, device)
        reasons.append(why)
    if precision == "int8" and (engine, device) != ("openvino", "cpu"):
        raise InvalidRequest(
            f"8-bit products are OpenVINO's on a processor, not those of '{engine}' on '{device}'; leave out"
            " --precision int8 here"
        )
    if engine == "numpy" and precision != "f32":
        raise InvalidRequest(f"the numpy engine computes in f32 only, not in {precision}")
    return EngineChoice(engine=engine, device=device, precision=precision, reason="; ".join(reasons))


def make_engine(
    choice: EngineChoice, *, compiled: bool = False, low_memory: bool = False, threads: int | None = None
) -> Engine:
    """Create the engine. torch or OpenVINO is imported here.

    compiled: use `torch.compile`. Raises InvalidRequest for engines other than torch.
    low_memory: write each graph to disk before it is used, so that its weights are not held twice.
    threads: CPU threads; None: the engine's default, or as many as a container's CPU quota allows.
    $POCHADE_CACHE_BUDGET limits the disk cache of graphs ("10GB").
    """
    threads = resolve_threads(choice, threads)
    if choice.engine == "torch":
        from pochade.engines.torch import TorchEngine

        return TorchEngine(choice.device, choice.precision, compiled=compiled, threads=threads)
    if compiled:
        raise InvalidRequest(f"torch.compile needs engine 'torch'; this would run on '{choice.engine}'")
    if choice.engine == "numpy":
        from pochade.engines.numpy import NumpyEngine

        return NumpyEngine(choice.device, choice.precision)
    from pochade.engines.openvino import OpenVinoEngine, device_features
    from pochade.settings import CACHE_BUDGET_BYTES, cache_dir

    precision = choice.precision
    if precision == "int8":  # between the products, which `loading.int8_networks` converts to 8 bits
        precision = device_features(choice.device).best_precision
    name = "POCHADE_CACHE_BUDGET"
    budget = budget_from(os.environ, name) if os.environ.get(name) else None
    return OpenVinoEngine(
        choice.device,
        precision,
        cache_dir=cache_dir() / "compiled",
        cache_budget_bytes=CACHE_BUDGET_BYTES if budget is None else budget,
        keep_later=not low_memory,
        threads=threads,
    )


def resolve_threads(choice: EngineChoice, threads: int | None) -> int | None:
    """Return the number of threads; None means the engine's default.

    Raises InvalidRequest for an invalid number, and if the engine or device does not support it.
    """
    if threads is None:
        return processors().limited if choice.device == "cpu" else None
    if not isinstance(threads, int) or isinstance(threads, bool):
        raise InvalidRequest(f"threads is {threads!r}; it must be a whole number")
    expect("threads", threads, 1, MAX_THREADS)
    if choice.device != "cpu":
        raise InvalidRequest(
            f"threads applies only to the CPU, but this would run on '{choice.device}'; omit it, or use"
            " device 'cpu'"
        )
    if choice.engine == "numpy":
        raise InvalidRequest(
            f"threads is {threads}, but the numpy engine cannot limit its threads; omit it, or use the"
            " 'openvino' or 'torch' engine"
        )
    return threads


def _find_device(engine: str) -> tuple[str, str]:
    """Find a device. CUDA and Metal are only checked if torch is installed, since that requires its
    import."""
    if find_spec("torch") is not None and (engine == "torch" or (engine == "auto" and _may_have_gpu())):
        from pochade.engines.torch import best_device

        found = best_device()
        if found != "cpu":
            return found, f"torch sees a {found} device"
    return "cpu", "no device was asked for and torch sees none"


def _may_have_gpu() -> bool:
    """Whether this computer may have a device that torch could use, without importing torch (seconds)."""
    import platform
    from pathlib import Path

    apple = platform.system() == "Darwin" and platform.machine() == "arm64"
    return apple or any(Path(path).exists() for path in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg"))


def _find_precision(engine: str, device: str) -> tuple[str, str]:
    if engine == "numpy":
        return "f32", "numpy computes in f32"
    if device in ("cpu", "gpu"):
        from pochade.engines.openvino import device_features

        best = device_features(device).best_precision
        return best, f"{best} is the fastest that {device} computes in natively"
    return "f16", f"f16 is the fast precision of {device}"


def _known(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InvalidRequest(f"{what} '{value}' is unknown; one of: {', '.join(known)}")
