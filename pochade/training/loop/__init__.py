"""The training loop that every model shares, and all that lets it stop and go on."""

from pochade.training.loop.loop import ByStep, Loss, Progress, Samples, train, use_threads
from pochade.training.loop.parallel import local_device
from pochade.training.loop.piece import Piece
from pochade.training.loop.plan import Plan
from pochade.training.loop.state import State, averaged, write_travel

__all__ = [
    "ByStep",
    "Loss",
    "Piece",
    "Plan",
    "Progress",
    "Samples",
    "State",
    "averaged",
    "local_device",
    "train",
    "use_threads",
    "write_travel",
]
