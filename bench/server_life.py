"""Measure the memory and disk that a server's worker uses over many jobs, against budgets set beforehand.

    python bench/server_life.py [--precision int8] [--jobs 200] [--resident 6.44GB] [--disk 10GB]
                                [--cache FOLDER] [--quick]

SD 1.5's shapes with random weights, drawn by the code of a `pochade serve` worker in a separate process: jobs
of two guided steps in 12 sizes, with a prompt of one chunk or two, without or with one of three LoRAs, in one
fixed random order. It starts without cached graphs. Twenty times per second this process samples the memory
of the other one (its own pages, and those of mapped files, which the system could reclaim) and the size of
its cache. Graphs may take the resident budget minus --beside, which is for everything else: the libraries,
pages of files, and temporary memory of the compiler.

It reports the peak of each, how long the jobs took, and whether both budgets were always kept. --quick tests
the script itself with the starter, in three sizes and with small budgets.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from contenders.models import SHAPES, fit_grids, make_model
from measure.machine import describe_machine, versions
from measure.record import append
from pochade.checkpoints import safetensors
from pochade.checkpoints.read import read_checkpoint
from pochade.loading.memory_plan import format_bytes, parse_bytes
from pochade.loading.process_memory import held
from pochade.settings import cache_dir

RESULTS = Path(__file__).parent / "results" / "server_life.jsonl"
LOOK_S = 0.05
LORAS, RANK = 3, 16
SIZES = (
    *((512, 512), (512, 640), (640, 512), (512, 768), (768, 512), (576, 576)),
    *((448, 640), (640, 448), (384, 640), (640, 384), (640, 640), (448, 448)),
)
QUICK_SIZES = ((64, 64), (64, 128), (128, 64))
SHORT = "a red fox in the snow, photograph"
LONG = ", ".join([SHORT, *(f"detail number {i} of the wide winter landscape behind it" for i in range(12))])
"""More than 75 tokens, so two chunks."""


@dataclass(frozen=True)
class Job:
    """lora: a name, or "" for none."""

    width: int
    height: int
    chunks: int
    lora: str
    seed: int


@dataclass
class Most:
    """Peaks in bytes: the process's own memory, including pages of files, and the disk."""

    own: int = 0
    resident: int = 0
    disk: int = 0


def main() -> None:
    options = _options()
    if options.draw is not None:
        draw(options.draw)
        return
    shapes = SHAPES["starter" if options.quick else "sd15"]
    folder = options.cache / "server_life"
    model = make_model(shapes, options.cache)
    if options.precision == "int8" and not options.quick:
        fit_grids(model)
    names = [f"lora{i}" for i in range(LORAS)]
    for seed, name in enumerate(names):
        write_lora(folder / "loras" / f"{name}.safetensors", model, seed)
    shutil.rmtree(folder / "compiled", ignore_errors=True)
    resident, disk = parse_bytes(options.resident), parse_bytes(options.disk)
    settings = {
        "model": str(model),
        "loras": str(folder / "loras"),
        "precision": options.precision,
        "graph_budget": str(resident - parse_bytes(options.beside)),
        "jobs": [asdict(job) for job in _jobs(options, names)],
    }
    most, rows = _watched(settings, folder, disk)
    _say(most, rows, resident, disk)
    if options.quick:
        return
    entry = {
        "benchmark": "server_life",
        "precision": options.precision,
        "budgets": {"resident": resident, "disk": disk, "graphs": int(settings["graph_budget"])},
        "most": asdict(most),
        "jobs": rows,
        "machine": describe_machine(),
        "versions": versions(("numpy", "openvino")),
    }
    append(options.results, entry)


def draw(settings_file: Path) -> None:
    """Run in a separate process: draw the jobs, and print a line of JSON after each."""
    from pochade.jobs.catalogue import Folders
    from pochade.jobs.job_request import JobRequest
    from pochade.jobs.orders import TXT2IMG, Order
    from pochade.jobs.runner import JobRunner, StepDone

    settings = json.loads(settings_file.read_text())
    runner = JobRunner(
        Folders(model=settings["model"], loras=Path(settings["loras"])),
        graph_budget=settings["graph_budget"],
        device="cpu",
        engine="openvino",
        precision=settings["precision"],
    )
    for job in (Job(**each) for each in settings["jobs"]):
        prompt = (SHORT if job.chunks == 1 else LONG) + (f" <lora:{job.lora}:0.8>" if job.lora else "")
        request = JobRequest(
            prompt=prompt, steps=2, cfg_scale=7.0, seed=job.seed, width=job.width, height=job.height
        )
        order = Order(kind=TXT2IMG, model="", request=request, preview=False)
        began = time.monotonic()
        first = None
        for event in runner.draw(order, lambda number: b"", lambda: None):
            if first is None and isinstance(event, StepDone):
                first = time.monotonic() - began
        assert runner._loaded is not None
        pipeline = runner._loaded[1]
        report = {
            "first_step_s": first,
            "whole_s": time.monotonic() - began,
            "graphs_bytes": pipeline.networks.graphs.held_bytes,
        }
        print(json.dumps(report), flush=True)


# --- inside -----------------------------------------------------------------------------------------------


