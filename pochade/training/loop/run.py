"""The training loop that every model shares: optimizer, warm-up, averaged weights, exact resume.

Step i draws all its randomness from `(seed, i)`. So the order of the data is a function of the step alone,
and a run that was killed goes on as if nothing had happened.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np
import torch

from pochade.atomic import replacing, unwritable
from pochade.errors import InvalidRequest
from pochade.training.loop import log, run_record, state
from pochade.training.loop.optimizer import optimizer_of
from pochade.training.loop.parallel import Ranks, any_of, average, copy_first, join
from pochade.training.loop.plan import TrainingPlan, learning_rate
from pochade.training.loop.state import State
from pochade.training.parameters import Parameters

Loss = Callable[[Parameters, np.random.Generator], torch.Tensor]
"""`loss(parameters, rng)`: a scalar; all randomness comes from `rng`."""

Samples = Callable[[Parameters, int], object]
"""`samples(averaged, step)`: draws samples with the averaged weights, without changing them."""


@dataclass(frozen=True)
class ByStep:
    """A loss that changes during training: `at(step)` is the loss of a step."""

    at: Callable[[int], Loss]


@dataclass(frozen=True)
class TrainingProgress:
    """step of steps. The rest are means since the last report; loss and gradient_norm (before clipping) are
    nan if every step was skipped since. skipped: steps without a finite loss and gradient, in all."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    seconds_per_step: float
    gradient_norm: float = math.nan
    skipped: int = 0
    pictures_per_second: float | None = None


def train(
    loss: Loss | ByStep,
    parameters: Parameters,
    plan: TrainingPlan,
    folder: str | Path,
    *,
    minutes: float | None = None,
    samples: Samples | None = None,
    provenance: Mapping[str, str] | None = None,
) -> Iterator[TrainingProgress]:
    """Train `parameters` in place, yielding progress; resumes from `folder` if it holds a state.

    Writes `state.safetensors` (all that a step changes), `plan.json` and `log.jsonl`.

    minutes: after these, save and stop; at least one step is done. The next call goes on from there.
    provenance: what the run is started with, see `run_record.check`.
    samples: called every `plan.sample_every` steps and after the last one. If it fails, training goes on.

    Under torchrun the processes train together, and only the first one writes and yields.

    Raises InvalidRequest if the folder holds a run with another seed, other parameters or other things that
    belong to it, or if no step succeeds any more; InvalidCheckpoint if a file of the run is damaged;
    OutputError if the system refuses to write. What was saved last stays.
    """
    folder = Path(folder)
    deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
    ranks = join(_device(parameters))
    first = _open(parameters, plan, folder, ranks, provenance or {})
    recent: list[_Step] = []
    reported = False
    for step in _steps(loss, first, plan, ranks, deadline):
        if not ranks.leads:
            continue
        recent.append(step)
        done = step.state.counts.step
        progress = None
        if step.last or done % plan.log_every == 0:
            progress = _progress(recent, plan, ranks)
            log.append(folder, _entry(progress))
            recent.clear()
        if step.last or done % plan.save_every == 0:
            state.save(step.state, folder)
        if samples and plan.sample_every and (done % plan.sample_every == 0 or done == plan.steps):
            error = _try(samples, step.state)
            if error:
                log.append(folder, {"step": done, "samples_failed": error})
            if error and not reported:
                print(f"the samples at step {done} failed: {error}; training continues", file=sys.stderr)
                reported = True
        if progress:
            yield progress


def use_threads(count: int) -> None:
    """Set the number of processor threads of this process."""
    torch.set_num_threads(count)


@dataclass(frozen=True)
class _Step:
    """A finished step: the state after it, and its measurements. last: no other follows."""

    state: State
    loss: float
    gradient_norm: float
    sound: bool
    rate: float
    seconds: float
    last: bool


def _open(
    parameters: Parameters, plan: TrainingPlan, folder: Path, ranks: Ranks, provenance: Mapping[str, str]
) -> State:
    """The state to resume from, the same in every process."""
    for tensor in parameters.values():
        tensor.requires_grad_(True)
    now = state.begin(parameters, optimizer_of(parameters, plan))
    if ranks.leads:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(folder, error) from error
        state.sweep(folder)
        run_record.check(folder, provenance)
        now = state.restore(now, folder, plan.seed)
        log.cut(folder, now.counts.step)
        with replacing(folder / state.PLAN) as file:
            file.write(json.dumps(asdict(plan), indent=1).encode())
        if provenance:
            run_record.write(folder, provenance)
    copy_first(ranks, [*now.updates, *(tensor for part in now.parts.values() for tensor in part.values())])
    counts = torch.tensor(list(asdict(now.counts).values()), device=_device(parameters))
    copy_first(ranks, [counts])
    return replace(now, counts=state.Counts(*counts.tolist()))


