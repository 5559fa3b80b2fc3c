"""How many CPUs this process may use: in a container that is fewer than the host has."""

import os
import sys
from pathlib import Path

import torch

CGROUP_ROOT = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def available_cpus(cgroup_root: Path = CGROUP_ROOT, own_cgroups: Path = OWN_CGROUPS) -> int:
    """Return the number of threads that can run at once, at least 1.

    That is the CPUs of the affinity, cut by the quotas of the cgroup (v1 and v2) and of the
    groups above it. A quota is rounded down: a process that passes it is stopped as a whole
    until the next period.
    """
    # The affinity is known on Linux only, as are cgroups.
    cpus = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, int(min([cpus, *_quotas(cgroup_root, own_cgroups)])))


def use_threads(count: int) -> None:
    """Let torch compute with `count` threads on this thread, whatever others are told.

    At its first use of torch a thread takes the count that was set last, on any thread. To ask for the count is such a
    use: what is set after it stays.
    """
    torch.get_num_threads()
    torch.set_num_threads(count)


def _quotas(cgroup_root: Path, own_cgroups: Path) -> list[float]:
    """Return the quotas, in CPUs, that hold for this process."""
    text = _read(own_cgroups) or ""
    quotas: list[float | None] = []
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            quotas += [_quota_v2(folder) for folder in _with_parents(cgroup_root, path)]
        elif "cpu" in controllers.split(","):
            quotas += [_quota_v1(folder) for folder in _with_parents(cgroup_root / "cpu", path)]
    return [quota for quota in quotas if quota is not None]


def _with_parents(root: Path, path: str) -> list[Path]:
    """Return the folders of a group and those above it.

    Inside a container the path may be the host's, which is not there; the container's own group
    is then at the root.
    """
    folder = root / path.lstrip("/")
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(root))]


def _quota_v2(folder: Path) -> float | None:
    quota, _, period = (_read(folder / "cpu.max") or "max").partition(" ")
    return None if quota == "max" else int(quota) / int(period)


def _quota_v1(folder: Path) -> float | None:
    quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    return None if quota is None or period is None or int(quota) < 0 else int(quota) / int(period)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return None
