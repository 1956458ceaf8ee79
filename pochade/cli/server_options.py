"""Options shared by the commands that run a job queue."""

import argparse
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pochade.cli.draw_options import add_mark_options, signer_of
from pochade.cli.model_options import add_fold_option, add_models_option, add_threads_option
from pochade.cli.pull import offer_missing
from pochade.errors import InvalidRequest, MissingDependency, expect
from pochade.machine import MAX_THREADS

if TYPE_CHECKING:
    from pochade.server.config import Options

NEEDED = ("fastapi", "uvicorn", "sqlalchemy", "multipart")
LIMITS = {
    "body_bytes": "size of a request, in bytes",
    "pixels": "pixels of a picture that is drawn (width times height)",
    "picture_pixels": "pixels of a picture that is sent or enlarged (width times height)",
    "side": "width and height of a picture, in pixels",
    "steps": "steps of a picture",
    "batch_size": "pictures drawn at the same time",
    "pictures": "pictures of one job",
    "queue": "jobs of all users together that are waiting or running",
    "own_queue": "jobs of one user that are waiting or running",
    "prompt_characters": "characters of a prompt",
    "loras": "LoRAs in one prompt",
}
"""The help text of each field of `jobs.limits.Limits`, with its unit."""
FOLDERS = ("lora_dir", "embeddings_dir", "upscalers_dir", "wildcards")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add --model and --models."""
    parser.add_argument(
        "--model", metavar="PATH", help="the default model: a path, or a name (default: the starter)"
    )
    add_models_option(parser)


def add_drawing_options(parser: argparse.ArgumentParser) -> None:
    """Add the options about models and engine, files and limits."""
    what = parser.add_argument_group("models and engine")
    what.add_argument(
        "--lora-dir",
        type=Path,
        metavar="DIR",
        help="folder of LoRAs (default: those in the folders of models)",
    )
    add_fold_option(what)
    what.add_argument(
        "--embeddings-dir",
        type=Path,
        metavar="DIR",
        help="folder of embeddings (default: those in the folders of models)",
    )
    what.add_argument(
        "--upscalers-dir",
        type=Path,
        metavar="DIR",
        help="folder of ESRGAN models (default: those in the folders of models)",
    )
    what.add_argument("--styles", type=Path, metavar="FILE", help="a styles.csv")
    what.add_argument(
        "--wildcards",
        type=Path,
        metavar="DIR",
        help="folder of wildcard files, such as animal.txt for __animal__",
    )
    what.add_argument(
        "--device",
        action="append",
        metavar="NAME",
        help="auto, cpu, gpu, cuda, mps; may be repeated, for one worker each",
    )
    what.add_argument("--precision", default="auto", metavar="NAME", help="auto, f32, bf16, f16 or int8")
    what.add_argument("--engine", default="auto", metavar="NAME", help="auto, openvino, torch or numpy")
    what.add_argument(
        "--memory-budget", metavar="SIZE", help="such as 4GB, for each worker: as for 'pochade draw'"
    )
    add_threads_option(what)
    what.add_argument(
        "--graph-budget",
        metavar="SIZE",
        help="memory that each worker may use for compiled graphs (default: --memory-budget, else half of the"
        " memory)",
    )
    add_mark_options(parser)
    much = parser.add_argument_group(
        "limits", "The largest requests that are accepted, and how much is kept."
    )
    for name, default in _limits().items():
        much.add_argument(
            f"--max-{name.replace('_', '-')}",
            type=int,
            metavar="N",
            help=f"{LIMITS[name]} (default: {default})",
        )
    much.add_argument(
        "--budget",
        type=float,
        default=20.0,
        metavar="GB",
        help="disk space for pictures; the oldest are removed (default: 20)",
    )
    much.add_argument(
        "--stall-minutes",
        type=float,
        default=30.0,
        metavar="N",
        help="stop a worker that reports no progress for N minutes (default: 30; 0: never)",
    )


def check_packages(needed: Iterable[str], extra: str) -> None:
    """Raise MissingDependency if packages are not installed."""
    import importlib.util

    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependency(
            f"more packages are needed ({', '.join(missing)}): pip install 'pochade[{extra}]'"
        )


def options_of(options: argparse.Namespace, data: Path, **more: Any) -> "Options":
    """Return the server's options. data: folder for jobs and pictures. more: fields of one command only.

    Raises InvalidRequest for invalid or contradictory options.
    """
    if not 0.001 <= options.budget <= 1e6:
        raise InvalidRequest(
            f"--budget is {options.budget:g}; it must lie between 0.001 and 1000000 (gigabytes)"
        )
    if options.stall_minutes != 0 and not 1 <= options.stall_minutes <= 1e5:
        raise InvalidRequest(
            f"--stall-minutes is {options.stall_minutes:g}; it must lie between 1 and 100000, or be 0 (never)"
        )
    from pochade.jobs.catalogue import Folders
    from pochade.jobs.limits import Limits
    from pochade.loading.memory_plan import parse_bytes
    from pochade.server.config import Options
    from pochade.settings import contents_file, model_roots, signing_file

    offer_missing(options)
    signer_of(options)  # raises now if signing is not possible, and creates the key

    for name in FOLDERS:
        folder = getattr(options, name)
        if folder is not None and not folder.is_dir():
            raise InvalidRequest(f"--{name.replace('_', '-')} '{folder}' is not a folder")
    given = {name: getattr(options, f"max_{name}") for name in _limits()}
    for name, value in given.items():
        if value is not None and value < 1:
            raise InvalidRequest(f"--max-{name.replace('_', '-')} is {value}; it must be at least 1")
    return Options(
        data=data.expanduser().absolute(),
        folders=Folders(
            model=options.model,
            roots=model_roots(options.models),
            memory=contents_file(),
            loras=options.lora_dir,
            embeddings=options.embeddings_dir,
            upscalers=options.upscalers_dir,
            styles=options.styles,
            wildcards=options.wildcards,
        ),
        devices=tuple(options.device or ("auto",)),
        precision=options.precision,
        engine=options.engine,
        memory_budget="" if options.memory_budget is None else str(parse_bytes(options.memory_budget)),
        threads=_threads(options),
        graph_budget=(
            "" if options.graph_budget is None else str(parse_bytes(options.graph_budget, "graph budget"))
        ),
        fold_adapters=options.fold_loras,
        marks=not options.no_mark,
        sign=signing_file() if options.sign else None,
        limits=Limits(**{name: value for name, value in given.items() if value is not None}),
        budget_bytes=int(options.budget * 1e9),
        stall_s=60 * options.stall_minutes,
        **more,
    )


def _threads(options: argparse.Namespace) -> int | None:
    """Return --threads. Raises InvalidRequest if the workers would refuse it."""
    threads: int | None = options.threads
    if threads is None:
        return None
    expect("--threads", threads, 1, MAX_THREADS)
    if options.engine == "numpy":
        raise InvalidRequest(
            f"--threads is {threads}, but the numpy engine cannot limit its threads; omit it, or use the"
            " 'openvino' or 'torch' engine"
        )
    others = [device for device in options.device or () if device not in ("auto", "cpu")]
    if others:
        raise InvalidRequest(
            f"--threads applies only to the CPU and cannot be combined with --device {others[0]}; omit one of"
            " them"
        )
    return threads


def _limits() -> dict[str, int]:
    """Return the adjustable limits with their defaults."""
    from pochade.jobs.limits import Limits

    return asdict(Limits())
