"""Processor features that OpenVINO does not report."""

import platform
from collections.abc import Mapping
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
X86 = ("x86_64", "amd64", "i386", "i686")
BYTE_PRODUCTS = ("avx512_vnni", "avx_vnni", "amx_int8")
"""Linux's names for instructions that multiply unsigned by signed bytes and add in 32 bits."""

INSTRUCTIONS: Mapping[str, tuple[str, ...]] = {
    "AVX2": ("avx2",),
    "AVX-512": ("avx512f",),
    "VNNI": ("avx512_vnni", "avx_vnni"),
    "AVX-512 BF16": ("avx512_bf16",),
    "AVX-512 FP16": ("avx512_fp16",),
    "AMX BF16": ("amx_bf16",),
    "AMX INT8": ("amx_int8",),
    "AMX FP16": ("amx_fp16",),
    "NEON": ("asimd",),
    "NEON FP16": ("asimdhp",),
    "SVE": ("sve",),
    "SVE2": ("sve2",),
    "BF16": ("bf16",),
    "I8MM": ("i8mm",),
    "SME": ("sme",),
}
"""Instructions that speed up matrix products -> Linux's names for them, any of which suffices."""


def sums_bytes_in_int32(machine: str | None = None, cpuinfo: Path = CPUINFO) -> bool:
    """Whether 8-bit products are accumulated in 32 bits, so that sums cannot saturate.

    Processors other than x86 always do. If it is unknown (x86 without Linux) the answer is False, which costs
    one bit of the weights.
    """
    if (machine or platform.machine()).lower() not in X86:
        return True
    flags = _flags(cpuinfo)
    return any(name in flags for name in BYTE_PRODUCTS)


def instructions(cpuinfo: Path = CPUINFO) -> list[str]:
    """The entries of `INSTRUCTIONS` that the processor supports; empty if the system does not say."""
    flags = _flags(cpuinfo)
    return [name for name, flag in INSTRUCTIONS.items() if not flags.isdisjoint(flag)]


def _flags(cpuinfo: Path) -> set[str]:
    """The flags of the first processor: x86 calls them flags, ARM Features."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    for line in lines:
        name, _, after = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return set(after.split())
    return set()
