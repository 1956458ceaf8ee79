"""The machine of a measurement, and other work on it meanwhile."""

import os
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path


def describe_machine() -> dict[str, str | int | float | None]:
    """Processor, cores that this process may use, memory, system, and the current load."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.machine()}",
        "load_average": round(os.getloadavg()[0], 2),
    }


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Python's version, and that of each package; 'none' if it is not installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "none"
    return found


def busy_seconds(stat: Path = Path("/proc/stat")) -> float | None:
    """Processor time that the whole machine has spent, or None if the system does not report it.

    Time that a hypervisor gave to other guests counts too, because it is lost to the measurement.
    """
    try:
        numbers = stat.read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _idle, _waiting, interrupt, soft, stolen = (int(number) for number in numbers[:8])
    return (user + nice + system + interrupt + soft + stolen) / os.sysconf("SC_CLK_TCK")


def _processor() -> str:
    """The maker's name and the vector instructions relevant to networks, if the system reports them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = facts.get("flags", "").split()
    known = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
    name = facts.get("model name", platform.machine())
    family = f"family {facts['cpu family']} model {facts['model']}" if "cpu family" in facts else ""
    return " ".join([name, family, *(flag for flag in known if flag in flags)])
