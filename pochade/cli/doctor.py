"""`pochade doctor`: what this computer has, what would be used, and why."""

import argparse
import os
import platform
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pochade
from pochade.errors import PochadeError

OPTIONAL = {
    "torch": "GPUs and training",
    "tokenizers": "training",
    "resvg_py": "training",
    "huggingface_hub": "pochade models pull",
}


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "doctor",
        help="show what would be used on this computer, and why",
        description="Shows processor, memory, engines, caches, and what `pochade draw` would use.",
    )
    parser.add_argument("--device", default="auto", help="default: %(default)s")
    parser.add_argument("--precision", default="auto", help="default: %(default)s")
    parser.add_argument("--engine", default="auto", help="default: %(default)s")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the report; exit status 1 if nothing could draw."""
    from pochade.engines.openvino import processor_features
    from pochade.pipeline.load import starter_folder
    from pochade.pipeline.loading.choice import choose
    from pochade.settings import cache_dir

    features = processor_features()
    _say("pochade", f"{pochade.__version__}, Python {platform.python_version()}, {platform.platform()}")
    _say("processor", f"{features.name}, {os.cpu_count()} threads")
    _say("computes in", ", ".join(features.precisions))
    _say("8 bits", _bytes(features))
    _say("memory", _memory())
    _say("openvino", metadata.version("openvino"))
    for package, use in OPTIONAL.items():
        _say(package, "installed" if find_spec(package) else f"not installed (only for {use})")
    cache = cache_dir()
    files = [path for path in cache.rglob("*") if path.is_file()] if cache.exists() else []
    _say("cache", f"{cache}: {len(files)} files, {_size(sum(path.stat().st_size for path in files))}")
    _say("starter", _starter(starter_folder()))
    try:
        choice = choose(options.device, options.precision, options.engine)
    except PochadeError as error:
        _say("would use", f"nothing: {error}")
        return 1
    _say("would use", f"{choice.engine} on {choice.device} in {choice.precision}")
    _say("because", choice.reason or "it was asked for")
    return 0


def _say(what: str, text: str) -> None:
    print(f"{what:>12}  {text}")


def _bytes(features: Any) -> str:
    if features.sums_bytes_widely:
        return "--precision int8: the processor multiplies bytes, the fastest that it does"
    return "--precision int8: faster than f32, with weights in 7 bits, for want of instructions for bytes"


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _memory() -> str:
    """Total and free memory, where the system tells."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        total, free = (os.sysconf(name) * page for name in ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return "unknown on this system"
    return f"{_size(total)}, {_size(free)} free"


def _starter(folder: Path) -> str:
    weights = list(folder.rglob("*.safetensors"))
    return f"{_size(sum(path.stat().st_size for path in weights))} of weights" if weights else "missing"
