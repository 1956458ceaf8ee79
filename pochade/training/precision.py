"""The precision of products in training: bf16 where the device supports it, else f32."""

from contextlib import AbstractContextManager, nullcontext

import torch


def has_native_bf16(kind: str) -> bool:
    """Whether a kind of device ('cpu', 'cuda', 'mps') multiplies bf16 without emulating it."""
    return kind != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


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
