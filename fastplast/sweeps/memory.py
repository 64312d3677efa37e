"""What fits: bytes that a member takes, and bytes that there are."""

from __future__ import annotations

from math import prod

import torch

from fastplast.networks import Conv
from fastplast.trainer import Setup

_SHARE = 0.8  # of the free memory that a shard may take
# Copies of a member's parameters: parameters, two moments, initial values, targets, the task's start, and while a
# checkpoint is written the five of them that it holds, again.
_ARENA_COPIES = 11
_VMAP_COPIES = 6  # gradients, their sum with the pull, ranked targets, and what the optimiser makes on its way
_CUDA_COPIES = 4  # the state at the start of a call, and targets
_CUDA_RANKS = 7  # buckets of ranked weights


def bytes_per_member(setup: Setup) -> int:
    """Memory that one more member takes while its group is trained and measured.

    Args:
        setup: of a group with any number of members.

    Returns:
        Bytes; an upper estimate.
    """
    layout, problem = setup.group.layout, setup.problem
    copies = _ARENA_COPIES + (_VMAP_COPIES if setup.engine.name == "vmap" else 0)
    if setup.engine.name == "cuda":
        copies += _CUDA_COPIES + _CUDA_RANKS * any(member.method == "wasserstein" for member in setup.group.members)
    pixels = prod(problem.shape)
    tables = problem.rows.shape[1] * 8 * 4 + pixels * 8  # rows, labels, one epoch's order, a permutation
    activations = 0
    if setup.engine.name == "vmap":
        units = 2 * pixels + 3 * sum(_units(layer) for layer in getattr(setup.group.network, "layers", ()))
        activations = 4 * setup.experiment.batch_size * units
    return 4 * layout.size * copies + tables + activations


def _units(layer: object) -> int:
    return prod(layer.output_shape) if isinstance(layer, Conv) else int(getattr(layer, "outputs", 0))


def free_bytes(device: torch.device) -> int:
    """Memory that a shard may take on a device.

    Args:
        device: where it is trained.

    Returns:
        A share of what is free, within the limit of the control group.
    """
    if device.type == "cuda":
        return int(_SHARE * torch.cuda.mem_get_info(device)[0])
    free = [_read("/proc/meminfo")]
    limit, used = (_read(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    if limit is not None:
        free.append(limit - (used or 0))
    known = [value for value in free if value is not None]
    return int(_SHARE * min(known)) if known else 4 << 30


def _read(path: str) -> int | None:
    """A number of bytes: a file's only word, or what is available according to /proc/meminfo."""
    try:
        with open(path, encoding="ascii") as file:
            for line in file:
                name, _, rest = line.partition(":")
                if not rest:
                    return None if name.strip() == "max" else int(name)
                if name == "MemAvailable":
                    return 1024 * int(rest.split()[0])
    except (OSError, ValueError):
        pass
    return None
