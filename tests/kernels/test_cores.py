"""Cores: every limit that a machine may set, injected."""

import os

import pytest
from fastplast_kernels import cores
from fastplast_kernels.train_step.cpu import train

from fastplast import engines


@pytest.fixture
def limits(monkeypatch, tmp_path):
    """Sets affinity, files of the control groups, and Slurm's variable; without it 8 cores and no other limit."""

    def set_limits(
        affinity: int = 8, files: dict[str, str] | None = None, slurm: str | None = None, openmp: str | None = None
    ) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(affinity)), raising=False)
        for name, text in (files or {}).items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        if slurm is not None:
            monkeypatch.setenv("SLURM_CPUS_PER_TASK", slurm)
        if openmp is not None:
            monkeypatch.setenv("OMP_NUM_THREADS", openmp)

    monkeypatch.setattr(cores, "CONTROL_GROUPS", tmp_path)
    monkeypatch.setattr(cores, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    set_limits()
    return set_limits


def version_1(quota: str, period: str = "100000\n") -> dict[str, str]:
    return {"cpu/cpu.cfs_quota_us": quota, "cpu/cpu.cfs_period_us": period}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, 8),
        ({"affinity": 3}, 3),
        ({"files": {"cpu.max": "max 100000\n"}}, 8),
        ({"files": {"cpu.max": "200000 100000\n"}}, 2),
        ({"files": {"cpu.max": "160000 100000\n"}}, 2),
        ({"files": {"cpu.max": "10000 100000\n"}}, 1),  # a tenth of a core
        ({"files": {"cpu.max": "1600000 100000\n"}}, 8),
        ({"files": {"cpu.max": "nonsense\n"}}, 8),
        ({"files": version_1("300000\n")}, 3),
        ({"files": version_1("-1\n")}, 8),
        ({"files": version_1("0\n", "0\n")}, 8),
        ({"files": {"cpu/cpu.cfs_quota_us": "300000\n"}}, 8),
        ({"files": {"own": "0::/a/b\n", "a/b/cpu.max": "300000 100000\n"}}, 3),
        ({"files": {"own": "0::/a/b\n", "a/b/cpu.max": "max 100000\n", "a/cpu.max": "200000 100000\n"}}, 2),
        ({"files": {"own": "0::/a/b\n", "other/cpu.max": "100000 100000\n"}}, 8),
        (
            {
                "files": {
                    "own": "4:cpu,cpuacct:/job:1\n",
                    "cpu/job:1/cpu.cfs_quota_us": "400000\n",
                    "cpu/job:1/cpu.cfs_period_us": "100000\n",
                }
            },
            4,
        ),
        ({"files": {"own": "nonsense\n", "cpu.max": "300000 100000\n"}}, 3),
        ({"slurm": "5"}, 5),
        ({"slurm": "16"}, 8),
        ({"slurm": "0"}, 8),
        ({"slurm": ""}, 8),
        ({"slurm": "many"}, 8),
        ({"openmp": "1"}, 1),
        ({"openmp": "16"}, 8),
        ({"openmp": "4,2"}, 8),  # of nested levels
        ({"openmp": "3", "slurm": "2"}, 2),
        ({"affinity": 6, "files": {"cpu.max": "400000 100000\n"}, "slurm": "5"}, 4),
        ({"affinity": 6, "files": {"cpu.max": "400000 100000\n"}, "slurm": "2"}, 2),
    ],
)
def test_the_smallest_limit_counts(limits, given, expected):
    limits(**given)
    assert cores.available_cores() == expected


def test_without_affinity_the_machine_is_counted(limits, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert cores.available_cores() == 4
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores.available_cores() == 1


def test_kernels_and_engines_count_with_the_same_function():
    assert engines.available_cores is train.available_cores is cores.available_cores