def _jobs(options: argparse.Namespace, loras: list[str]) -> Iterator[Job]:
    """Jobs with each size, number of chunks and LoRA about equally often; the same for the same number of
    jobs."""
    sizes = QUICK_SIZES if options.quick else SIZES[: options.sizes]
    choices = [(*size, chunks, lora) for size in sizes for chunks in (1, 2) for lora in ("", *loras)]
    order = random.Random(24)
    drawn: list[tuple[int, int, int, str]] = []
    while len(drawn) < options.jobs:
        drawn += order.sample(choices, len(choices))
    return (Job(*choice, seed) for seed, choice in enumerate(drawn[: options.jobs]))


def _watched(settings: dict[str, Any], folder: Path, disk: int) -> tuple[Most, list[dict[str, Any]]]:
    """The overall peaks, and for each job its settings, its report, and the peaks during it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.json").write_text(json.dumps(settings))
    compiled = folder / "compiled"
    command = [sys.executable, __file__, "--draw", str(folder / "settings.json")]
    environ = {**os.environ, "POCHADE_CACHE": str(compiled), "POCHADE_CACHE_BUDGET": str(disk)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environ)
    assert process.stdout is not None
    over, now = threading.Event(), Most()

    def look() -> None:
        while not over.wait(LOOK_S):
            found = held(process.pid)
            if found is not None:
                now.own = max(now.own, found.own)
                now.resident = max(now.resident, found.own + found.files)
            now.disk = max(now.disk, _bytes_in(compiled))

    watching = threading.Thread(target=look)
    watching.start()
    most, rows = Most(), list[dict[str, Any]]()
    try:
        for job, line in zip(settings["jobs"], process.stdout, strict=False):
            row = {**job, **json.loads(line), **asdict(now)}
            rows.append(row)
            for name in asdict(most):
                setattr(most, name, max(getattr(most, name), getattr(now, name)))
                setattr(now, name, 0)
            _say_job(len(rows), row)
    finally:
        over.set()
        watching.join()
        if process.poll() is None and len(rows) < len(settings["jobs"]):
            process.terminate()
    if process.wait() != 0 or len(rows) < len(settings["jobs"]):
        raise SystemExit(f"the worker ended with {process.returncode} after {len(rows)} jobs")
    return most, rows


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except OSError:  # it was removed at this moment
            continue
    return total


def _say_job(number: int, row: dict[str, Any]) -> None:
    what = f"{row['width']}x{row['height']}, {row['chunks']} chunks, {row['lora'] or 'no LoRA'}"
    held_now = f"graphs {format_bytes(row['graphs_bytes'])}, own {format_bytes(row['own'])}"
    print(
        f"{number}: {what}: first step {row['first_step_s']:.1f} s, all {row['whole_s']:.1f} s; {held_now},"
        f" with files {format_bytes(row['resident'])}, disk {format_bytes(row['disk'])}",
        flush=True,
    )


def _say(most: Most, rows: list[dict[str, Any]], resident: int, disk: int) -> None:
    firsts = sorted(row["first_step_s"] for row in rows)
    print(f"first step: {firsts[0]:.1f} to {firsts[-1]:.1f} s, median {median(firsts):.1f} s")
    for name, found, budget in (
        ("its own memory", most.own, resident),
        ("with pages of files", most.resident, resident),
        ("disk", most.disk, disk),
    ):
        verdict = "within" if found <= budget else "OVER"
        print(f"{name}: at the most {format_bytes(found)}, {verdict} {format_bytes(budget)}")


def write_lora(path: Path, model: Path, seed: int) -> None:
    """Random factors for every attention layer of the model's UNet; the last adapter also has the first
    convolution, so that it is merged into the weights and needs its own graphs."""
    numbers = np.random.default_rng(seed)
    tensors: dict[str, Any] = {}
    for name, weight in read_checkpoint(model).unet.tensors.items():
        if ".attn" not in name or weight.ndim != 2:
            continue
        layer = f"unet.{name.removesuffix('.weight')}"
        up, down = (weight.shape[0], RANK), (RANK, weight.shape[1])
        tensors[f"{layer}.lora_B.weight"] = np.float32(0.02) * numbers.standard_normal(up, np.float32)
        tensors[f"{layer}.lora_A.weight"] = np.float32(0.02) * numbers.standard_normal(down, np.float32)
    if seed == LORAS - 1:
        weight = read_checkpoint(model).unet.tensors["conv_in.weight"]
        outer, inner = (weight.shape[0], RANK, 1, 1), (RANK, *weight.shape[1:])
        tensors["unet.conv_in.lora_B.weight"] = np.float32(0.02) * numbers.standard_normal(outer, np.float32)
        tensors["unet.conv_in.lora_A.weight"] = np.float32(0.02) * numbers.standard_normal(inner, np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.write(path, tensors)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--jobs", type=int, default=None, help="default: 200, with --quick 12")
    parser.add_argument("--sizes", type=int, default=len(SIZES), help="so many of the 12")
    parser.add_argument("--resident", default=None, help="default: 6 GiB, with --quick 1.5GB")
    parser.add_argument("--beside", default=None, help="default: 1.5GB, with --quick 1.2GB")
    parser.add_argument("--disk", default=None, help="default: 10GB, with --quick 60MB")
    parser.add_argument("--cache", type=Path, default=cache_dir() / "bench")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--draw", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    usual = {"jobs": 200, "resident": 6 * 2**30, "beside": "1.5GB", "disk": "10GB"}
    small = {"jobs": 12, "resident": "1.5GB", "beside": "1.2GB", "disk": "60MB"}
    for name, value in (small if options.quick else usual).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


if __name__ == "__main__":
    main()
