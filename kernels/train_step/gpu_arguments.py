"""Launches of kernels, and their arguments from what a step keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastplast_kernels.train_step.gpu_tables import Layer


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


def given(step: Any, kernel: Any, **more: Any) -> dict[str, Any]:
    """The arguments that a kernel takes, by name, where they are fields of `step`."""
    known = {name.removesuffix("_ptr"): name for name in kernel.arg_names if name.endswith("_ptr")}
    tensors = {known[name]: value for name, value in vars(step).items() if name in known and name != "layers"}
    strides = {
        "layers_ptr": step.table, "pixels_ptr": step.rows if step.pixels is None else step.pixels,
        "params_stride": step.params.shape[1], "values_stride": step.values.shape[1],
        "examples": step.rows.shape[1], "steps": step.steps, "num_layers": len(step.layers),
        "partials": step.tiles.shape[0], "parameters": step.count, "num_members": len(step.members),
        "first_tile": step.first_tile,
    }  # fmt: skip
    every = {**tensors, **strides, **more}
    return {name: every[name] for name in kernel.arg_names if name in every}


def aligned(layers: Sequence[Layer]) -> bool:
    """Whether rows of weights start at multiples of 4 floats."""
    return not any(layer.inputs % 4 or layer.weight % 4 for layer in layers)


def bucket_tables(step: Any) -> dict[str, Any]:
    """Arguments of kernels that update, for ranked weights; of any tensor where there are none."""
    names = ("map", "count", "slab", "spill", "spill_bucket", "spill_count")
    buckets = step.buckets
    tables = {f"{name}_ptr": step.ranked if buckets is None else getattr(buckets, name) for name in names}
    rows = step.table if buckets is None else buckets.layers
    return {**tables, "rows_ptr": rows, "member_buckets": 0 if buckets is None else buckets.count.shape[1]}
