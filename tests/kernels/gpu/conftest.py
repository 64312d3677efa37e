"""Tests in this folder run on a GPU, or on the CPU in Triton's interpreter when TRITON_INTERPRET=1."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from interpreter import INTERPRETED

sys.path.append(str(Path(__file__).parents[1]))  # cases that CPU and GPU share


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if not INTERPRETED and not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device, or TRITON_INTERPRET=1 and Triton"))


@pytest.fixture
def device() -> str:
    return "cpu" if INTERPRETED else "cuda"
