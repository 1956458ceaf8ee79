"""Data-parallel training: two processes are equivalent to one with two accumulation steps.

The fast test starts the processes with torchrun's environment variables; the slow one uses torchrun.
"""

import json
import multiprocessing
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pochade.checkpoints import safetensors
from pochade.errors import InvalidRequest
from pochade.training.loop import TrainingPlan, parallel, train
from pochade.training.loop.parallel import join, local_device
from pochade.training.losses import diffusion
from tests.training.tiny import TEXT, UNET, diffusion_loss

ROOT = Path(__file__).parents[3]
STEPS = 5


def run(folder: Path, accumulation: int, minutes: float | None = None) -> list[int]:
    """Train the tiny diffusion model; the steps that this process reports."""
    torch.set_num_threads(1)
    plan = TrainingPlan(
        steps=STEPS,
        learning_rate=1e-3,
        warmup=2,
        save_every=2,
        log_every=1,
        batch=8,
        accumulation=accumulation,
    )
    # Only the first process begins with the right weights: the others have to be given them.
    parameters = diffusion.initialize(TEXT, UNET, seed=int(os.environ.get("RANK", "0")))
    return [p.step for p in train(diffusion_loss(), parameters, plan, folder, minutes=minutes)]


def one_of_two(rank: int, port: int, folder: Path) -> None:
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE="2",
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    # Pieces: each process has its own clock and its own folder, and still they stop and go on together.
    own = folder if rank == 0 else folder / "of another machine"
    steps = [run(own, 1, minutes=0.0) for _ in range(2)] + [run(own, 1)]
    assert steps == ([[1], [2], [3, 4, 5]] if rank == 0 else [[], [], []])
    assert own.exists() == (rank == 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forked")
def test_two_processes_are_as_two_calls(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.tiny", "torch._dynamo"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [context.Process(target=one_of_two, args=(rank, port, tmp_path / "two")) for rank in range(2)]
    for process in processes:
        process.start()
    try:
        run(tmp_path / "one", accumulation=2)
        for process in processes:
            process.join(timeout=120)
            assert process.exitcode == 0
    finally:
        for process in processes:
            process.kill()
    compare(tmp_path)


@pytest.mark.slow  # three processes that import torch
def test_torchrun(tmp_path: Path) -> None:
    command = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    module = ["--module", "tests.training.loop.test_loop_parallel", str(tmp_path / "two")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *command, *module], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(list(range(1, STEPS + 1)))]
    run(tmp_path / "one", accumulation=2)
    compare(tmp_path)


def compare(folder: Path) -> None:
    one, two = (safetensors.read(folder / name / "state.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, array in one.items():
        assert np.allclose(two[name], array, rtol=0, atol=1e-6), name
    logs = [(folder / name / "log.jsonl").read_text().splitlines() for name in ("one", "two")]
    for line, other in zip(*logs, strict=True):
        mine, theirs = json.loads(line), json.loads(other)
        assert theirs["step"] == mine["step"]
        assert theirs["loss"] == pytest.approx(mine["loss"], abs=1e-6)
        assert theirs["gradient_norm"] == pytest.approx(mine["gradient_norm"], abs=1e-5)
        assert theirs["pictures_per_second"] == pytest.approx(16 / theirs["seconds_per_step"])


def test_a_process_takes_the_device_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert local_device("cuda") == "cuda"
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert [local_device(name) for name in ("cuda", "cuda:1", "cpu")] == ["cuda:3", "cuda:1", "cpu"]


def test_processes_that_cannot_talk_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert join(torch.device("mps")) == parallel.Ranks(0, 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InvalidRequest, match="device 'mps' cannot train in 2 processes; one of: cpu, cuda"):
        join(torch.device("mps"))


if __name__ == "__main__":
    steps = run(Path(sys.argv[1]), accumulation=1)
    if steps:
        print(steps)
