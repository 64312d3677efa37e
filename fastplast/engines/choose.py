"""Which engine trains, on which device: choosing happens here and nowhere else."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil

import torch
from fastplast_kernels.cores import available_cores

from fastplast.config import ConfigError, Experiment
from fastplast.engines.base import Engine, Group, GroupState
from fastplast.engines.cpu import CpuEngine, missing
from fastplast.engines.cuda import CudaEngine, missing_on_cuda
from fastplast.engines.vmap import VmapEngine

_DRIVER_ERRORS = {  # what PyTorch says to what it means
    "driver on your system is too old": "its driver is too old for this PyTorch, built for CUDA {}",
    "Found no NVIDIA driver": "there is no NVIDIA driver",
    "No CUDA GPUs are available": "the driver lists none; is CUDA_VISIBLE_DEVICES empty?",
}


def why_no_cuda() -> str:
    """Why PyTorch sees no GPU, in a few words: its build, no GPU, no driver, or a driver that does not work.

    Returns:
        The reason.
    """
    if torch.version.cuda is None:
        return "this PyTorch is built without CUDA"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        text = " ".join(str(error).split())
        for part, reason in _DRIVER_ERRORS.items():
            if part in text:
                found = re.search(r"found version (\d+)", text)
                return reason.format(torch.version.cuda) + (
                    f" (it is of CUDA {_version(int(found[1]))})" if found else ""
                )
        return f"CUDA does not start: {text.split('. ')[0].rstrip('.')}"
    return "PyTorch finds none"


def _version(number: int) -> str:
    """12.4 from 12040, as drivers count."""
    return f"{number // 1000}.{number % 1000 // 10}"


def choose_device(experiment: Experiment) -> torch.device:
    """Where to train.

    Args:
        experiment: its ``device`` and ``engine``.

    Returns:
        The device.

    Raises:
        ConfigError: if CUDA is asked for and there is none, or not that GPU.
    """
    names_cuda = experiment.device.startswith("cuda")
    wants_cuda = names_cuda or experiment.engine == "cuda"
    if wants_cuda and not torch.cuda.is_available():
        asked = f"--device {experiment.device}" if names_cuda else "--engine cuda"
        raise ConfigError(f"{asked} needs an NVIDIA GPU: {why_no_cuda()}. Use --device cpu.")
    auto_cuda = experiment.device == "auto" and experiment.engine != "cpu" and torch.cuda.is_available()
    device = torch.device(experiment.device if names_cuda else "cuda" if wants_cuda or auto_cuda else "cpu")
    if device.index is not None and device.index >= (count := torch.cuda.device_count()):
        raise ConfigError(
            f"--device must be one of {count} GPUs, cuda:0 to cuda:{count - 1}: got {experiment.device}. "
            "CUDA_VISIBLE_DEVICES decides which there are.",
            "device",
        )
    return device


def choose_engine(experiment: Experiment, group: Group, state: GroupState, device: torch.device) -> Engine:
    """The engine that an experiment asks for, or the fastest that can serve it.

    Args:
        experiment: its ``engine``.
        group: what to train.
        state: of the group.
        device: where.

    Returns:
        The engine.

    Raises:
        ConfigError: if a forced engine cannot serve the group.
    """
    if experiment.engine == "cuda":
        reason = missing_on_cuda(group, device)
        if reason is None:
            return CudaEngine(group, state, device, precision="tf32" if experiment.tf32 else "ieee")
        raise ConfigError(f"--engine cuda cannot serve this experiment: {reason}. Use --engine vmap or auto.")
    if experiment.engine == "auto" and device.type == "cuda":  # until results from a GPU are in bench/results/
        why = "its kernels have been proven without a GPU only; ask for it with --engine cuda"
        return VmapEngine(group, state, device, f"Engine vmap, not cuda: {missing_on_cuda(group, device) or why}.")
    if experiment.engine in ("auto", "cpu"):
        reason = missing(group, device)
        if reason is None:
            return CpuEngine(group, state, experiment.threads or available_cores())
        if experiment.engine == "cpu":
            raise ConfigError(f"--engine cpu cannot serve this experiment: {reason}. Use --engine vmap or auto.")
        return VmapEngine(group, state, device, f"Engine vmap, not the faster cpu: {reason}.")
    if experiment.compile and (reason := _missing_to_compile(device)):
        raise ConfigError(f"--compile needs {reason}. Install it, or run without --compile.")
    return VmapEngine(group, state, device, compiled=experiment.compile)


def _missing_to_compile(device: torch.device) -> str | None:
    """What ``torch.compile`` makes its code with and does not find."""
    if device.type == "cuda":
        return None if importlib.util.find_spec("triton") else "Triton, which is not installed"
    compilers = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "cl"]
    if any(map(shutil.which, compilers)):
        return None
    return f"a C++ compiler: there is no {' or '.join(compilers)} on the PATH"
