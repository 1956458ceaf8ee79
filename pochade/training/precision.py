"""The precision of products in training: bf16 where the device supports it, else f32."""

from contextlib import AbstractContextManager, nullcontext

import torch

from pochade.engines.cpu_features import instructions

BF16 = {"AVX-512 BF16", "AMX BF16", "BF16"}
"""Instructions that multiply bf16, by their names in `engines.cpu_features`."""


def has_native_bf16(kind: str) -> bool:
    """Whether a kind of device ('cpu', 'cuda', 'mps') multiplies bf16 without emulating it.

    oneDNN, which torch uses, supports bf16 on all processors with AVX-512, and emulates it on those without
    bf16 instructions: there a step of the autoencoder took 2.3 times as long as in f32.
    """
    return kind != "cpu" or not BF16.isdisjoint(instructions())


def mixed_precision(device: str) -> AbstractContextManager[None]:
    """Products in bf16, everything else in f32, as `torch.autocast` divides them.

    A processor without bf16 instructions would emulate them, several times slower than f32: there all of it
    stays in f32. device: 'cpu', 'cuda:0', ...
    """
    kind = device.partition(":")[0]
    if not has_native_bf16(kind):
        return nullcontext()
    context: AbstractContextManager[None] = torch.autocast(device_type=kind, dtype=torch.bfloat16)
    return context
