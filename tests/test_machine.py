"""Detection of processors and memory."""

import os
from pathlib import Path

import pytest

from pochade.machine import Processors, cpu_quota, memory_bytes, processors

V2_MOUNT = "30 23 0:26 {root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNT = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)


def system(root: Path, groups: str, mounts: str, files: dict[str, str]) -> Path:
    """A made-up /proc and /sys."""
    files = {"proc/self/cgroup": groups, "proc/self/mountinfo": mounts, **files}
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_memory_is_told_in_bytes() -> None:
    told = memory_bytes()
    if told is None:
        pytest.skip("this system does not tell")
    total, free = told
    assert 0 < free <= total and total > 2**28


def test_a_system_may_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> int:
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "sysconf", refuse)
    assert memory_bytes() is None


@pytest.mark.parametrize(
    ("groups", "mounts", "files", "quota"),
    [
        # a container with a view of its own: its group is the top of what it sees
        ("0::/\n", V2_MOUNT.format(root="/"), {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", V2_MOUNT.format(root="/"), {"cpu.max": "max 100000\n"}, None),
        # a service within slices: each may have a quota, and the least counts
        (
            "0::/a.slice/b.service\n",
            V2_MOUNT.format(root="/"),
            {"a.slice/cpu.max": "200000 100000", "a.slice/b.service/cpu.max": "max 100000"},
            2.0,
        ),
        (
            "0::/a.slice/b.service\n",
            V2_MOUNT.format(root="/"),
            {"a.slice/cpu.max": "400000 100000", "a.slice/b.service/cpu.max": "50000 100000"},
            0.5,
        ),
        # the path is that of the host, and only the container's part of the tree is mounted
        ("0::/docker/abc\n", V2_MOUNT.format(root="/docker/abc"), {"cpu.max": "300000 100000"}, 3.0),
        ("0::/docker/abc\n", V2_MOUNT.format(root="/elsewhere"), {"cpu.max": "300000 100000"}, 3.0),
        # what others have is not ours
        ("0::/a\n", V2_MOUNT.format(root="/"), {"b/cpu.max": "100000 100000"}, None),
        # the first version, alone and beside the second
        (
            "4:memory:/\n2:cpu,cpuacct:/docker/abc\n",
            V1_MOUNT.format(root="/docker/abc"),
            {"cpu,cpuacct/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
            2.5,
        ),
        (
            "2:cpu,cpuacct:/job\n1:memory:/\n0::/\n",
            V1_MOUNT.format(root="/") + V2_MOUNT.format(root="/").replace("cgroup rw", "cgroup/unified rw"),
            {
                "cpu,cpuacct/job/cpu.cfs_quota_us": "100000",
                "cpu,cpuacct/job/cpu.cfs_period_us": "100000",
                "cpu,cpuacct/cpu.cfs_quota_us": "-1",
                "cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            1.0,
        ),
        (
            "2:cpu,cpuacct:/\n",
            V1_MOUNT.format(root="/"),
            {"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            None,
        ),
        # nonsense, and systems that have none of it
        ("0::/\n", V2_MOUNT.format(root="/"), {"cpu.max": "0 0"}, None),
        ("0::/\n", V2_MOUNT.format(root="/"), {"cpu.max": "many 100000"}, None),
        ("nonsense\n", "nonsense - cgroup2\n\n", {}, None),
        ("", "", {}, None),
    ],
)
def test_the_quota_of_a_container(
    tmp_path: Path, groups: str, mounts: str, files: dict[str, str], quota: float | None
) -> None:
    files = {f"sys/fs/cgroup/{name}": content for name, content in files.items()}
    assert cpu_quota(system(tmp_path, groups, mounts, files)) == quota
    assert cpu_quota(tmp_path / "nothing") is None


@pytest.mark.parametrize(
    ("cores", "quota", "threads"),
    [(8, None, None), (8, 8.0, None), (8, 16.0, None), (8, 2.0, 2), (8, 1.5, 2), (8, 0.25, 1), (2, 1.9, 2)],
)
def test_threads_are_as_many_as_the_quota_has_work_for(
    cores: int, quota: float | None, threads: int | None
) -> None:
    assert Processors(2 * cores, cores, quota).limited == threads


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity masks here")
def test_cores_are_those_of_the_affinity_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four cores with two threads each, of which the mask leaves three threads on two cores."""
    for number in range(8):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{number}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{number % 4},{number % 4 + 4}\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 5, 6})
    assert processors(tmp_path) == Processors(3, 2)
    assert processors(tmp_path / "nothing") == Processors(3, 3)


def test_this_computer() -> None:
    found = processors()
    assert 1 <= found.cores <= found.allowed <= (os.cpu_count() or 1)
