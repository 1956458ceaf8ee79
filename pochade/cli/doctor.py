"""`pochade doctor`: what this computer has, and which engine and precision are used, and why."""

import argparse
import os
import platform
from collections.abc import Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pochade
from pochade.cli.mcp import PACKAGES as MCP
from pochade.cli.server_options import NEEDED as SERVE
from pochade.cli.terminal import size_text
from pochade.errors import PochadeError
from pochade.machine import Processors, memory_bytes, processors

EXTRAS: Mapping[str, tuple[tuple[str, ...], str]] = MappingProxyType(
    {
        "torch": (("torch",), "GPUs and training"),
        "train": (("torch", "tokenizers", "resvg_py"), "pochade train"),
        "hub": (("huggingface_hub",), "pochade models pull"),
        "serve": (SERVE, "pochade serve"),
        "mcp": ((*SERVE, *MCP), "assistants, pochade mcp"),
        "c2pa": (("c2pa", "cryptography"), "signatures, --sign"),
        "notebook": (("IPython",), "drawing in notebooks"),
    }
)
"""Extra -> its modules and its purpose."""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "doctor",
        help="show which engine, device and precision are used on this computer, and why",
        description="Show processor, memory, extras and caches, and what `pochade draw` would use.",
    )
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, gpu, cuda or mps")
    parser.add_argument("--precision", default="auto", metavar="NAME", help="auto, f32, bf16, f16 or int8")
    parser.add_argument("--engine", default="auto", metavar="NAME", help="auto, openvino, torch or numpy")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the report; exit status 1 if no engine can draw."""
    from pochade.engines.attention_kernel import describe_kernel
    from pochade.engines.cpu_features import instructions
    from pochade.engines.openvino import device_features
    from pochade.loading.engine_choice import choose
    from pochade.settings import cache_dir, starter_folder

    features = device_features()
    _print_row("pochade", f"{pochade.__version__}, Python {platform.python_version()}, {platform.platform()}")
    _print_row("processor", f"{features.name}, {os.cpu_count()} threads")
    _print_row("instructions", ", ".join(instructions()) or "unknown")
    _print_row("threads", _threads(processors()))
    _print_row("computes in", ", ".join(features.precisions))
    _print_row("8 bits", _bytes(features))
    _print_row("attention", describe_kernel())
    _print_row("memory", _memory())
    _print_row("openvino", metadata.version("openvino"))
    for extra, (modules, use) in EXTRAS.items():
        _print_row(extra, _extra(extra, modules, use))
    cache = cache_dir()
    files = [path for path in cache.rglob("*") if path.is_file()] if cache.exists() else []
    size = size_text(sum(path.stat().st_size for path in files))
    _print_row("cache", f"{cache}: {len(files)} files, {size}")
    _print_row("starter", _starter(starter_folder()))
    try:
        choice = choose(options.device, options.precision, options.engine)
    except PochadeError as error:
        _print_row("would use", f"nothing: {error}")
        return 1
    _print_row("would use", f"{choice.engine} on {choice.device} in {choice.precision}")
    _print_row("because", choice.reason or "it was requested")
    return 0


def _print_row(what: str, text: str) -> None:
    print(f"{what:>12}  {text}")


def _threads(found: Processors) -> str:
    """Describe the default number of threads, and the reason."""
    allowed = f"{found.cores} cores with {found.allowed} threads may be used"
    if found.limited is None:
        return f"{allowed}; change it with --threads"
    return (
        f"{found.limited}: {allowed}, and a control group, such as a container's, allows {found.quota:g}"
        " of them; change it with --threads"
    )


def _bytes(features: Any) -> str:
    if features.sums_bytes_in_int32:
        return "--precision int8: the fastest, since this processor multiplies bytes"
    return (
        "--precision int8: faster than f32; weights take 7 bits, since this processor has no instructions"
        " for bytes"
    )


def _extra(extra: str, modules: tuple[str, ...], use: str) -> str:
    """Describe whether an extra is installed, which of its modules are missing, and how to install it."""
    missing = [module for module in modules if find_spec(module) is None]
    if not missing:
        return f"installed (for {use})"
    state = "not installed" if len(missing) == len(modules) else f"without {', '.join(missing)}"
    return f"{state} (only for {use}): pip install 'pochade[{extra}]'"


def _memory() -> str:
    memory = memory_bytes()
    if memory is None:
        return "unknown on this system"
    total, free = memory
    return f"{size_text(total)}, {size_text(free)} free"


def _starter(folder: Path) -> str:
    weights = list(folder.rglob("*.safetensors"))
    return f"{size_text(sum(path.stat().st_size for path in weights))} of weights" if weights else "missing"
