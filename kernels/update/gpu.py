"""Adam, the pull to a target, its penalty and the insertion into buckets in one pass over the weights, in Triton.

What a fused training step inlines, as a kernel of its own that takes its gradients from memory: the proof that it all
fits in registers and vector loads, and the update for any loop that has gradients.
"""

from __future__ import annotations

import triton
import triton.language as tl
from fastplast_kernels.budgets import Configuration
from fastplast_kernels.wasserstein import gpu as wasserstein
from fastplast_kernels.wasserstein.gpu import insert, layer_offset, layer_row, pull

# Columns of the coefficients of a member, float32 [M, 8], formed in float64 once a step and rounded once.
COEFFICIENTS = (
    "beta1",
    "1 - beta1",
    "beta2",
    "1 - beta2",
    "step size",
    "root of correction 2",
    "epsilon",
    "2 strength",
)
_NUM_COEFFICIENTS = tl.constexpr(len(COEFFICIENTS))


@triton.jit
def adam(w, g, m, v, coefficients_ptr):
    """New w, m and v by the formulas of ``reference.update``, division and root rounded to nearest."""
    m = m + tl.load(coefficients_ptr + 1) * (g - m)
    v = tl.load(coefficients_ptr + 2) * v + tl.load(coefficients_ptr + 3) * (g * g)
    denominator = tl.div_rn(tl.sqrt_rn(v), tl.load(coefficients_ptr + 5)) + tl.load(coefficients_ptr + 6)
    return w - tl.load(coefficients_ptr + 4) * tl.div_rn(m, denominator), m, v


@triton.jit
def adam_kernel(
    w_ptr, g_ptr, m_ptr, v_ptr, q_ptr, coefficients_ptr, factor_ptr, partial_ptr,
    layers_ptr, tiles_ptr, map_ptr, count_ptr, slab_ptr, spill_ptr, spill_bucket_ptr, spill_count_ptr,
    member_stride, num_layers, member_buckets,
    INSERT: tl.constexpr, ALIGNED: tl.constexpr,
    CAPACITY: tl.constexpr, NUM_CELLS: tl.constexpr, SHIFT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One update of the weights of all layers; program (block of a layer, member).

    Args:
        w_ptr: weights `[M, stride]`, updated. So are the moments m and v.
        g_ptr: gradient of the loss.
        m_ptr: first moment.
        v_ptr: second moment.
        q_ptr: target that the weights are pulled to, ranked from the weights as they come in.
        coefficients_ptr: `[M, 8]`, see COEFFICIENTS.
        factor_ptr: `[L]`, c of each layer: 1/d or 1.
        partial_ptr: `[2, M, blocks]`, sums of (w - q)^2 before and of |change| over each block.
        layers_ptr: table of layers. The next seven are those of ``wasserstein.buckets.Buckets``.
        tiles_ptr: its blocks.
        map_ptr: of the rows.
        count_ptr: of the buckets.
        slab_ptr: of the buckets.
        spill_ptr: of the rows.
        spill_bucket_ptr: of the rows.
        spill_count_ptr: of the rows.
        member_stride: parameters of a member.
        num_layers: of a member.
        member_buckets: buckets of a member.
        INSERT: whether the new weights are inserted into buckets.
        ALIGNED: whether offsets, lengths and the stride are multiples of 4, for vector loads.
        CAPACITY: slots of a bucket.
        NUM_CELLS: of the map.
        SHIFT: of the map.
        BLOCK: weights of a program.
    """
    layer = tl.load(tiles_ptr + 2 * tl.program_id(0))
    index = tl.load(tiles_ptr + 2 * tl.program_id(0) + 1) * BLOCK + tl.arange(0, BLOCK)
    member = tl.program_id(1).to(tl.int64)
    offset, length = layer_offset(layers_ptr, layer, ALIGNED)
    start = member * member_stride + offset
    inside = index < length
    w = tl.load(w_ptr + start + index, mask=inside, other=0.0)
    g = tl.load(g_ptr + start + index, mask=inside, other=0.0)
    m = tl.load(m_ptr + start + index, mask=inside, other=0.0)
    v = tl.load(v_ptr + start + index, mask=inside, other=0.0)
    q = tl.load(q_ptr + start + index, mask=inside, other=0.0)
    coefficients_ptr += member * _NUM_COEFFICIENTS
    pulled, square = pull(w, q, tl.load(coefficients_ptr + 7) * tl.load(factor_ptr + layer))
    new_w, m, v = adam(w, g + pulled, m, v, coefficients_ptr)
    tl.store(w_ptr + start + index, new_w, mask=inside)
    tl.store(m_ptr + start + index, m, mask=inside)
    tl.store(v_ptr + start + index, v, mask=inside)
    partial_ptr += member * tl.num_programs(0) + tl.program_id(0)
    tl.store(partial_ptr, tl.sum(square, 0))
    change = tl.where(inside, tl.abs(new_w - w), 0.0)
    tl.store(partial_ptr + tl.num_programs(0) * tl.num_programs(1), tl.sum(change, 0))
    if INSERT:
        num_buckets, bucket, row = layer_row(layers_ptr, layer, member, num_layers, member_buckets)
        insert(
            new_w, index, inside, map_ptr + row * (NUM_CELLS + 1), count_ptr + bucket, slab_ptr + bucket * CAPACITY,
            spill_ptr + start, spill_bucket_ptr + start, spill_count_ptr + row, num_buckets, CAPACITY, SHIFT,
        )  # fmt: skip


def _configuration(insert: bool) -> Configuration:
    pointers = [name for name in adam_kernel.arg_names if name.endswith("_ptr")]
    kinds = wasserstein.POINTERS
    constants = {"INSERT": insert, "ALIGNED": True, **wasserstein.CONSTANTS}
    return Configuration(
        adam_kernel,
        {name: kinds.get(name, "*fp32") for name in pointers} | dict.fromkeys(wasserstein.STRIDES, "i32"),
        {name: constants[name] for name in adam_kernel.arg_names if name in constants},
        aligned=(*pointers, "member_stride"),
        options=wasserstein.OPTIONS,
    )


CONFIGURATIONS = {"update/adam_pull": _configuration(False), "update/adam_pull_insert": _configuration(True)}
