"""Memory and launches of the training step in `gpu`: what an engine keeps, calls, and may capture in a CUDA graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
import triton
from fastplast_kernels.mlp_step import gpu
from fastplast_kernels.mlp_step.gpu_parts import CODES
from fastplast_kernels.mlp_step.layers import DenseLayer
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


@dataclass(frozen=True)
class Step:
    """What launches of one shape need. Everything written by the kernels has an address of its own until released.

    Attributes:
        layers: input to output.
        first: layers below are forwarded by `forward_kernel`.
        batch: B.
        steps: S, updates of a call.
        optimizer: ``adam``, ``adamw`` or ``sgd``.
        decoupled: whether weight decay is.
        pull: `gpu.NO_PULL`, `gpu.PULL_TO_ZERO` or `gpu.PULL_TO_TARGET`.
        precision: of products in the passes forward and backward.
        table: `[L, 6]` int64, see `gpu_parts`.
        factors: `[L, 2]` float32.
        tiles: `[T, 3]` int32, of `update_kernel`.
        images: `[R, I]` uint8 or float32.
        pixels: `[M, I]` int64 or None.
        scale: `[I]` float32.
        shift: `[I]` float32.
        rows: `[M, N]` int64.
        labels: `[M, N]` int64.
        order: `[M, S, B]` int64.
        values: `[M, values]` float32, outputs of all layers.
        deltas: `[M, values]` float32.
        chosen: `[M, B]` int64, images of the current minibatch.
        coefficients: `[S, M, 10]` float32.
        members: `[M, 4]` int64, see `gpu`.
        sums: `[M, 6]` float64, see `gpu`.
        partial: `[M, 2, T]` float64.
        q: `[M, P]` float32, target of weights; of no size where there is none.
        anchor: `[M, P]`, q itself, or the sorted values of q of ranked members; None where there is no target.
        ranked: `[M]` int32.
        buckets: of the weights of ranked members; None where there are none.
    """

    layers: tuple[DenseLayer, ...]
    first: int
    batch: int
    steps: int
    optimizer: str
    decoupled: bool
    pull: int
    precision: str
    table: Tensor
    factors: Tensor
    tiles: Tensor
    images: Tensor
    pixels: Tensor | None
    scale: Tensor
    shift: Tensor
    rows: Tensor
    labels: Tensor
    order: Tensor
    values: Tensor
    deltas: Tensor
    chosen: Tensor
    coefficients: Tensor
    members: Tensor
    sums: Tensor
    partial: Tensor
    q: Tensor
    anchor: Tensor | None
    ranked: Tensor
    buckets: ranks.Buckets | None

    @property
    def count(self) -> int:
        """Parameters of a member, padding left out."""
        return sum(layer.count for layer in self.layers)

    @property
    def launches(self) -> int:
        """Of an update."""
        return 2 * self.first + 1 + (0 if self.buckets is None else 2)


def first_small(layers: Sequence[DenseLayer]) -> int:
    """The first layer, after layer 0, from which on one program per member does all layers."""
    first, weights = len(layers), 0
    while first > 1 and weights + layers[first - 1].inputs * layers[first - 1].outputs <= SMALL:
        first -= 1
        weights += layers[first].inputs * layers[first].outputs
    return first


def allocate(
    params: Tensor,
    layers: Sequence[DenseLayer],
    data: Any,
    order: Tensor,
    optimizer: str = "adam",
    decoupled: bool = False,
    anchor: Tensor | None = None,
    ranked: Tensor | None = None,
    precision: str = "ieee",
) -> Step:
    """Memory for calls with arguments of these shapes, with copies of the task's tables and the order.

    Args:
        params: `[M, P]` float32, for its shape and device.
        layers: input to output.
        data: the task, as for ``mlp_step.cpu.train``.
        order: `[M, S, B]` int64.
        optimizer: ``adam``, ``adamw`` or ``sgd``.
        decoupled: whether weight decay is.
        anchor: `[M, P]` or None, see ``reference.pull``.
        ranked: `[M]` bool or None.
        precision: ``ieee``, or ``tf32`` for products of 10 bits of mantissa.

    Returns:
        The memory.

    Raises:
        ValueError: if precision or an activation is unknown.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is unknown: got {precision!r}. Choose one of {', '.join(PRECISIONS)}.")
    for layer in layers:
        if layer.activation not in CODES:
            raise ValueError(f"activation is unknown: got {layer.activation!r}. Choose one of {', '.join(CODES)}.")
    (members, size), (_, steps, batch), device = params.shape, order.shape, params.device
    table, width = [], 0
    for layer in layers:
        table.append((layer.inputs, layer.outputs, layer.weight, layer.bias, width, CODES[layer.activation]))
        width += -(-batch * layer.outputs // 16) * 16
    tiles = [
        (number, o, i)
        for number, layer in enumerate(layers)
        for o in range(0, layer.outputs, UPDATE_OUTPUTS)
        for i in range(0, layer.inputs, UPDATE_INPUTS)
    ]
    pull = gpu.NO_PULL
    if anchor is not None:
        pull = gpu.PULL_TO_TARGET if bool(anchor.any()) else gpu.PULL_TO_ZERO
    is_ranked = torch.zeros(members, dtype=torch.bool) if ranked is None else ranked
    with_ranks = pull == gpu.PULL_TO_TARGET and bool(is_ranked.any())
    places = [(layer.weight, layer.inputs * layer.outputs) for layer in layers]

    def new(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(*shape, dtype=dtype, device=device)

    return Step(
        tuple(layers), first_small(layers), batch, steps, optimizer, decoupled, pull, precision,
        table=torch.tensor(table, dtype=torch.int64).to(device),
        factors=torch.tensor([(layer.slope, layer.pull) for layer in layers], dtype=torch.float32).to(device),
        tiles=torch.tensor(tiles, dtype=torch.int32).to(device),
        **{name: getattr(data, name).clone() for name in ("images", "scale", "shift", "rows", "labels")},
        pixels=None if data.pixels is None else data.pixels.clone(),
        order=order.to(device, copy=True).contiguous(),
        values=new(members, width), deltas=new(members, width),
        chosen=new(members, batch, dtype=torch.int64), coefficients=new(steps, members, gpu.NUM_COEFFICIENTS),
        members=new(members, gpu.MEMBER_COLUMNS, dtype=torch.int64),
        sums=new(members, gpu.SUM_COLUMNS, dtype=torch.float64),
        partial=new(members, 2, len(tiles), dtype=torch.float64),
        q=new(members, size) if pull == gpu.PULL_TO_TARGET else new(1, 1),
        anchor=None if anchor is None else anchor.contiguous(),
        ranked=is_ranked.to(device, torch.int32),
        buckets=ranks.allocate(members, size, places, device) if with_ranks else None,
    )  # fmt: skip


@dataclass(frozen=True)
class Launch:
    """A launch of a kernel.

    Attributes:
        kernel: the ``@triton.jit`` function.
        grid: programs.
        arguments: that are no constexpr, by name.
        constants: constexprs.
        num_warps: of a program.
        options: of the compiler.
    """

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    constants: dict[str, Any]
    num_warps: int
    options: dict[str, Any]

    def __call__(self) -> None:
        """Enqueues it."""
        self.kernel[self.grid](**self.arguments, **self.constants, num_warps=self.num_warps, **self.options)


def launches(step: Step, params: Tensor, m: Tensor, v: Tensor) -> list[Launch]:
    """What an update launches, before the ranks of the new weights are found.

    Args:
        step: of which update.
        params: `[M, P]`.
        m: `[M, P]`.
        v: `[M, P]`.

    Returns:
        In order: layers below `step.first` forward, the tail, the same layers backward, the update.
    """
    found = [_forward(step, params, layer) for layer in range(step.first)]
    found.append(_tail(step, params))
    found += [_backward(step, params, layer) for layer in reversed(range(1, step.first))]
    return [*found, _update(step, params, m, v)]


def update(step: Step, params: Tensor, m: Tensor, v: Tensor) -> None:
    """One update of every member that has one to make: `step.launches` launches, the same whatever the data.

    Args:
        step: after `training.begin`.
        params: `[M, P]`, updated.
        m: `[M, P]`, updated.
        v: `[M, P]`, updated but by ``sgd``.
    """
    for launch in launches(step, params, m, v):
        launch()
    if step.buckets is not None and step.anchor is not None:
        ranks.scan(step.buckets)
        ranks.deal(step.buckets, step.anchor, step.q)


def _given(step: Step, kernel: Any, **more: Any) -> dict[str, Any]:
    """The arguments that a kernel takes, by name, where they are fields of `step`."""
    known = {name.removesuffix("_ptr"): name for name in kernel.arg_names if name.endswith("_ptr")}
    tensors = {known[name]: value for name, value in vars(step).items() if name in known and name != "layers"}
    strides = {
        "layers_ptr": step.table, "pixels_ptr": step.rows if step.pixels is None else step.pixels,
        "params_stride": more["params_ptr"].shape[1], "values_stride": step.values.shape[1],
        "examples": step.rows.shape[1], "steps": step.steps, "num_layers": len(step.layers),
        "partials": step.tiles.shape[0], "parameters": step.count, "num_members": len(step.members),
    }  # fmt: skip
    every = {**tensors, **strides, **more}
    return {name: every[name] for name in kernel.arg_names if name in every}


def _aligned(layers: Sequence[DenseLayer]) -> bool:
    return not any(layer.inputs % 4 or layer.weight % 4 for layer in layers)


def _examples(step: Step) -> dict[str, Any]:
    most = min(EXAMPLES, max(16, triton.next_power_of_2(step.batch)))
    return {"BATCH": step.batch, "BM": most, "PRECISION": step.precision}


def _forward(step: Step, params: Tensor, layer: int) -> Launch:
    constants = {
        "FIRST": layer == 0, "PERMUTED": step.pixels is not None, "ALIGNED": _aligned(step.layers[layer : layer + 1]),
        **_examples(step), "BN": FIRST_OUTPUTS, "BK": FIRST_INPUTS,
    }  # fmt: skip
    grid = (ceil(step.layers[layer].outputs / FIRST_OUTPUTS), len(params))
    arguments = _given(step, gpu.forward_kernel, params_ptr=params, layer=layer)
    return Launch(gpu.forward_kernel, grid, arguments, constants, FIRST_WARPS, FUSED)


def _tail(step: Step, params: Tensor) -> Launch:
    constants = {
        "ALIGNED": _aligned(step.layers[step.first :]), **_examples(step), "BN": TAIL_OUTPUTS, "BK": TAIL_INPUTS,
        "CLASSES": max(2, triton.next_power_of_2(step.layers[-1].outputs)), "BLOCK": PARTIALS,
    }  # fmt: skip
    arguments = _given(step, gpu.tail_kernel, params_ptr=params, first=step.first)
    return Launch(gpu.tail_kernel, (len(params),), arguments, constants, TAIL_WARPS, FUSED)


def _backward(step: Step, params: Tensor, layer: int) -> Launch:
    constants = {
        "ALIGNED": _aligned(step.layers[layer : layer + 1]), **_examples(step), "BN": TAIL_OUTPUTS, "BK": TAIL_INPUTS,
    }  # fmt: skip
    grid = (ceil(step.layers[layer].inputs / TAIL_OUTPUTS), len(params))
    arguments = _given(step, gpu.backward_kernel, params_ptr=params, layer=layer)
    return Launch(gpu.backward_kernel, grid, arguments, constants, TAIL_WARPS, FUSED)


def _update(step: Step, params: Tensor, m: Tensor, v: Tensor) -> Launch:
    constants = {
        "SGD": step.optimizer == "sgd", "PULL": step.pull, "INSERT": step.buckets is not None,
        "PERMUTED": step.pixels is not None, "ALIGNED": _aligned(step.layers), "BATCH": step.batch,
        "BO": UPDATE_OUTPUTS, "BI": UPDATE_INPUTS,
        **{name: getattr(wasserstein, name) for name in ("CAPACITY", "NUM_CELLS", "SHIFT")},
    }  # fmt: skip
    names = ("map", "count", "slab", "spill", "spill_bucket", "spill_count")
    buckets = step.buckets
    tables = {f"{name}_ptr": step.ranked if buckets is None else getattr(buckets, name) for name in names}
    rows = step.table if buckets is None else buckets.layers
    state = {"params_ptr": params, "m_ptr": m, "v_ptr": v, **tables, "rows_ptr": rows}
    arguments = _given(
        step, gpu.update_kernel, **state, member_buckets=0 if buckets is None else buckets.count.shape[1]
    )
    grid = (step.tiles.shape[0], len(params))
    return Launch(gpu.update_kernel, grid, arguments, constants, UPDATE_WARPS, wasserstein.OPTIONS)
