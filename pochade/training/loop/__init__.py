"""The training loop that every model shares, and all that lets it stop and go on."""

from pochade.training.loop.parallel import local_device
from pochade.training.loop.piece import Piece
from pochade.training.loop.plan import TrainingPlan
from pochade.training.loop.run import ByStep, Loss, Samples, TrainingProgress, train, use_threads
from pochade.training.loop.state import State, averaged, write_travel

__all__ = [
    "ByStep",
    "Loss",
    "Piece",
    "Samples",
    "State",
    "TrainingPlan",
    "TrainingProgress",
    "averaged",
    "local_device",
    "train",
    "use_threads",
    "write_travel",
]
