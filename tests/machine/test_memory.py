"""What a CPU has to offer: a share of what is free, within the limit of the control group."""

import os

import pytest
import torch

from fastplast.machine import memory

CPU = torch.device("cpu")
GROUP = "/sys/fs/cgroup/memory."
GIB = 2**30
MEMINFO = "MemTotal:   900 kB\nMemFree:  80 kB\nMemAvailable:    250 kB\nBuffers: 1 kB\n"


def test_a_share_of_the_memory_of_this_machine_is_free():
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < memory.free_bytes(CPU) <= memory.USABLE * physical


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"/proc/meminfo": 10 * GIB}, 8 * GIB),
        ({"/proc/meminfo": 10 * GIB, f"{GROUP}max": 6 * GIB, f"{GROUP}current": GIB}, 4 * GIB),
        ({"/proc/meminfo": 5 * GIB, f"{GROUP}max": 60 * GIB}, 4 * GIB),
        ({f"{GROUP}max": 5 * GIB}, 4 * GIB),
        ({}, 4 * GIB),  # no such files: not Linux
    ],
)
def test_the_least_of_what_is_free_and_what_the_group_may_still_take(monkeypatch, found, expected):
    monkeypatch.setattr(memory, "_read", lambda path, wanted="": found.get(path))
    assert memory.free_bytes(CPU) == int(expected)


@pytest.mark.parametrize(
    ("text", "wanted", "expected"),
    [
        (MEMINFO, "MemAvailable", 250 * 1024), (MEMINFO, "MemTotal", 900 * 1024), (MEMINFO, "SwapTotal", None),
        ("4096\n", "", 4096), ("max\n", "", None), ("", "", None), ("nonsense\n", "", None), (None, "", None),
    ],
)  # fmt: skip
def test_files_of_the_system_say_how_much(tmp_path, text, wanted, expected):
    path = tmp_path / "file"
    if text is not None:
        path.write_text(text)
    assert memory._read(str(path), wanted) == expected
