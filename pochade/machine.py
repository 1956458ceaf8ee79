"""The processors and the memory of this computer, as the operating system reports them."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_THREADS = 1024
"""The maximum number of threads that may be requested."""


def memory_bytes() -> tuple[int, int] | None:
    """Return the total and the free memory in bytes; None if the system does not report it."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return page * os.sysconf("SC_PHYS_PAGES"), page * os.sysconf("SC_AVPHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


@dataclass(frozen=True)
class Processors:
    """The processors that this process may use.

    allowed: logical processors in its affinity mask. cores: the physical cores among them. quota: the CPU
    quota of its control groups (of a container, for example), in processors; None: unlimited.
    """

    allowed: int
    cores: int
    quota: float | None = None

    @property
    def limited(self) -> int | None:
        """The number of threads that the quota can keep busy; None if the quota does not limit the cores.

        Fractions are rounded up: two threads can use a quota of 1.5, one cannot.
        """
        if self.quota is None or self.quota >= self.cores:
            return None
        return max(1, math.ceil(self.quota))


def processors(root: Path = Path("/")) -> Processors:
    """Ask the operating system. root: the folder that holds `proc` and `sys`."""
    allowed = set(range(os.cpu_count() or 1))
    if hasattr(os, "sched_getaffinity"):
        allowed = os.sched_getaffinity(0)
    return Processors(len(allowed), _cores(allowed, root), cpu_quota(root))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """The smallest CPU quota of this process's control groups and their parents, in processors, or None.

    Both versions of control groups are read: `cpu.max`, and `cpu.cfs_quota_us` with its period.
    """
    quotas = [quota for folder in _groups(root) if (quota := _quota(folder)) is not None]
    return min(quotas, default=None)


def usable_memory_bytes(cgroups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """The memory that this process may use, in bytes: that of the computer, or the limit of its container.

    None if the system does not report it.
    """
    found = memory_bytes()
    limits = [] if found is None else [found[0]]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # of the second version, of the first
        try:
            limits.append(int((cgroups / name).read_text()))
        except (OSError, ValueError):  # missing, or "max"
            continue
    return min(limits, default=None)


# --- inside -----------------------------------------------------------------------------------------------


def _cores(allowed: set[int], root: Path) -> int:
    """The number of physical cores among logical processors; all count if their siblings are unknown."""
    siblings = set()
    for number in allowed:
        topology = root / f"sys/devices/system/cpu/cpu{number}/topology"
        siblings.add(_read(topology / "thread_siblings_list") or str(number))
    return max(1, len(siblings))


def _groups(root: Path) -> Iterator[Path]:
    """The folders of this process's control groups and their parents."""
    lines = [line.split(":", 2) for line in _read(root / "proc/self/cgroup").splitlines()]
    groups = {kinds: path for _, kinds, path in (line for line in lines if len(line) == 3)}
    for line in _read(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, source = before.split(), after.split()
        if len(fields) < 5 or len(source) < 3 or source[0] not in ("cgroup", "cgroup2"):
            continue
        if source[0] == "cgroup2":
            path = groups.get("")
        else:
            path = next((each for kinds, each in groups.items() if "cpu" in kinds.split(",")), None)
            path = path if "cpu" in source[2].split(",") else None
        if path is None:
            continue
        top = root / fields[4].lstrip("/")
        # In a container the path may be that of the host, of which only the mounted part is visible.
        mounted = fields[3].rstrip("/")
        inner = path.removeprefix(mounted) if f"{path}/".startswith(f"{mounted}/") else "/"
        folder = top / inner.strip("/")
        yield folder
        yield from (parent for parent in folder.parents if parent == top or top in parent.parents)


def _quota(folder: Path) -> float | None:
    """The quota of one control group. Malformed files count as no quota."""
    words = _read(folder / "cpu.max").split()
    if not words:
        words = [*_read(folder / "cpu.cfs_quota_us").split(), *_read(folder / "cpu.cfs_period_us").split()]
    try:
        quota, period = map(int, words)
    except ValueError:  # "max", or a missing file
        return None
    return quota / period if quota > 0 and period > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
