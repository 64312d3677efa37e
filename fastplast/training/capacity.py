"""What fits: bytes that a member takes, and how many members a device holds."""

from __future__ import annotations

from math import prod

from fastplast.config import ConfigError, Experiment
from fastplast.engines import Group, Hooks
from fastplast.machine.memory import USABLE, all_bytes
from fastplast.networks import Conv, Layer, Network
from fastplast.problems import Problem
from fastplast.text import size

# Copies of a member's parameters: parameters, two moments, initial values, targets, the task's start, and while a
# checkpoint is written the five of them that it holds, again.
_ARENA_COPIES = 11
_VMAP_COPIES = 6  # gradients, their sum with the pull, ranked targets, and what the optimiser makes on its way
_HOOK_COPIES = 12  # of methods with hooks: what they keep, the rows of their members, steps of their own
FEWEST_COPIES = 5  # what no engine does without: parameters, two moments, initial values, the task's start
_CUDA_COPIES = 4  # what is trained (parameters, two moments), and targets
_CUDA_RANKS = 9  # buckets of ranked weights, their sorted targets, and what a call puts in their place on its way
_PATCHES = 3  # of a convolution as a product: the patches, their gradients, and what becomes contiguous on the way
_CUDA_MAP = 65_540  # bytes of the map of a weight matrix to buckets, and of its histogram


def bytes_per_member(experiment: Experiment, group: Group, problem: Problem, engine: str, on_gpu: bool = False) -> int:
    """Memory that one more member takes while its group is trained and measured.

    Args:
        experiment: resolved.
        group: with any number of members.
        problem: of the group.
        engine: name of the one that would train it.
        on_gpu: where the vmap engine makes its convolutions products of patches.

    Returns:
        Bytes; an upper estimate.
    """
    e, layout = experiment, group.layout
    copies = {"vmap": _VMAP_COPIES, "cuda": _CUDA_COPIES}.get(engine, 0) + _ARENA_COPIES
    pixels = prod(problem.shape)
    tables = problem.rows.shape[1] * 8 * 4 + pixels * 8  # rows, labels, one epoch's order, a permutation
    copies += _HOOK_COPIES * bool(Hooks(group, "cpu").uses)
    layers = group.network.layers if isinstance(group.network, Network) else ()
    units = sum(prod(layer.output_shape) if isinstance(layer, Conv) else layer.outputs for layer in layers)
    more = 0
    if engine == "vmap":
        convolutions = [layer for layer in layers if isinstance(layer, Conv)]
        patches = sum(_patch_size(layer) for layer in convolutions) if on_gpu else 0
        more = 4 * e.batch_size * (2 * pixels + 3 * units + _PATCHES * patches)
    elif engine == "cuda":  # tables again; values and gradients of a minibatch; coefficients of an epoch's updates
        more = tables + 8 * (e.batch_size + 2) * units * _values_per_unit(e, layers) + 200 * e.steps_per_epoch()
        if any(member.method == "wasserstein" for member in group.members):
            copies += _CUDA_RANKS
            more += _CUDA_MAP * sum(slot.is_weight for slot in layout.slots)
    return 4 * layout.size * copies + tables + more


def check_memory(members: int, each: int, what: str) -> None:
    """Refuses what this machine could not hold if nothing else were in its memory.

    Args:
        members: of the experiment.
        each: bytes that one takes at least.
        what: takes them, in words.

    Raises:
        ConfigError: with the memory that it would take.
    """
    there = all_bytes()
    if there is not None and members * each > there:
        raise ConfigError(
            f"{what} must fit in memory: {members:,} members of {size(each)} each take {size(members * each)}, and "
            f"this machine has {size(there)}. Use fewer --seeds, a smaller network or fastplast sweep: its batches fit."
        )


def fitting(experiment: Experiment, group: Group, problem: Problem, engine: str, memory: int) -> int:
    """Members that a GPU trains at once.

    Args:
        experiment: resolved.
        group: with any number of members.
        problem: of the group.
        engine: name of the one that would train it.
        memory: bytes of the device; a share of them is left for everything else.

    Returns:
        How many, 0 if not even one.
    """
    free = max(int(USABLE * memory) - problem.images.nbytes, 0)
    return free // bytes_per_member(experiment, group, problem, engine, on_gpu=True)


def _patch_size(layer: Conv) -> int:
    """Values of an example's patches: each output position has one of every weight of a kernel."""
    height, width = (
        (side + 2 * layer.padding - layer.kernel) // layer.stride + 1 for side in (layer.height, layer.width)
    )
    return height * width * layer.in_channels * layer.kernel**2


def _values_per_unit(e: Experiment, layers: tuple[Layer, ...]) -> int:
    """How many values of a unit the cuda engine keeps for each example.

    Two with CReLU; another with layer normalisation, and in convolutions with whatever modifies them.
    """
    crelu, convolutions = e.activation == "crelu", any(isinstance(layer, Conv) for layer in layers)
    return 1 + crelu + (e.layer_norm or (convolutions and (crelu or e.dropout > 0)))
