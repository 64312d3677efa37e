"""Tests in this folder run on a GPU, or on the CPU in Triton's interpreter when TRITON_INTERPRET=1."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from interpreter import INTERPRETED, leave_out_checks_of_overflow, mend_loop_bounds, patch_language_once

sys.path.append(str(Path(__file__).parents[1]))  # cases that CPU and GPU share
if INTERPRETED and importlib.util.find_spec("triton"):
    mend_loop_bounds()
    patch_language_once()
    leave_out_checks_of_overflow()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if not INTERPRETED and not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device, or TRITON_INTERPRET=1 and Triton"))


@pytest.fixture
def small_buckets(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the interpreter, buckets of 32: as many of them, and as many spills, with fewer weights."""
    if not INTERPRETED or "full_size" in request.node.name:
        return
    from fastplast_kernels.wasserstein import gpu

    sizes = {"CAPACITY": 32, "MEAN": 16, "FULL": 28, "BLOCK": 128, "SHIFT": 22, "NUM_CELLS": 1024}
    for name, value in sizes.items():
        monkeypatch.setattr(gpu, name, value)


@pytest.fixture
def small_tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the interpreter, tiles of 16: as many of them in smaller layers."""
    if not INTERPRETED or "full_size" in request.node.name:
        return
    from fastplast_kernels.train_step import launches

    for name in ("FIRST_INPUTS", "TAIL_INPUTS", "TAIL_OUTPUTS", "UPDATE_OUTPUTS", "UPDATE_INPUTS"):
        monkeypatch.setattr(launches, name, 16)


@pytest.fixture
def device() -> str:
    return "cpu" if INTERPRETED else "cuda"
