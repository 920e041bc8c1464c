"""Processors that this process may use. PyTorch, which looks at them on import, is not imported here."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def usable_cpus(cgroups: Path = CGROUPS) -> int:
    """Processors that this process may run on at a time, at least 1.

    The least of what the machine has, what the process is bound to, and what a container's share
    (``docker run --cpus``, limits of Kubernetes) comes to, rounded up.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = cgroup_share(cgroups)
    return bound if share is None else max(min(bound, math.ceil(share)), 1)


def cgroup_share(cgroups: Path = CGROUPS) -> float | None:
    """Processors that Linux' control groups grant, such as 1.5; ``None``: no limit, or no such system."""
    try:
        quota, period = (cgroups / "cpu.max").read_text().split()  # version 2
    except (OSError, ValueError):
        try:
            quota = (cgroups / "cpu" / "cpu.cfs_quota_us").read_text()  # version 1; -1: no limit
            period = (cgroups / "cpu" / "cpu.cfs_period_us").read_text()
        except OSError:
            return None
    try:
        share = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # "max"
        return None
    return share if share > 0 else None


def limit_threads(cgroups: Path = CGROUPS) -> None:
    """Lets numeric libraries that are imported later start as many threads as there are usable processors.

    Libraries count the machine's processors. Where a container may use few of many, their threads wait for
    each other most of the time. What the user has set, ``OMP_NUM_THREADS``, stays.
    """
    if usable_cpus(cgroups) < (os.cpu_count() or 1):
        os.environ.setdefault("OMP_NUM_THREADS", str(usable_cpus(cgroups)))
