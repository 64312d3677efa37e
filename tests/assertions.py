"""One way to compare numbers, with a tolerance from the dtype and the length of the sums behind them."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def tolerance(dtype: torch.dtype, length: int = 1, factor: float = 4.0) -> float:
    """Relative tolerance: rounding errors of a sum of `length` terms grow as a random walk, eps sqrt(length)."""
    return factor * torch.finfo(dtype).eps * math.sqrt(length)


def assert_close(
    name: str,
    actual: Tensor | np.ndarray | float,
    expected: Tensor | np.ndarray | float,
    *,
    dtype: torch.dtype = torch.float32,
    length: int = 1,
    factor: float = 4.0,
    scale: float | None = None,
) -> None:
    """Asserts |actual - expected| <= tolerance(dtype, length, factor) * scale; NaN equals NaN.

    `dtype` is the arithmetic that made the numbers, `scale` the size that rounding errors are relative to (by default
    the largest finite |expected|). A failure says which tensor, how far, how many times too far, and where first.

    Raises:
        AssertionError: if the shapes differ or an element is too far.
    """
    a, e = (
        value.detach().double().cpu() if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.float64)
        for value in (actual, expected)
    )
    assert a.shape == e.shape, f"{name}: shape {tuple(a.shape)}, expected {tuple(e.shape)}"
    if not a.numel():
        return
    same = (a == e) | (a.isnan() & e.isnan())
    difference = torch.where(same, 0.0, (a - e).abs()).nan_to_num(nan=math.inf)
    finite = e[e.isfinite()].abs()
    size = scale if scale is not None else (float(finite.max()) if len(finite) else 1.0)
    allowed = tolerance(dtype, length, factor) * size
    bad = difference > allowed
    if bad.any():
        where = tuple(torch.nonzero(bad)[0].tolist())
        worst = float(difference.max())
        raise AssertionError(
            f"{name}: max abs difference {worst:.3e} is {worst / allowed if allowed else math.inf:.3g} x the allowed "
            f"{allowed:.3e}; {int(bad.sum())} of {bad.numel()} bad, first at {where}: {float(a[where])!r}, expected "
            f"{float(e[where])!r}"
        )


def assert_same_bits(name: str, actual: Tensor, expected: Tensor) -> None:
    """Asserts equality to the bit, -0.0 and payloads of NaN included.

    Raises:
        AssertionError: if shapes, dtypes or bits differ.
    """
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype), (
        f"{name}: {actual.dtype} {tuple(actual.shape)}, expected {expected.dtype} {tuple(expected.shape)}"
    )
    a, e = (t.detach().cpu().contiguous().numpy() for t in (actual, expected))
    bad = (a.view(f"u{a.itemsize}") != e.view(f"u{e.itemsize}")) if a.ndim else np.asarray(a.tobytes() != e.tobytes())
    if bad.any():
        where = tuple(np.argwhere(bad)[0].tolist())
        raise AssertionError(
            f"{name}: {int(bad.sum())} of {bad.size} differ in bits, first at {where}: {a[where]!r}, "
            f"expected {e[where]!r}"
        )


def assert_same_state(a: Any, b: Any) -> None:
    """Two states of a group are the same bits, what methods keep as well."""
    assert a.tensors().keys() == b.tensors().keys()
    for name, tensor in a.tensors().items():
        assert torch.equal(tensor, b.tensors()[name]), name


class NothingWaitsForTheHost(TorchDispatchMode):
    """Forbids what cannot be captured in a graph: values made on the host, copies between devices, values read."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name, device = str(function), (kwargs or {}).get("device")
        assert not any(part in name for part in ("lift_fresh", "_local_scalar_dense", "nonzero")), name
        assert "_to_copy" not in name or device is None or device == args[0].device, f"{name} to {device}"
        return function(*args, **(kwargs or {}))


class NothingIsAllocated(NothingWaitsForTheHost):
    """Forbids new memory as well: work that must be made of memory that is there."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = super().__torch_dispatch__(function, types, args, kwargs)
        given, made = (
            {leaf.untyped_storage().data_ptr() for leaf in tree_leaves(values) if isinstance(leaf, Tensor)}
            for values in ((args, kwargs), result)
        )
        assert made <= given, f"{function} takes memory"
        return result
