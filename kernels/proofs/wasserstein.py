"""How the kernels of ``wasserstein.gpu`` are launched, for their budgets."""

from __future__ import annotations

from typing import Any

from fastplast_kernels.proofs.budgets import Configuration
from fastplast_kernels.wasserstein import gpu

_POINTERS = {
    **dict.fromkeys(("w_ptr", "init_ptr", "q_ptr", "map_ptr", "factor_ptr", "gradient_ptr", "partial_ptr"), "*fp32"),
    **dict.fromkeys(("layers_ptr", "slab_ptr", "spill_ptr"), "*i64"),
    **dict.fromkeys(("tiles_ptr", "histogram_ptr", "count_ptr", "base_ptr", "refresh_ptr", "ranked_ptr"), "*i32"),
    **dict.fromkeys(("spill_base_ptr", "spill_bucket_ptr", "spill_count_ptr", "spilled_ptr"), "*i32"),
}
_STRIDES = ("member_stride", "num_layers", "member_buckets")
_CONSTANTS = {
    name: getattr(gpu, name) for name in ("CAPACITY", "ROWS", "SHIFT", "NUM_CELLS", "BLOCK", "UNROLL", "FULL")
} | {"LOG_CAPACITY": gpu.CAPACITY.bit_length() - 1}


def _configuration(kernel: Any, num_warps: int = 4) -> Configuration:
    """How a kernel is launched, from the names of its arguments."""
    types = _POINTERS | dict.fromkeys((*_STRIDES, "length"), "i32")
    names = kernel.arg_names
    return Configuration(
        kernel,
        {name: types[name] for name in names if name in types},
        {name: _CONSTANTS[name] for name in names if name in _CONSTANTS},
        num_warps,
        tuple(name for name in names if name in _POINTERS or name in ("member_stride", "length")),
        gpu.OPTIONS,
    )


CONFIGURATIONS = {
    "wasserstein/histogram": _configuration(gpu.histogram_kernel),
    "wasserstein/insert": _configuration(gpu.insert_kernel),
    "wasserstein/scan": _configuration(gpu.scan_kernel),
    "wasserstein/rank": _configuration(gpu.rank_kernel, num_warps=1),
    "wasserstein/pull": _configuration(gpu.pull_kernel),
}
