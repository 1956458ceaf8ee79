"""One stage of a training run: loss, parameters, plan and folder."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pochade.training.loop.plan import TrainingPlan
from pochade.training.loop.run import ByStep, Loss, Samples, TrainingProgress, train
from pochade.training.parameters import Parameters


@dataclass(frozen=True, kw_only=True)
class TrainingStage:
    """The arguments of `loop.train`, bound together. provenance: see `run_record.check`."""

    loss: Loss | ByStep
    parameters: Parameters
    plan: TrainingPlan
    folder: Path
    samples: Samples | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)

    def train(
        self,
        steps: int,
        *,
        minutes: float | None = None,
        accumulation: int = 1,
        sample_every: int = 0,
    ) -> Iterator[TrainingProgress]:
        """See `loop.train` and `plan.TrainingPlan`."""
        plan = replace(self.plan, steps=steps, accumulation=accumulation, sample_every=sample_every)
        return train(
            self.loss,
            self.parameters,
            plan,
            self.folder,
            minutes=minutes,
            samples=self.samples,
            provenance=self.provenance,
        )
