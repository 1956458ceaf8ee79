"""The training plan, and the learning rate that follows from it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from pochade.errors import InvalidRequest


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """How to train. Step counts are optimizer steps.

    matrix_rate: learning rate of the matrices if Muon trains them (`optimizer.Muon`); None: AdamW trains all.
    averaging: decay of the exponential moving average that is exported.
    slower: learning-rate factors by prefix of parameter names.
    clip_apart: prefixes of parameters whose gradients are clipped apart from the rest, each by itself.
    accumulation: calls of the loss in a step, each with its own randomness; with several processes, in each
        of them. The gradients are averaged.
    batch: pictures in one call of the loss, if the log is to tell pictures per second.
    patience: this many steps in a row without a finite loss and gradient end the training.
    cooldown: share of the steps, at the end, over which the rate falls in a line; before them it stays level
        (Hägele et al. 2024), so that a run may be prolonged from any step before. None: half a cosine.
    rewarmup: warm-up steps of a run resumed from portable files.
    sample_every: steps from one sample sheet to the next; 0 for none.
    """

    steps: int
    learning_rate: float
    matrix_rate: float | None = None
    warmup: int = 200
    final_rate: float = 0.02  # share of learning_rate at the last step
    cooldown: float | None = None
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0
    clip_apart: tuple[str, ...] = ()
    averaging: float = 0.999
    slower: Mapping[str, float] = field(default_factory=dict)
    accumulation: int = 1
    batch: int | None = None
    patience: int = 10
    rewarmup: int = 100
    seed: int = 0
    save_every: int = 500
    log_every: int = 50
    sample_every: int = 0

    def __post_init__(self) -> None:
        least = dict.fromkeys(("accumulation", "patience", "rewarmup", "save_every", "log_every"), 1)
        for name, value in {**least, "seed": 0, "sample_every": 0}.items():
            if getattr(self, name) < value:
                raise InvalidRequest(f"{name} is {getattr(self, name)}; it must be at least {value}")


def learning_rate(plan: TrainingPlan, step: int, began: int = 0) -> float:
    """Linear warm-up, then half a cosine down to `final_rate` (Loshchilov and Hutter 2017, equation 5), or a
    level stretch and a line (see `Plan.cooldown`).

    began: the step at which the optimizer began; it warms up once more if that was on the way.
    """
    again = min(1.0, (step - began + 1) / plan.rewarmup) if began else 1.0
    if step < plan.warmup:
        return again * plan.learning_rate * (step + 1) / plan.warmup
    if plan.cooldown is not None:
        height = min(1.0, (plan.steps - step) / max(1.0, plan.cooldown * plan.steps))
    else:
        progress = (step - plan.warmup) / max(1, plan.steps - plan.warmup)
        height = (1 + math.cos(math.pi * progress)) / 2
    return again * plan.learning_rate * (plan.final_rate + (1 - plan.final_rate) * height)
