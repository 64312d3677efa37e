"""The training step of many multilayer perceptrons on a GPU, in Triton: three launches if layers above are small.

1. `forward_kernel`, program (tile of outputs, member): the first layer; inputs are gathered from the dataset in memory.
2. `tail_kernel`, program (member): the last update is confirmed, then the other layers forward, the loss, and backward
   to the gradients D with respect to pre-activations.
3. `update_kernel`, program (tile of a weight matrix, member): D' h, a sum over the minibatch in registers, the pull to
   a target, the optimiser, the norms of the change and, for ranked targets, the insertion into buckets.

Layers too large for one program per member take part with a launch forward and one backward each. Gradients of weights
never reach memory. Every sum has an order that follows from the shapes of one member, and there are no float atomics:
a member's bits do not depend on its batch mates. Nothing waits for the host: each member counts its own updates in
memory, so that launches can be captured in a CUDA graph and replayed.

A loss that is not finite stops a member before its update. A change that is not finite is known only when parts of it
are written: the member stops, and ``training`` brings it back to its start and up to just before that update.
"""

from __future__ import annotations

import triton
import triton.language as tl
from fastplast_kernels.dropout.gpu import STREAM_COLUMNS
from fastplast_kernels.optimisers import NUM_COEFFICIENTS
from fastplast_kernels.train_step.gpu_dense import EXTRA_COLUMNS, backward_tile, forward_tile, narrow
from fastplast_kernels.train_step.gpu_norm import gradients_at, normalise, normalise_backward, update_norm
from fastplast_kernels.train_step.gpu_parts import (
    inputs_of,
    layer_of,
    softmax_cross_entropy,
    update_tile,
    weight_gradient,
)

# Arguments of the kernels, the same in all of a training step: M members of P parameters and N examples, S updates of a
# call, B examples of a minibatch, L layers, T tiles, R images, I inputs, C classes.
#   params_ptr, m_ptr, v_ptr       float32 [M, P]  parameters, moments or momentum buffers, second moments, not by sgd
#   q_ptr                          float32 [M, P]  target of weights, where PULL is PULL_TO_TARGET
#   values_ptr                     float32 [M, values]  outputs h of all layers, each [B, O]; 0 beyond a ragged batch
#   deltas_ptr                     float32 [M, values]  D of all layers, likewise
#   images_ptr                     uint8 or float32 [R, I]
#   scale_ptr, shift_ptr           float32 [I]  input i is image * scale[p] + shift[p], p = pixels[m, i] or i
#   pixels_ptr                     int64 [M, I]  where PERMUTED
#   rows_ptr, labels_ptr           int64 [M, N]  image and label of each example; rows_ptr of kernels that update is
#                                  the table of layers of the buckets
#   order_ptr                      int64 [M, S, B]  examples; -1 from the end of a ragged batch on
#   chosen_ptr                     int64 [M, B]  images of the minibatch
#   coefficients_ptr               float32 [S, M, 10]  see `optimisers`
#   members_ptr, sums_ptr          int64 [M, 4], float64 [M, 6]  see below
#   partial_ptr                    float64 [M, 2, T]  sums of |change| and of its square of each tile of an update
#   layers_ptr, factors_ptr        int64 [L, 6], float32 [L, 2]  see `gpu_parts`
#   extras_ptr                     int64 [L + convolutions, 7]  see `gpu_dense`
#   streams_ptr                    int64 [M, 3]  see ``dropout.gpu``
#   tiles_ptr                      int32 [T, 3]  layer, first output, first input of a tile; -1 of scales and shifts
#   ranked_ptr                     int32 [M]  whether new weights are inserted into buckets
#   map_ptr, count_ptr, slab_ptr, spill_ptr, spill_bucket_ptr, spill_count_ptr  see ``wasserstein.buckets.Buckets``
#   params_stride, values_stride, examples, steps, num_members, num_layers, partials  P, values, N, S, M, L, T
#   parameters                     of a member, padding left out
#   layer, first, first_tile       numbers: of a layer, of the lowest small layer, of the first tile of a launch
#   member_buckets                 buckets of a member
#   NORM, CRELU, DROPOUT           whether any layer has it
#   FIRST, PERMUTED                whether the layer's inputs are images, and whether their pixels are permuted
#   ALIGNED                        whether rows of weights start at multiples of 4 floats, for vector loads
#   SGD, PULL, INSERT              or else Adam; NO_PULL, PULL_TO_ZERO or PULL_TO_TARGET; whether any member is ranked
#   BATCH, CLASSES                 B, and C rounded up to a power of 2
#   BM, BN, BK, BO, BI             examples, outputs and terms of a sum at a time; outputs and inputs of a tile
#   PRECISION                      of products: ieee or tf32
#   CAPACITY, NUM_CELLS, SHIFT     of the buckets, see ``wasserstein.gpu``

