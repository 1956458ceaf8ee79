"""One part of a training, ready to go."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pochade.training.loop.plan import TrainingPlan
from pochade.training.loop.run import ByStep, Loss, Samples, TrainingProgress, train
from pochade.training.parameters import Parameters


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What the loop needs, and the folder of its states. belongs: to the run, see `belonging.check`."""

    loss: Loss | ByStep
    parameters: Parameters
    plan: TrainingPlan
    folder: Path
    samples: Samples | None = None
    belongs: Mapping[str, str] = field(default_factory=dict)

    def train(
        self,
        steps: int,
        *,
        minutes: float | None = None,
        accumulation: int = 1,
        sample_every: int = 0,
    ) -> Iterator[TrainingProgress]:
        """See `loop.train` and `plan.Plan`."""
        plan = replace(self.plan, steps=steps, accumulation=accumulation, sample_every=sample_every)
        return train(
            self.loss,
            self.parameters,
            plan,
            self.folder,
            minutes=minutes,
            samples=self.samples,
            belongs=self.belongs,
        )
