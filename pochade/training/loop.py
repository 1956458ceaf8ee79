"""The training loop that every model shares: AdamW, warm-up, averaged weights, exact resume.

Step i draws all its randomness from `(seed, i)`. So the order of the data is a function of the step alone,
and a run that was killed goes on as if nothing had happened.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from pochade.checkpoints import safetensors
from pochade.errors import InvalidRequest
from pochade.training.parameters import Parameters

Loss = Callable[[Parameters, np.random.Generator], torch.Tensor]
"""`loss(parameters, rng)`: a scalar; all randomness comes from `rng`."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How to train. Step counts are optimizer steps.

    slower: learning-rate factors by prefix of parameter names.
    averaging: decay of the exponential moving average that is exported.
    """

    steps: int
    learning_rate: float
    warmup: int = 200
    final_rate: float = 0.02  # share of learning_rate at the last step (cosine between)
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0
    averaging: float = 0.999
    slower: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    save_every: int = 500
    log_every: int = 50


@dataclass(frozen=True)
class Progress:
    """step of steps; loss is the mean since the last report; seconds_per_step likewise."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    seconds_per_step: float


@dataclass(frozen=True)
class State:
    """Everything that a step changes."""

    parameters: Parameters
    averaged: Parameters
    optimizer: torch.optim.AdamW
    step: int


def train(loss: Loss, parameters: Parameters, plan: Plan, folder: str | Path) -> Iterator[Progress]:
    """Train `parameters` in place, yielding progress; resumes from `folder` if it holds a state.

    Writes `state.safetensors` (parameters, averages, optimizer), `plan.json` and `log.jsonl`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.json").write_text(json.dumps(asdict(plan), indent=1))
    state = _restore(parameters, plan, folder)
    losses: list[float] = []
    since = time.monotonic()
    for step in range(state.step, plan.steps):
        rate = _learning_rate(plan, step)
        for group in state.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        value = loss(state.parameters, np.random.default_rng((plan.seed, step)))
        if not torch.isfinite(value):
            raise InvalidRequest(
                f"the loss is {value.item()} at step {step}; lower the learning rate {rate:g}"
            )
        state.optimizer.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(list(parameters.values()), plan.clip)
        state.optimizer.step()
        _average(state, plan, step)
        losses.append(value.item())
        done = step + 1
        if done % plan.log_every == 0 or done == plan.steps:
            now = time.monotonic()
            progress = Progress(
                done, plan.steps, sum(losses) / len(losses), rate, (now - since) / len(losses)
            )
            with open(folder / "log.jsonl", "a") as log:
                log.write(json.dumps(asdict(progress)) + "\n")
            losses.clear()
            since = now
            yield progress
        if done % plan.save_every == 0 or done == plan.steps:
            _save(state, done, folder)


def use_threads(count: int) -> None:
    """Compute with so many processor threads, in this whole process."""
    torch.set_num_threads(count)


def averaged(folder: str | Path) -> Parameters:
    """The averaged weights of a run, f32."""
    tensors = safetensors.read(Path(folder, "state.safetensors"))
    prefix = "averaged."
    return {
        name.removeprefix(prefix): torch.from_numpy(np.asarray(array))
        for name, array in tensors.items()
        if name.startswith(prefix)
    }


def _learning_rate(plan: Plan, step: int) -> float:
    """Linear warm-up, then half a cosine down to `final_rate` (Loshchilov and Hutter 2017, equation 5)."""
    if step < plan.warmup:
        return plan.learning_rate * (step + 1) / plan.warmup
    progress = (step - plan.warmup) / max(1, plan.steps - plan.warmup)
    cosine = (1 + math.cos(math.pi * progress)) / 2
    return plan.learning_rate * (plan.final_rate + (1 - plan.final_rate) * cosine)


@torch.no_grad()
def _average(state: State, plan: Plan, step: int) -> None:
    # A young run has little worth remembering, so the memory grows with its age.
    decay = min(plan.averaging, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(state.averaged.values()), list(state.parameters.values()), 1 - decay)


def _optimizer(parameters: Parameters, plan: Plan) -> torch.optim.AdamW:
    """Norms, biases and embeddings are not decayed."""
    groups: dict[tuple[float, float], list[torch.Tensor]] = {}
    for name, tensor in parameters.items():
        decay = plan.weight_decay if tensor.ndim > 1 and "embedding.weight" not in name else 0.0
        factor = next((f for prefix, f in plan.slower.items() if name.startswith(prefix)), 1.0)
        groups.setdefault((decay, factor), []).append(tensor)
    return torch.optim.AdamW(
        [
            {"params": tensors, "weight_decay": decay, "factor": factor}
            for (decay, factor), tensors in groups.items()
        ],
        lr=plan.learning_rate,
        betas=plan.betas,
        fused=True,
    )


def _restore(parameters: Parameters, plan: Plan, folder: Path) -> State:
    for tensor in parameters.values():
        tensor.requires_grad_(True)
    optimizer = _optimizer(parameters, plan)
    means = {name: tensor.detach().clone() for name, tensor in parameters.items()}
    path = folder / "state.safetensors"
    if not path.exists():
        return State(parameters, means, optimizer, 0)
    stored = safetensors.read(path)
    step = int(stored["step"])
    with torch.no_grad():
        for name, tensor in parameters.items():
            tensor.copy_(torch.from_numpy(stored["parameters." + name]))
            means[name].copy_(torch.from_numpy(stored["averaged." + name]))
            optimizer.state[tensor] = {
                "step": torch.tensor(float(step)),
                "exp_avg": torch.from_numpy(stored["first." + name]).to(tensor.device, copy=True),
                "exp_avg_sq": torch.from_numpy(stored["second." + name]).to(tensor.device, copy=True),
            }
    return State(parameters, means, optimizer, step)


def _save(state: State, step: int, folder: Path) -> None:
    tensors = {"step": np.array(step, np.int64)}
    for name, tensor in state.parameters.items():
        moments = state.optimizer.state[tensor]
        for part, value in (
            ("parameters", tensor),
            ("averaged", state.averaged[name]),
            ("first", moments["exp_avg"]),
            ("second", moments["exp_avg_sq"]),
        ):
            tensors[f"{part}.{name}"] = value.detach().cpu().contiguous().numpy()
    safetensors.write(folder / "state.safetensors", tensors)
