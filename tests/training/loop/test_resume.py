"""A training that is killed repeatedly ends with the same weights as an uninterrupted one.

Real processes get SIGKILL at random moments and while the state is being written.
"""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch

from pochade.checkpoints import safetensors
from pochade.training.loop import TrainingPlan, train
from pochade.training.losses import autoencoder, diffusion
from tests.training.tiny import CODER, TEXT, UNET, autoencoder_loss, diffusion_loss

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forked")

STEPS = 14
SETTINGS: dict[str, Any] = {"learning_rate": 1e-3, "warmup": 2, "save_every": 3, "log_every": 1}


def train_both(folder: Path, reports: Connection, death: str) -> None:
    """What the processes do: a tiny autoencoder, then a tiny text encoder and UNet."""
    torch.set_num_threads(1)
    die_at(death)
    plan = TrainingPlan(steps=STEPS, accumulation=2, **SETTINGS)
    for _ in train(autoencoder_loss(), autoencoder.initialize(CODER, seed=0), plan, folder / "autoencoder"):
        reports.send("step")
    plan = TrainingPlan(steps=STEPS, slower={"text_encoder.": 0.5}, **SETTINGS)
    for _ in train(diffusion_loss(), diffusion.initialize(TEXT, UNET, seed=0), plan, folder / "diffusion"):
        reports.send("step")
    reports.send("finished")


def die_at(moment: str) -> None:
    """Make this process kill itself while it writes its second state: 'half', 'unplaced' or 'placed'."""
    original, files = safetensors.replacing, count(1)

    class HalfWritten:
        def __init__(self, file: BinaryIO) -> None:
            self.file, self.writes = file, count()

        def write(self, data: Any) -> None:
            self.file.write(data)
            if next(self.writes) == 100:
                self.file.flush()
                die()

    @contextmanager
    def replacing(path: Path) -> Iterator[Any]:
        second = next(files) == 2
        with original(path) as file:
            yield HalfWritten(file) if second and moment == "half" else file
            if second and moment == "unplaced":
                file.flush()
                die()
        if second and moment == "placed":
            die()

    safetensors.replacing = replacing  # type: ignore[assignment]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def start(folder: Path, death: str = "") -> tuple[BaseProcess, Connection]:
    """A new process from a server that has torch in memory, but has computed nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.tiny", "torch._dynamo"])  # what optimizers import
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=train_both, args=(folder, theirs, death))
    process.start()
    theirs.close()
    return process, ours


def finish(folder: Path) -> None:
    process, reports = start(folder)
    said = ""
    while said != "finished":
        said = reports.recv()
    process.join()
    assert process.exitcode == 0


def kill_after(folder: Path, steps: int, seconds: float) -> None:
    process, reports = start(folder)
    for _ in range(steps):
        reports.recv()
    time.sleep(seconds)
    assert process.is_alive(), "killed too late; train for more steps"
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def test_a_killed_training_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    finish(tmp_path / "whole")

    killed = tmp_path / "killed"
    rng = np.random.default_rng()  # another moment each time that the test runs
    for death in ("half", "unplaced", "placed"):
        kill_after(killed, steps=int(rng.integers(1, 5)), seconds=rng.uniform(0, 0.03))
        process, _reports = start(killed, death)  # kept open, or the process would miss its reader
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert len(list(killed.glob("*/.*.part"))) == (0 if death == "placed" else 1)
    finish(killed)

    for part in ("autoencoder", "diffusion"):
        state = safetensors.read(killed / part / "state.safetensors")
        for name, expected in safetensors.read(tmp_path / "whole" / part / "state.safetensors").items():
            assert np.array_equal(state[name], expected), f"{part}: {name}"
        assert int(state["step"]) == STEPS
        log = (killed / part / "log.jsonl").read_text().splitlines()
        steps = [json.loads(line)["step"] for line in log]
        assert steps == list(range(1, STEPS + 1))
        assert sorted(os.listdir(killed / part)) == ["log.jsonl", "plan.json", "state.safetensors"]
