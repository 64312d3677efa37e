"""Ranges for Nsight Systems, recorded by a stand-in for the package nvtx."""

import sys
from contextlib import contextmanager
from types import ModuleType

import pytest
import torch

from fastplast import Experiment, train
from fastplast.machine import profiling

SMALL = {"seeds": 1, "tasks": 2, "epochs": 2, "examples": 48, "widths": (6, 5), "threads": 1}


@pytest.fixture
def recorded(monkeypatch):
    """Ranges as they begin and end, each begin with its depth."""
    seen: list[str] = []

    @contextmanager
    def annotate(message: str, domain: str):
        assert domain == "fastplast"
        seen.append(message)
        yield
        seen.append(f"/{message}")

    module = ModuleType("nvtx")
    module.annotate = annotate  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "nvtx", module)
    profiling._make_range.cache_clear()
    yield seen
    profiling._make_range.cache_clear()


def test_tasks_epochs_probes_and_stable_ranks_have_ranges(recorded, tmp_path):
    train(Experiment(**SMALL, out=str(tmp_path / "run"), engine="vmap"))
    probe = ["srank", "/srank"]
    task = ["probe at start", *probe, "/probe at start", "epoch 0", "/epoch 0", "epoch 1", "/epoch 1"]
    task += ["probe at end", "/probe at end"]
    assert recorded == ["task 0", *task, "/task 0", "task 1", *task, "/task 1"]


def test_without_the_package_nothing_happens(monkeypatch):
    monkeypatch.setitem(sys.modules, "nvtx", None)
    profiling._make_range.cache_clear()
    with profiling.annotate("nothing"):
        assert list(profiling.annotate_each("task", range(2))) == [0, 1]
    profiling._make_range.cache_clear()


def test_without_the_package_a_gpu_has_the_ranges_of_pytorch(monkeypatch):
    seen: list[str] = []

    @contextmanager
    def record(message: str):
        seen.append(message)
        yield

    monkeypatch.setitem(sys.modules, "nvtx", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda.nvtx, "range", record)
    profiling._make_range.cache_clear()
    assert list(profiling.annotate_each("task", range(2))) == [0, 1]
    profiling._make_range.cache_clear()
    assert seen == ["task 0", "task 1"]