# Columns of the table of members, int64 [M, 4].
POSITION, OPEN, LIMIT, STOPPED = range(4)
MEMBER_POSITION = tl.constexpr(POSITION)  # updates of this call that are confirmed
MEMBER_OPEN = tl.constexpr(OPEN)  # 1 while another is made, but not confirmed
MEMBER_LIMIT = tl.constexpr(LIMIT)  # the member stops before this update
_STOPPED = tl.constexpr(STOPPED)  # 0, or why: BY_LOSS, BY_UPDATE
MEMBER_COLUMNS = 4
_MEMBER = tl.constexpr(MEMBER_COLUMNS)
BY_LOSS, BY_UPDATE = 1, 2
_BY_LOSS, _BY_UPDATE = tl.constexpr(BY_LOSS), tl.constexpr(BY_UPDATE)

# Columns of the sums, float64 [M, 6]: the four that are returned, then loss and error of the update that is open.
SUM_COLUMNS = 6
_SUMS = tl.constexpr(SUM_COLUMNS)
_NUM_COEFFICIENTS = tl.constexpr(NUM_COEFFICIENTS)
_EXTRAS, _STREAMS = tl.constexpr(EXTRA_COLUMNS), tl.constexpr(STREAM_COLUMNS)


@triton.jit
def confirm(members_ptr, sums_ptr, partial_ptr, partials, parameters, BLOCK: tl.constexpr):
    """Adds the open update to the sums, or stops the member if its change is not finite. Pointers are the member's.

    Returns:
        Position of the next update, and that before which the member stops: what is stored may not be loaded again
        here, because one thread stores it while others are on their way.
    """
    at = tl.load(members_ptr + MEMBER_POSITION)
    limit = tl.load(members_ptr + MEMBER_LIMIT)
    if tl.load(members_ptr + MEMBER_OPEN) != 0:
        ones = tl.zeros([BLOCK], tl.float64)
        squares = tl.zeros([BLOCK], tl.float64)
        for start in range(0, partials, BLOCK):
            here = start + tl.arange(0, BLOCK)
            inside = here < partials
            ones += tl.load(partial_ptr + here, mask=inside, other=0.0)
            squares += tl.load(partial_ptr + partials + here, mask=inside, other=0.0)
        l1 = tl.sum(ones, 0)
        tl.debug_barrier()  # every thread has read what one of them will now change
        if l1 - l1 == 0:
            tl.store(sums_ptr, tl.load(sums_ptr) + tl.load(sums_ptr + 4))
            tl.store(sums_ptr + 1, tl.load(sums_ptr + 1) + tl.load(sums_ptr + 5))
            tl.store(sums_ptr + 2, tl.load(sums_ptr + 2) + l1 / parameters)
            tl.store(sums_ptr + 3, tl.load(sums_ptr + 3) + tl.sqrt(tl.sum(squares, 0)))
            at += 1
            tl.store(members_ptr + MEMBER_POSITION, at)
        else:
            limit = at
            tl.store(members_ptr + MEMBER_LIMIT, limit)
            tl.store(members_ptr + _STOPPED, _BY_UPDATE)
        tl.store(members_ptr + MEMBER_OPEN, 0)
    return at, limit


@triton.jit
def confirm_kernel(members_ptr, sums_ptr, partial_ptr, partials, parameters, BLOCK: tl.constexpr):
    """Confirms the last update of a call; program (member)."""
    member = tl.program_id(0).to(tl.int64)
    partial_ptr += 2 * member * partials
    confirm(members_ptr + _MEMBER * member, sums_ptr + _SUMS * member, partial_ptr, partials, parameters, BLOCK)


