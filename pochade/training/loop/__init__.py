"""The training loop that all models share, with its states, logs and resuming."""

from pochade.training.loop.parallel import local_device
from pochade.training.loop.plan import TrainingPlan
from pochade.training.loop.run import ByStep, Loss, Samples, TrainingProgress, train, use_threads
from pochade.training.loop.stage import TrainingStage
from pochade.training.loop.state import State, averaged, write_portable

__all__ = [
    "ByStep",
    "Loss",
    "Samples",
    "State",
    "TrainingPlan",
    "TrainingProgress",
    "TrainingStage",
    "averaged",
    "local_device",
    "train",
    "use_threads",
    "write_portable",
]
