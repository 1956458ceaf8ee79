"""Options and progress bar shared by the subcommands of `pochade train`."""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pochade.errors import InvalidRequest, MissingDependency, expect
from pochade.machine import MAX_THREADS

if TYPE_CHECKING:
    from pochade.training.loop import TrainingProgress


def add_run_folders(parser: argparse.ArgumentParser, corpus: str = "a training set") -> None:
    """Add the training set and the run's folder. corpus: the help text of the first."""
    parser.add_argument("corpus", type=Path, help=corpus)
    parser.add_argument("folder", type=Path, help="folder for the run's states and logs")


def add_run_arguments(parser: argparse.ArgumentParser, corpus: str = "a training set") -> None:
    """Like `add_run_folders`, with --device."""
    add_run_folders(parser, corpus)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps (default: %(default)s)")


def add_loop_options(parser: argparse.ArgumentParser, steps: int, batch: int | None = None) -> None:
    """Add steps and batch size. batch: None leaves it to the stage of the starter."""
    parser.add_argument("--steps", type=int, default=steps, help="default: %(default)s")
    default = "that of the starter's training" if batch is None else "%(default)s"
    parser.add_argument("--batch", type=int, default=batch, help=f"pictures at a time (default: {default})")
    parser.add_argument(
        "--accumulation", type=int, default=1, help="batches in one step (default: %(default)s)"
    )
    parser.add_argument(
        "--minutes", type=float, help="save and stop after this time; run the command again to resume"
    )
    parser.add_argument("--threads", type=int, help="number of CPU threads (default: all)")


def prepare(options: argparse.Namespace) -> None:
    require_torch()
    from pochade.training.loop import use_threads

    for name in ("steps", "batch", "accumulation"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise InvalidRequest(f"--{name} is {value}; it must be at least 1")
    for name in ("minutes", "rate"):
        value = getattr(options, name, None)
        if value is not None and not 0 < value < math.inf:
            raise InvalidRequest(f"--{name} is {value:g}; it must be a number above 0")
    if options.threads is not None:
        expect("--threads", options.threads, 1, MAX_THREADS)
        use_threads(options.threads)


def show(progresses: "Iterator[TrainingProgress]", steps: int) -> int:
    """Show a bar while training; returns the number of finished steps."""
    from tqdm import tqdm

    done = 0
    with tqdm(total=steps, unit="step") as bar:
        for progress in progresses:
            done = progress.step
            bar.update(done - bar.n)
            bar.set_postfix(loss=f"{progress.loss:.4f}")
    if 0 < done < steps:
        print(f"stopped after step {done} of {steps}; run the command again to resume")
    return done or steps


def require_torch() -> None:
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise MissingDependency("training needs torch: pip install 'pochade[train]'")
