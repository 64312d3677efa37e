"""Memory and launches of the training step in `gpu`: what an engine keeps, calls, and may capture in a CUDA graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
import triton
from fastplast_kernels.dropout.gpu import STREAM_COLUMNS
from fastplast_kernels.optimisers import NUM_COEFFICIENTS
from fastplast_kernels.train_step import gpu, gpu_large
from fastplast_kernels.train_step.gpu_arguments import Launch, aligned, bucket_tables, given
from fastplast_kernels.train_step.gpu_parts import NO_PULL, PULL_TO_TARGET, PULL_TO_ZERO
from fastplast_kernels.train_step.gpu_tables import Convolutions, Layer, is_normed, switches, tables
from fastplast_kernels.train_step.layers import widening
from fastplast_kernels.wasserstein import buckets as ranks
from fastplast_kernels.wasserstein import gpu as wasserstein
from torch import Tensor

PRECISIONS = ("ieee", "tf32")
EXAMPLES = 32  # at most, at a time, in passes forward and backward
FIRST_OUTPUTS, FIRST_INPUTS, FIRST_WARPS = 16, 128, 4  # of a program of `forward_kernel`, and inputs at a time
TAIL_OUTPUTS, TAIL_INPUTS, TAIL_WARPS = 32, 32, 8  # at a time
UPDATE_OUTPUTS, UPDATE_INPUTS, UPDATE_WARPS = 32, 64, 8  # of a program of `update_kernel`
SMALL = 1 << 16  # weights that one program per member may read: more are spread over many programs
PARTIALS = 64  # partial sums at a time
FUSED = {"enable_fp_fusion": True}  # in passes forward and backward, whatever the default of the version of Triton
NORMED_TAIL = {**FUSED, "maxnreg": 248}  # registers of a thread: left to itself, the assembler keeps to 128 and spills


@dataclass(frozen=True)
class Step:
    """What launches of one shape need: all that the kernels read and write, at addresses that stay.

    Members are trained on copies of their state. What a step has room for may be more members than a call trains.

    Attributes:
        layers: input to output.
        first: layers below are forwarded by `forward_kernel`.
        batch: B.
        steps: S, updates of a call.
        optimizer: ``adam``, ``adamw`` or ``sgd``.
        decoupled: whether weight decay is.
        pull: `NO_PULL`, `PULL_TO_ZERO` or `PULL_TO_TARGET`, see `gpu_parts`.
        precision: of products with the first layer and with large ones, in the passes forward and backward.
        params: `[M, P]` float32, contiguous.
        m: `[M, P]` float32, first moments or momentum buffers.
        v: `[M, P]` float32, second moments; of no size (1 x 1) by ``sgd``.
        table: `[L, 6]` int64, see `gpu_parts`.
        factors: `[L, 2]` float32.
        extras: `[L + convolutions, 7]` int64, of what modifies layers, see `gpu_dense`.
        streams: `[M, 3]` int64, of the masks of dropout, see ``dropout.gpu``.
        geometry: `[convolutions, 9]` int64, see ``train_step.gpu_conv``; of perceptrons `[0, 9]`.
        tiles: `[T, 3]` int32, of the kernels that update; those of convolutions come first.
        first_tile: the first one of a dense layer.
        images: `[R, I]` uint8 or float32.
        pixels: `[M, I]` int64 or None.
        scale: `[I]` float32.
        shift: `[I]` float32.
        rows: `[M, N]` int64.
        labels: `[M, N]` int64.
        order: `[M, S, B]` int64.
        values: `[M, values]` float32, outputs of all layers.
        winners: `[M, values]` uint8, see ``train_step.gpu_conv``; of no size (1 x 1) where nothing is pooled.
        deltas: `[M, values]` float32.
        chosen: `[M, B]` int64, images of the current minibatch.
        coefficients: `[S, M, 10]` float32.
        members: `[M, 4]` int64, see `gpu`.
        sums: `[M, 6]` float64, see `gpu`.
        partial: `[M, 2, T]` float64.
        q: `[M, P]` float32, target of weights; of no size (1 x 1) where there is none.
        anchor: `[M, P]` float32, the same of members not ranked, sorted for those that are; of no size without these.
        ranked: `[M]` int32, whether the weights of a member are.
        buckets: of the weights of ranked members; None where there are none.
        below: the convolutions below the dense layers; None where there are none.
    """

    layers: tuple[Layer, ...]
    first: int
    batch: int
    steps: int
    optimizer: str
    decoupled: bool
    pull: int
    precision: str
    params: Tensor
    m: Tensor
    v: Tensor
    table: Tensor
    factors: Tensor
    extras: Tensor
    streams: Tensor
    geometry: Tensor
    tiles: Tensor
    first_tile: int
    images: Tensor
    pixels: Tensor | None
    scale: Tensor
    shift: Tensor
    rows: Tensor
    labels: Tensor
    order: Tensor
    values: Tensor
    winners: Tensor
    deltas: Tensor
    chosen: Tensor
    coefficients: Tensor
    members: Tensor
    sums: Tensor
    partial: Tensor
    q: Tensor
    anchor: Tensor
    ranked: Tensor
    buckets: ranks.Buckets | None
    below: Convolutions | None

    @property
    def count(self) -> int:
        """Parameters of a member, padding left out."""
        return sum(layer.count for layer in self.layers)

    @property
    def convolutions(self) -> int:
        """Layers that are, from the first on."""
        return len(self.geometry)

    @property
    def launches(self) -> int:
        """Of an update."""
        return len(launches(self)) + (0 if self.buckets is None else 2)


def first_small(layers: Sequence[Layer], least: int = 1) -> int:
    """The first layer, from `least`, from which on one program per member does all layers."""
    first, weights = len(layers), 0
    while first > least and weights + layers[first - 1].inputs * layers[first - 1].outputs <= SMALL:
        first -= 1
        weights += layers[first].inputs * layers[first].outputs
    return first


def allocate(
    params: Tensor,
    layers: Sequence[Layer],
    data: Any,
    order: Tensor,
    optimizer: str = "adam",
    decoupled: bool = False,
    anchor: Tensor | None = None,
    ranked: Tensor | None = None,
    precision: str = "ieee",
    below: Convolutions | None = None,
    keys: Tensor | None = None,
) -> Step:
    """Memory for calls with arguments of these shapes, with copies of the task's tables, the order and the target.

    Args:
        params: `[M, P]` float32, for its shape and device.
        layers: input to output.
        data: the task, as for ``cpu.train.train``.
        order: `[M, S, B]` int64.
        optimizer: ``adam``, ``adamw`` or ``sgd``.
        decoupled: whether weight decay is.
        anchor: `[M', P]` or None, see ``reference.pull``; of these and maybe more members that the step will train.
        ranked: `[M']` bool or None.
        precision: ``ieee``, or ``tf32`` for products of 10 bits of mantissa with all but small layers.
        below: of the first layers, if they are convolutions: ``gpu_conv_launches.convolutions_of``.
        keys: `[M', 2]` int64, of the masks of dropout; None where no layer has any.

    Returns:
        The memory.

    Raises:
        ValueError: if precision or an activation is unknown, or a layer has dropout and keys are None.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is unknown: got {precision!r}. Choose one of {', '.join(PRECISIONS)}.")
    if keys is None and any(layer.dropout for layer in layers):
        raise ValueError("keys must be given where a layer has dropout: got None. Pass one [M, 2] for each member.")
    (members, size), (_, steps, batch), device = params.shape, order.shape, params.device
    known, geometry = tables(layers, batch), below.geometry if below else ()
    shapes = torch.tensor(geometry, dtype=torch.int64).reshape(-1, 8)
    tiles = [
        (number, o, i)
        for number, layer in enumerate(layers)
        for bo, bi in [below.tile if below and number < len(geometry) else (UPDATE_OUTPUTS, UPDATE_INPUTS)]
        for o in range(0, layer.outputs, bo)
        for i in range(0, layer.inputs, bi)
    ]
    tiles += [
        (number, o, -1)
        for number, layer in enumerate(layers) if layer.normed for o in range(0, layer.outputs, UPDATE_OUTPUTS)
    ]  # fmt: skip
    tiles.sort(key=lambda tile: tile[0] >= len(geometry))

    def new(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(*shape, dtype=dtype, device=device)

    pull = NO_PULL
    if anchor is not None:
        pull = PULL_TO_TARGET if bool(anchor.any()) else PULL_TO_ZERO
    is_ranked = new(members, dtype=torch.bool) if ranked is None else ranked
    with_ranks = pull == PULL_TO_TARGET and bool(is_ranked.any())
    places = [(layer.weight, layer.inputs * layer.outputs) for layer in layers]

    step = Step(
        tuple(layers), first_small(layers, max(1, len(geometry))), batch, steps, optimizer, decoupled, pull, precision,
        params=new(members, size), m=new(members, size), v=new(*((1, 1) if optimizer == "sgd" else (members, size))),
        table=known.table.to(device), factors=known.factors.to(device), extras=known.extras.to(device),
        streams=new(members, STREAM_COLUMNS, dtype=torch.int64),
        geometry=torch.cat([shapes, known.extras[len(layers) :, :1]], 1).to(device),
        tiles=torch.tensor(tiles, dtype=torch.int32).to(device),
        first_tile=sum(number < len(geometry) for number, _, _ in tiles),
        **{name: getattr(data, name).clone() for name in ("images", "scale", "shift", "rows", "labels")},
        pixels=None if data.pixels is None else data.pixels.clone(),
        order=order.to(device, copy=True).contiguous(),
        values=new(members, known.width), deltas=new(members, known.width),
        winners=new(*((members, known.width) if below and below.pooled else (1, 1)), dtype=torch.uint8),
        chosen=new(members, batch, dtype=torch.int64), coefficients=new(steps, members, NUM_COEFFICIENTS),
        members=new(members, gpu.MEMBER_COLUMNS, dtype=torch.int64),
        sums=new(members, gpu.SUM_COLUMNS, dtype=torch.float64),
        partial=new(members, 2, len(tiles), dtype=torch.float64),
        q=new(*((members, size) if pull == PULL_TO_TARGET else (1, 1))),
        anchor=new(*((members, size) if with_ranks else (1, 1))),
        ranked=new(members, dtype=torch.int32),
        buckets=ranks.allocate(members, size, places, device) if with_ranks else None, below=below,
    )  # fmt: skip
    if anchor is not None:
        aim(step, anchor[:members], is_ranked[:members])
    if keys is not None:
        draw(step, keys[:members])
    return step


def aim(step: Step, anchor: Tensor, ranked: Tensor) -> None:
    """Sets what members are pulled to.

    Args:
        step: that was allocated for such targets.
        anchor: `[m, P]`, m at most M, see ``reference.pull``.
        ranked: `[m]` bool.
    """
    here = slice(len(anchor))
    if step.pull == PULL_TO_TARGET:
        step.q[here] = anchor
    if step.buckets is not None:
        step.anchor[here] = anchor
        step.ranked[here] = ranked.to(step.ranked)


def draw(step: Step, keys: Tensor) -> None:
    """Sets the keys of members' masks of dropout.

    Args:
        step: of which members.
        keys: `[m, 2]` int64, m at most M.
    """
    step.streams[: len(keys), :2] = keys.to(step.streams.device)


def launches(step: Step) -> list[Launch]:
    """What an update launches, before the ranks of the new weights are found.

    Args:
        step: of which update.

    Returns:
        In order: layers below `step.first` forward, the tail, the same layers backward, the update.
    """
    found = []
    for layer in range(step.convolutions, step.first):
        found.append(_forward(step, layer))
        if is_normed(step.layers[layer]) and layer < step.first - 1:  # or else the tail does it
            found.append(_normalise(step, layer))
    found.append(_tail(step))
    for layer in reversed(range(max(1, step.convolutions), step.first)):
        found.append(_backward(step, layer))
        if is_normed(step.layers[layer - 1]):
            found.append(_normalise_backward(step, layer - 1))
    before, after = step.below.launches(step) if step.below else ([], [])
    return [*before, *found, *after, _update(step)]


def update(step: Step) -> None:
    """One update of every member that has one to make: `step.launches` launches, the same whatever the data.

    Args:
        step: after `training.begin`; its params, m and, but by ``sgd``, v are updated.
    """
    for launch in launches(step):
        launch()
    if step.buckets is not None:
        ranks.scan(step.buckets)
        ranks.deal(step.buckets, step.anchor, step.q)


def products(step: Step) -> dict[str, Any]:
    """Constexprs of kernels that multiply matrices."""
    most = min(EXAMPLES, max(16, triton.next_power_of_2(step.batch)))
    return {"BATCH": step.batch, "BM": most, "PRECISION": step.precision, "BN": TAIL_OUTPUTS, "BK": TAIL_INPUTS}


def _forward(step: Step, layer: int) -> Launch:
    constants = {
        **switches(step.layers), "FIRST": layer == 0, "PERMUTED": step.pixels is not None,
        "ALIGNED": aligned(step.layers[layer : layer + 1]), **products(step), "BN": FIRST_OUTPUTS, "BK": FIRST_INPUTS,
    }  # fmt: skip
    grid = (ceil(step.layers[layer].outputs / FIRST_OUTPUTS), len(step.params))
    arguments = given(step, gpu.forward_kernel, layer=layer)
    return Launch(gpu.forward_kernel, grid, arguments, constants, FIRST_WARPS, FUSED)


def _tail(step: Step) -> Launch:
    constants = {
        **switches(step.layers), "ALIGNED": aligned(step.layers[step.first :]), **products(step),
        "PRECISION": "ieee", "BLOCK": PARTIALS,
        "CLASSES": max(2, triton.next_power_of_2(step.layers[-1].outputs)),
    }  # fmt: skip
    arguments = given(step, gpu.tail_kernel, first=step.first)
    options = NORMED_TAIL if constants["NORM"] else FUSED
    return Launch(gpu.tail_kernel, (len(step.params),), arguments, constants, TAIL_WARPS, options)


def _backward(step: Step, layer: int) -> Launch:
    constants = {
        **switches(step.layers), "ALIGNED": aligned(step.layers[layer : layer + 1]), **products(step)
    }  # fmt: skip
    below = step.layers[layer].inputs // widening(step.layers[layer - 1].activation)
    grid = (ceil(below / TAIL_OUTPUTS), len(step.params))
    arguments = given(step, gpu.backward_kernel, layer=layer)
    return Launch(gpu.backward_kernel, grid, arguments, constants, TAIL_WARPS, FUSED)


def _normalise(step: Step, layer: int) -> Launch:
    shape = products(step)
    constants = {name: {**switches(step.layers), **shape}[name] for name in ("CRELU", "DROPOUT", "BATCH", "BM", "BN")}
    grid = (ceil(step.batch / shape["BM"]), len(step.params))
    arguments = given(step, gpu_large.normalise_kernel, layer=layer)
    return Launch(gpu_large.normalise_kernel, grid, arguments, constants, TAIL_WARPS, FUSED)


def _normalise_backward(step: Step, layer: int) -> Launch:
    shape = products(step)
    constants = {name: shape[name] for name in ("BATCH", "BM", "BN")}
    grid = (ceil(step.batch / shape["BM"]), len(step.params))
    arguments = given(step, gpu_large.normalise_backward_kernel, layer=layer)
    return Launch(gpu_large.normalise_backward_kernel, grid, arguments, constants, TAIL_WARPS, FUSED)


def _update(step: Step) -> Launch:
    constants = {
        "NORM": switches(step.layers)["NORM"], **update_constants(step),
        "ALIGNED": aligned(step.layers[step.convolutions :]),
        "BO": UPDATE_OUTPUTS, "BI": UPDATE_INPUTS,
    }  # fmt: skip
    arguments = given(step, gpu.update_kernel, **bucket_tables(step))
    grid = (step.tiles.shape[0] - step.first_tile, len(step.params))
    return Launch(gpu.update_kernel, grid, arguments, constants, UPDATE_WARPS, wasserstein.OPTIONS)


def update_constants(step: Step) -> dict[str, Any]:
    """Constexprs of kernels that update."""
    return {
        "SGD": step.optimizer == "sgd", "PULL": step.pull, "INSERT": step.buckets is not None,
        "PERMUTED": step.pixels is not None, "BATCH": step.batch,
        **{name: getattr(wasserstein, name) for name in ("CAPACITY", "NUM_CELLS", "SHIFT")},
    }  # fmt: skip
