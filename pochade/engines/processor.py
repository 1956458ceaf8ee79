"""What a processor can do that OpenVINO does not tell."""

import platform
from pathlib import Path

X86 = ("x86_64", "amd64", "i386", "i686")
BYTE_PRODUCTS = ("avx512_vnni", "avx_vnni", "amx_int8")
"""Linux's names for instructions that multiply unsigned by signed bytes and add in 32 bits."""


def sums_bytes_widely(machine: str | None = None, cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether products of bytes are added in 32 bits, so that none can be cut off.

    On other processors than x86 they always are. Where it cannot be known (x86 without Linux) it is denied,
    which costs one bit of the weights.
    """
    if (machine or platform.machine()).lower() not in X86:
        return True
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return any(name in flags for name in BYTE_PRODUCTS)