def _steps(
    loss: Loss | ByStep, now: State, plan: TrainingPlan, ranks: Ranks, deadline: float
) -> Iterator[_Step]:
    """Step after step. The state's tensors are changed in place, in every process alike."""
    device = _device(now.parameters)
    for step in range(now.counts.step, plan.steps):
        since = time.monotonic()
        rate = learning_rate(plan, step, now.counts.began)
        for group in now.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        value = _gradients(
            loss.at(step) if isinstance(loss, ByStep) else loss, now.parameters, plan, step, ranks
        )
        # read together, since a GPU's queue must run dry for it
        value, *norms = torch.stack([value, *_clip(now.parameters, plan)]).tolist()
        sound = math.isfinite(value) and all(map(math.isfinite, norms))
        if sound:
            now.optimizer.step()
            _average(now, plan, step)
        now = replace(now, counts=now.counts.after(sound))
        if now.counts.in_a_row == plan.patience:
            raise InvalidRequest(
                f"no step succeeded since step {step + 1 - plan.patience}: the loss is {value:g} and the"
                f" gradient's norm {norms[0]:g}; lower the learning rate {plan.learning_rate:g}"
            )
        last = step + 1 == plan.steps
        if deadline < math.inf:
            last = any_of(ranks, last or time.monotonic() >= deadline, device)
        yield _Step(now, value, norms[0], sound, rate, time.monotonic() - since, last)
        if last:
            return


def _gradients(
    loss: Loss, parameters: Parameters, plan: TrainingPlan, step: int, ranks: Ranks
) -> torch.Tensor:
    """The mean loss over all calls in all processes; leaves the mean gradients in the parameters.

    Call c of a step draws from `(seed, step, c)`, the first one from `(seed, step)`. So it makes no
    difference to the result whether the calls are made one after another or in several processes.
    """
    for tensor in parameters.values():
        tensor.grad = None
    total = torch.zeros((), device=_device(parameters))
    for call in range(ranks.rank * plan.accumulation, (ranks.rank + 1) * plan.accumulation):
        rng = np.random.default_rng((plan.seed, step, call) if call else (plan.seed, step))
        value = loss(parameters, rng) / plan.accumulation
        value.backward()
        total += value.detach()
    if ranks.count > 1:
        # A parameter without a gradient stays as it is, unless another process has one for it.
        has = torch.tensor([float(tensor.grad is not None) for tensor in parameters.values()]).to(total)
        gradients = [
            torch.zeros_like(tensor) if tensor.grad is None else tensor.grad for tensor in parameters.values()
        ]
        average(ranks, [total, has, *gradients])
        for tensor, gradient, somewhere in zip(parameters.values(), gradients, has.tolist(), strict=True):
            tensor.grad = gradient if somewhere else None
    return total


def _clip(parameters: Parameters, plan: TrainingPlan) -> list[torch.Tensor]:
    """Clip the gradients; their norms before that, first the one of all that is not clipped apart."""
    groups: dict[str, list[torch.Tensor]] = {"": []}
    for name, tensor in parameters.items():
        prefix = next((prefix for prefix in plan.clip_apart if name.startswith(prefix)), "")
        groups.setdefault(prefix, []).append(tensor)
    device = _device(parameters)
    return [torch.nn.utils.clip_grad_norm_(group, plan.clip).to(device) for group in groups.values()]


@torch.no_grad()
def _average(now: State, plan: TrainingPlan, step: int) -> None:
    # A young run has little worth remembering, so the memory grows with its age.
    decay = min(plan.averaging, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(now.averaged.values()), list(now.parameters.values()), 1 - decay)


def _progress(recent: list[_Step], plan: TrainingPlan, ranks: Ranks) -> TrainingProgress:
    sound = [step for step in recent if step.sound]
    seconds = fmean(step.seconds for step in recent)
    pictures = None if plan.batch is None else plan.batch * plan.accumulation * ranks.count
    counts = recent[-1].state.counts
    return TrainingProgress(
        counts.step,
        plan.steps,
        fmean(step.loss for step in sound) if sound else math.nan,
        recent[-1].rate,
        seconds,
        fmean(step.gradient_norm for step in sound) if sound else math.nan,
        counts.skipped,
        None if pictures is None else pictures / seconds,
    )


def _entry(progress: TrainingProgress) -> dict[str, float | None]:
    """A line of the log, where JSON has no nan: null if there is no number, left out if none was wanted."""
    entry = {name: None if value != value else value for name, value in asdict(progress).items()}
    if progress.pictures_per_second is None:
        del entry["pictures_per_second"]
    return entry


@torch.no_grad()
def _try(samples: Samples, now: State) -> str | None:
    """Draw samples; returns the error, if any, because a failed picture must not end hours of training."""
    try:
        samples(dict(now.averaged), now.counts.step)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def _device(parameters: Parameters) -> torch.device:
    return next(iter(parameters.values())).device
