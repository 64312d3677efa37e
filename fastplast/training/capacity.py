"""What fits: bytes that a member takes, and bytes that there are."""

from __future__ import annotations

from math import prod

import torch

from fastplast.networks import Conv
from fastplast.training.setup import Setup

_SHARE = 0.8  # of the free memory that a shard may take
# Copies of a member's parameters: parameters, two moments, initial values, targets, the task's start, and while a
# checkpoint is written the five of them that it holds, again.
_ARENA_COPIES = 11
_VMAP_COPIES = 6  # gradients, their sum with the pull, ranked targets, and what the optimiser makes on its way
_CUDA_COPIES = 4  # what is trained (parameters, two moments), and targets
_CUDA_RANKS = 9  # buckets of ranked weights, their sorted targets, and what a call puts in their place on its way
_CUDA_MAP = 65_540  # bytes of the map of a weight matrix to buckets, and of its histogram


def bytes_per_member(setup: Setup, engine: str | None = None) -> int:
    """Memory that one more member takes while its group is trained and measured.

    Args:
        setup: of a group with any number of members.
        engine: that would train it; the setup's own if None.

    Returns:
        Bytes; an upper estimate.
    """
    layout, problem, engine = setup.group.layout, setup.problem, engine or setup.engine.name
    copies = {"vmap": _VMAP_COPIES, "cuda": _CUDA_COPIES}.get(engine, 0) + _ARENA_COPIES
    pixels = prod(problem.shape)
    tables = problem.rows.shape[1] * 8 * 4 + pixels * 8  # rows, labels, one epoch's order, a permutation
    units = sum(_units(layer) for layer in getattr(setup.group.network, "layers", ()))
    more = 0
    if engine == "vmap":
        more = 4 * setup.experiment.batch_size * (2 * pixels + 3 * units)
    elif engine == "cuda":  # tables again; values and gradients of a minibatch; coefficients of an epoch's updates
        batch, updates = setup.experiment.batch_size, setup.experiment.steps_per_epoch()
        more = tables + 8 * (batch + 2) * units * _copies(setup) + 200 * updates
        if any(member.method == "wasserstein" for member in setup.group.members):
            copies += _CUDA_RANKS
            more += _CUDA_MAP * sum(slot.is_weight for slot in layout.slots)
    return 4 * layout.size * copies + tables + more


def fitting(setup: Setup, engine: str, memory: int) -> int:
    """Members that a device of so much memory trains at once; a share of it is left for everything else.

    Args:
        setup: of a group with any number of members.
        engine: that would train them.
        memory: bytes.

    Returns:
        How many, 0 if not even one.
    """
    return max(int(_SHARE * memory) - setup.problem.images.nbytes, 0) // bytes_per_member(setup, engine)


def _copies(setup: Setup) -> int:
    """Places of a unit's values in the memory of the cuda engine.

    Two with CReLU; another with layer normalisation, and in convolutions with whatever modifies them.
    """
    e, crelu = setup.experiment, setup.experiment.activation == "crelu"
    convolutions = any(isinstance(layer, Conv) for layer in getattr(setup.group.network, "layers", ()))
    return 1 + crelu + (e.layer_norm or (convolutions and (crelu or e.dropout > 0)))


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
