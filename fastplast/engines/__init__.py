"""Engines: who trains."""

from collections.abc import Callable

from fastplast_kernels import cores

from fastplast.engines.base import Accumulators, Engine, Group, GroupState, build_group, pull_of
from fastplast.engines.choose import choose_device, choose_engine, why_no_cuda
from fastplast.engines.cpu import CpuEngine
from fastplast.engines.cuda import CudaEngine, missing_kernels
from fastplast.engines.hooks import Hooks, MethodError, new_state
from fastplast.engines.vmap import VmapEngine

available_cores: Callable[[], int] = cores.available_cores  # typed: type checkers do not see the kernels

__all__ = [
    "Accumulators",
    "CpuEngine",
    "CudaEngine",
    "Engine",
    "Group",
    "GroupState",
    "Hooks",
    "MethodError",
    "VmapEngine",
    "available_cores",
    "build_group",
    "choose_device",
    "choose_engine",
    "missing_kernels",
    "new_state",
    "pull_of",
    "why_no_cuda",
]
