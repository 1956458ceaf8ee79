"""Several processes that train one model together, as `torchrun` starts them.

Each holds the whole model and draws its own pictures; their gradients are averaged before every step, so all
of them stay equal (synchronous data parallelism, Goyal et al. 2017, section 2.3).
"""

import atexit
import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as distributed

from pochade.errors import InvalidRequest

BACKENDS = {"cpu": "gloo", "cuda": "nccl"}


@dataclass(frozen=True)
class Ranks:
    """This process among all: `rank` of 0 .. count - 1. Rank 0 writes and reports."""

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0


def local_device(device: str) -> str:
    """The device of this process: under torchrun "cuda" becomes "cuda:<LOCAL_RANK>", the rest stays."""
    local = os.environ.get("LOCAL_RANK")
    return f"cuda:{local}" if device == "cuda" and local is not None else device


def join(device: torch.device) -> Ranks:
    """Join the process group of torchrun; without torchrun, a group of one.

    The group lasts until the process ends, since torch cannot leave and join again.

    Raises InvalidRequest for a device that torch.distributed does not support.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Ranks()
    if device.type not in BACKENDS:
        raise InvalidRequest(
            f"device '{device}' cannot train in {count} processes; one of: {', '.join(BACKENDS)}"
        )
    if not distributed.is_initialized():
        own = device if device.type == "cuda" else None
        distributed.init_process_group(BACKENDS[device.type], device_id=own)
        atexit.register(distributed.destroy_process_group)
    return Ranks(distributed.get_rank(), distributed.get_world_size())


@torch.no_grad()
def average(ranks: Ranks, tensors: Sequence[torch.Tensor]) -> None:
    """Replace the tensors, alike in dtype and device, by their means over all processes."""
    if ranks.count > 1:
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        _spread(flat / ranks.count, tensors)


@torch.no_grad()
def copy_first(ranks: Ranks, tensors: Sequence[torch.Tensor]) -> None:
    """Replace the tensors, alike in dtype and device, by those of rank 0."""
    if ranks.count > 1:
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.broadcast(flat, src=0)
        _spread(flat, tensors)


def any_of(ranks: Ranks, here: bool, device: torch.device) -> bool:
    """Whether the condition holds in any process; all processes get the same answer."""
    flag = torch.tensor([float(here)], device=device)
    average(ranks, [flag])
    return bool(flag.item() > 0)


def _spread(flat: torch.Tensor, tensors: Sequence[torch.Tensor]) -> None:
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view(tensor.shape))
