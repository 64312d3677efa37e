"""How many CPU cores this process may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

CONTROL_GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")  # a line for each hierarchy: its number, controllers and the group


def available_cores() -> int:
    """CPU cores that this process may use: its affinity, limited by its control group, its Slurm task and OpenMP.

    Returns:
        At least 1.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([affinity, *_quotas(), *_variables()])


def _quotas() -> Iterator[int]:
    """Cores of the control group: of version 2 in one file, of version 1 in two; a group without a quota says none."""
    places = [(CONTROL_GROUPS, ("cpu.max",)), (CONTROL_GROUPS / "cpu", ("cpu.cfs_quota_us", "cpu.cfs_period_us"))]
    for folder, names in [(folder / group, names) for folder, names in places for group in _own_groups()]:
        try:
            words = " ".join((folder / name).read_text(encoding="ascii") for name in names)
            quota, period = map(int, words.split())
        except (OSError, ValueError):  # no such file; or the quota is "max"
            continue
        if quota > 0 and period > 0:  # version 1 says -1 where there is none
            yield max(1, round(quota / period))


def _own_groups() -> set[Path]:
    """The groups of this process and those they are in, relative to the root of their hierarchy."""
    groups = {Path()}
    try:
        for line in OWN_GROUPS.read_text(encoding="utf-8").splitlines():
            group = Path(line.split(":", 2)[2].lstrip("/"))
            groups |= {group, *group.parents}
    except (OSError, ValueError, IndexError):
        pass
    return groups


def _variables() -> Iterator[int]:
    for name in ("SLURM_CPUS_PER_TASK", "OMP_NUM_THREADS"):
        count = os.environ.get(name, "")
        if count.isdecimal() and int(count) > 0:
            yield int(count)