@triton.jit
def forward_kernel(
    params_ptr, values_ptr, images_ptr, pixels_ptr, scale_ptr, shift_ptr, rows_ptr, order_ptr, members_ptr,
    layers_ptr, factors_ptr, extras_ptr, streams_ptr, layer, params_stride, values_stride, examples, steps,
    NORM: tl.constexpr, CRELU: tl.constexpr, DROPOUT: tl.constexpr, FIRST: tl.constexpr, PERMUTED: tl.constexpr,
    ALIGNED: tl.constexpr, BATCH: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Values h = f(x W' + b) of one layer; program (BN outputs, member)."""
    member = tl.program_id(1).to(tl.int64)
    members_ptr += _MEMBER * member
    at = tl.load(members_ptr + MEMBER_POSITION) + tl.load(members_ptr + MEMBER_OPEN)
    if at >= tl.load(members_ptr + MEMBER_LIMIT):
        return
    inputs, outputs, weight, bias, output, code, slope, _ = layer_of(layers_ptr, factors_ptr, layer, ALIGNED)
    params_ptr += member * params_stride
    values_ptr += member * values_stride
    source = 0
    if not FIRST:
        source = inputs_of(layers_ptr, layer)
    for start in range(0, BATCH, BM):
        b = start + tl.arange(0, BM)
        chosen = tl.load(order_ptr + (member * steps + at) * BATCH + b, mask=b < BATCH, other=-1)
        valid = chosen >= 0
        image = tl.load(rows_ptr + member * examples + chosen, mask=valid, other=0)
        forward_tile(
            params_ptr + weight, params_ptr + bias, values_ptr + source, values_ptr + output, values_ptr,
            images_ptr, image, pixels_ptr + member * inputs, scale_ptr, shift_ptr,
            b, valid, b < BATCH, tl.program_id(0) * BN, inputs, outputs, code, slope,
            extras_ptr + _EXTRAS * layer, streams_ptr + _STREAMS * member, at,
            NORM, CRELU, DROPOUT, FIRST, PERMUTED, BM, BN, BK, PRECISION,
        )  # fmt: skip


@triton.jit
def tail_kernel(
    params_ptr, values_ptr, deltas_ptr, rows_ptr, labels_ptr, order_ptr, chosen_ptr, members_ptr, sums_ptr,
    partial_ptr, layers_ptr, factors_ptr, extras_ptr, streams_ptr, first, num_layers, params_stride, values_stride,
    examples, steps, partials, parameters,
    NORM: tl.constexpr, CRELU: tl.constexpr, DROPOUT: tl.constexpr, ALIGNED: tl.constexpr, BATCH: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, CLASSES: tl.constexpr, BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Confirms the last update; layers `first` and above forward, loss, and backward; program (member).

    Layer `first` and all above are small: BN outputs and BK terms of a sum at a time, BLOCK partial sums at a time.
    """
    member = tl.program_id(0).to(tl.int64)
    members_ptr += _MEMBER * member
    sums_ptr += _SUMS * member
    at, limit = confirm(members_ptr, sums_ptr, partial_ptr + 2 * member * partials, partials, parameters, BLOCK)
    if at >= limit:
        return
    params_ptr += member * params_stride
    values_ptr += member * values_stride
    deltas_ptr += member * values_stride
    rows_ptr += member * examples
    labels_ptr += member * examples
    order_ptr += (member * steps + at) * BATCH
    streams_ptr += _STREAMS * member
    lowest = first
    if NORM:
        lowest = first - 1  # whose outputs are there, but not normalised
    for layer in range(lowest, num_layers):
        inputs, outputs, weight, bias, output, code, slope, _ = layer_of(layers_ptr, factors_ptr, layer, ALIGNED)
        made, above = outputs, layer
        if NORM:
            made, above = tl.where(layer >= first, outputs, 0), tl.maximum(layer, 1)
        source = inputs_of(layers_ptr, above)
        tl.debug_barrier()  # what the layer below stored is read by other threads
        for start in range(0, BATCH, BM):
            b = start + tl.arange(0, BM)
            valid = tl.load(order_ptr + b, mask=b < BATCH, other=-1) >= 0
            for n in range(0, made, BN):
                forward_tile(
                    params_ptr + weight, params_ptr + bias, values_ptr + source, values_ptr + output, values_ptr,
                    values_ptr, b, rows_ptr, params_ptr, params_ptr, b, valid, b < BATCH, n, inputs, outputs, code,
                    slope, extras_ptr + _EXTRAS * layer, streams_ptr, at,
                    NORM, CRELU, DROPOUT, False, False, BM, BN, BK, PRECISION,
                )  # fmt: skip
        if NORM:
            tl.debug_barrier()
            for start in range(0, BATCH, BM):
                normalise(
                    params_ptr, values_ptr, order_ptr, layers_ptr, factors_ptr, extras_ptr, layer, start, streams_ptr,
                    at, CRELU, DROPOUT, BATCH, BM, BN,
                )  # fmt: skip
    tl.debug_barrier()
    _, classes, _, _, output, _, _, _ = layer_of(layers_ptr, factors_ptr, num_layers - 1, False)
    loss, errors, count = softmax_cross_entropy(
        values_ptr + output, deltas_ptr + output, rows_ptr, labels_ptr, order_ptr, chosen_ptr + member * BATCH,
        classes, BATCH, BM, CLASSES,
    )  # fmt: skip
    if loss - loss != 0:
        tl.store(members_ptr + MEMBER_LIMIT, at)
        tl.store(members_ptr + _STOPPED, _BY_LOSS)
        return
    tl.store(sums_ptr + 4, (loss / count).to(tl.float64))
    tl.store(sums_ptr + 5, errors.to(tl.float64) / count.to(tl.float64))
    tl.store(members_ptr + MEMBER_OPEN, 1)
    for below in range(0, num_layers - first):
        layer = num_layers - 1 - below
        inputs, outputs, weight, _, output, _, _, _ = layer_of(layers_ptr, factors_ptr, layer, ALIGNED)
        _, _, _, _, source, code, slope, _ = layer_of(layers_ptr, factors_ptr, layer - 1, False)
        target = gradients_at(extras_ptr + _EXTRAS * (layer - 1), source, NORM)
        tl.debug_barrier()
        for start in range(0, BATCH, BM):
            for i in range(0, narrow(inputs, code, CRELU), BN):
                backward_tile(
                    params_ptr + weight, deltas_ptr + output, values_ptr + source, deltas_ptr + target, start, i,
                    inputs, outputs, code, slope, extras_ptr + _EXTRAS * (layer - 1), streams_ptr, at,
                    CRELU, DROPOUT, BATCH, BM, BN, BK, PRECISION,
                )  # fmt: skip
        if NORM:
            tl.debug_barrier()
            for start in range(0, BATCH, BM):
                normalise_backward(
                    params_ptr, values_ptr, deltas_ptr, layers_ptr, factors_ptr, extras_ptr, layer - 1, start,
                    BATCH, BM, BN,
                )  # fmt: skip


@triton.jit
def backward_kernel(
    params_ptr, values_ptr, deltas_ptr, members_ptr, layers_ptr, factors_ptr, extras_ptr, streams_ptr, layer,
    params_stride, values_stride,
    NORM: tl.constexpr, CRELU: tl.constexpr, DROPOUT: tl.constexpr, ALIGNED: tl.constexpr, BATCH: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """D of the layer below a large one; program (BN inputs of the layer, member)."""
    member = tl.program_id(1).to(tl.int64)
    members_ptr += _MEMBER * member
    if tl.load(members_ptr + MEMBER_OPEN) == 0:
        return
    at = tl.load(members_ptr + MEMBER_POSITION)
    inputs, outputs, weight, _, output, _, _, _ = layer_of(layers_ptr, factors_ptr, layer, ALIGNED)
    _, _, _, _, source, code, slope, _ = layer_of(layers_ptr, factors_ptr, layer - 1, False)
    values_ptr += member * values_stride
    deltas_ptr += member * values_stride
    target = gradients_at(extras_ptr + _EXTRAS * (layer - 1), source, NORM)
    for start in range(0, BATCH, BM):
        backward_tile(
            params_ptr + member * params_stride + weight, deltas_ptr + output, values_ptr + source,
            deltas_ptr + target, start, tl.program_id(0) * BN, inputs, outputs, code, slope,
            extras_ptr + _EXTRAS * (layer - 1), streams_ptr + _STREAMS * member, at,
            CRELU, DROPOUT, BATCH, BM, BN, BK, PRECISION,
        )  # fmt: skip


@triton.jit
def update_kernel(
    params_ptr, m_ptr, v_ptr, q_ptr, values_ptr, deltas_ptr, images_ptr, pixels_ptr, scale_ptr, shift_ptr, chosen_ptr,
    coefficients_ptr, members_ptr, partial_ptr, layers_ptr, factors_ptr, extras_ptr, tiles_ptr,
    ranked_ptr, rows_ptr, map_ptr, count_ptr, slab_ptr, spill_ptr, spill_bucket_ptr, spill_count_ptr,
    first_tile, params_stride, values_stride, partials, num_members, num_layers, member_buckets,
    NORM: tl.constexpr, SGD: tl.constexpr, PULL: tl.constexpr, INSERT: tl.constexpr, PERMUTED: tl.constexpr,
    ALIGNED: tl.constexpr, BATCH: tl.constexpr, BO: tl.constexpr, BI: tl.constexpr,
    CAPACITY: tl.constexpr, NUM_CELLS: tl.constexpr, SHIFT: tl.constexpr,
):  # fmt: skip
    """One update of weights and biases, in place; program (tile of a layer, member)."""
    member = tl.program_id(1).to(tl.int64)
    members_ptr += _MEMBER * member
    if tl.load(members_ptr + MEMBER_OPEN) == 0:
        return
    tile = first_tile + tl.program_id(0)
    layer = tl.load(tiles_ptr + 3 * tile)
    first_input = tl.multiple_of(tl.load(tiles_ptr + 3 * tile + 2), BI)
    o = tl.load(tiles_ptr + 3 * tile + 1) + tl.arange(0, BO)
    i = first_input + tl.arange(0, BI)
    inputs, outputs, weight, bias, output, _, _, factor = layer_of(layers_ptr, factors_ptr, layer, ALIGNED)
    values_ptr += member * values_stride
    if NORM and tl.load(tiles_ptr + 3 * tile + 2) < 0:
        start = member * params_stride
        coefficients_ptr += (tl.load(members_ptr + MEMBER_POSITION) * num_members + member) * _NUM_COEFFICIENTS
        update_norm(
            o, outputs, params_ptr + start, m_ptr + start, v_ptr + start, values_ptr,
            deltas_ptr + member * values_stride, coefficients_ptr, partial_ptr + 2 * member * partials + tile,
            extras_ptr + _EXTRAS * layer, partials, SGD, BATCH, BO,
        )  # fmt: skip
        return
    deltas_ptr += member * values_stride + output
    chosen_ptr += member * BATCH
    if layer == 0:
        g, bias_g = weight_gradient(
            values_ptr, deltas_ptr, images_ptr, chosen_ptr, pixels_ptr + member * inputs, scale_ptr, shift_ptr,
            o, i, inputs, outputs, True, PERMUTED, BATCH, BO, BI,
        )  # fmt: skip
    else:
        g, bias_g = weight_gradient(
            values_ptr + inputs_of(layers_ptr, layer), deltas_ptr, values_ptr, chosen_ptr, pixels_ptr, scale_ptr,
            shift_ptr, o, i, inputs, outputs, False, False, BATCH, BO, BI,
        )  # fmt: skip
    coefficients_ptr += (tl.load(members_ptr + MEMBER_POSITION) * num_members + member) * _NUM_COEFFICIENTS
    update_tile(
        g, bias_g, o, i, first_input == 0, inputs, outputs, weight, bias, factor, layer, member,
        params_ptr, m_ptr, v_ptr, q_ptr, coefficients_ptr, partial_ptr + 2 * member * partials + tile,
        ranked_ptr, rows_ptr, map_ptr, count_ptr, slab_ptr, spill_ptr, spill_bucket_ptr, spill_count_ptr,
        params_stride, partials, num_layers, member_buckets, SGD, PULL, INSERT, BO, BI, CAPACITY, NUM_CELLS, SHIFT,
    )  # fmt: skip
