"""What Triton's interpreter lets a test do that a GPU does not: choose the order of programs, count bytes."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def mend_loop_bounds() -> None:
    """Lets an argument of one element bound a loop: from NumPy 2.4 on, Triton 3.6's interpreter fails to convert it."""
    from triton.runtime import interpreter

    patch_tensor = interpreter._patch_lang_tensor

    def patched(tensor: type, scope: object) -> None:
        patch_tensor(tensor, scope)
        tensor.__index__ = lambda self: self.handle.data.item()  # undone with what `patch_tensor` has set

    interpreter._patch_lang_tensor = patched


def patch_language_once() -> None:
    """Patches Triton's language once a launch: by itself Triton does so at every call of a function in a kernel.

    That takes a third of the time. What is patched is the same, and is undone when the launch ends.
    """
    from triton import language
    from triton.runtime import interpreter

    patch_language, scopes = interpreter._patch_lang, []
    seen_by_kernels = SimpleNamespace(__globals__={"tl": language, "core": language.core})

    def patched(_: object) -> object:
        if not scopes:
            scope = patch_language(seen_by_kernels)
            restore = scope.restore

            def end() -> None:
                scopes.clear()
                restore()

            scope.restore = end
            scopes.append(scope)
        return scopes[0]

    interpreter._patch_lang = patched


def leave_out_checks_of_overflow() -> None:
    """Lets whole numbers add and multiply without asking at each whether 32 bits hold the result.

    That takes another third of the time, and offsets within the small arrays of tests never come near.
    """
    from triton.runtime import interpreter

    options = interpreter.interpreter_builder.options
    interpreter.interpreter_builder.options = dataclasses.replace(options, sanitize_overflow=False)


@contextlib.contextmanager
def permuted_programs(seed: int | None) -> Iterator[None]:
    """Runs the programs of every launch in a random order; as they come if `seed` is None or on a GPU."""
    if seed is None or not INTERPRETED:
        yield
        return
    from triton.runtime import interpreter

    builder, rng = interpreter.interpreter_builder, np.random.default_rng(seed)
    set_dim, set_index, order = builder.set_grid_dim, builder.set_grid_idx, {}

    def new_grid(*grid: int) -> None:
        set_dim(*grid)
        order[0], order[1] = grid, rng.permutation(np.prod(grid))

    def shuffled(*index: int) -> None:
        number = order[1][np.ravel_multi_index(index, order[0])]
        set_index(*(int(i) for i in np.unravel_index(number, order[0])))

    with patch.object(builder, "set_grid_dim", new_grid), patch.object(builder, "set_grid_idx", shuffled):
        yield


@contextlib.contextmanager
def unseen_launches() -> Iterator[None]:
    """Hides from dispatch modes what the interpreter does to launch a kernel: a GPU does none of it."""
    if not INTERPRETED:
        yield
        return
    from triton.runtime.interpreter import GridExecutor

    launch = GridExecutor.__call__

    def unseen(executor: object, *arguments: object, **options: object) -> None:
        with _disable_current_modes():
            launch(executor, *arguments, **options)

    with patch.object(GridExecutor, "__call__", unseen):
        yield


class Traffic:
    """Launches, the distinct addresses that they read and wrote, and how many atomic additions they made."""

    def __init__(self) -> None:
        self.read: dict[int, int] = {}
        self.written: dict[int, int] = {}
        self.additions = 0
        self.launches = 0

    @property
    def bytes_read(self) -> int:
        return sum(self.read.values())

    @property
    def bytes_written(self) -> int:
        return sum(self.written.values())


@contextlib.contextmanager
def counted_traffic() -> Iterator[Traffic]:
    """Counts the bytes of everything launched inside, in the interpreter."""
    from triton.runtime import interpreter

    traffic, native = Traffic(), interpreter._interpreter

    def note(seen: dict[int, int], pointers: np.ndarray, mask: np.ndarray, width: int) -> None:
        seen.update(dict.fromkeys(np.broadcast_to(pointers, mask.shape)[mask].ravel().tolist(), width))

    class Counted:
        def __getattr__(self, name: str) -> object:
            return getattr(native, name)

        def load(self, pointers: np.ndarray, mask: np.ndarray, other: np.ndarray, dtype: np.dtype) -> np.ndarray:
            note(traffic.read, pointers, mask, np.dtype(dtype).itemsize)
            return native.load(pointers, mask, other, dtype)

        def store(self, pointers: np.ndarray, value: np.ndarray, mask: np.ndarray) -> None:
            note(traffic.written, pointers, mask, value.dtype.itemsize)
            native.store(pointers, value, mask)

        def atomic_rmw(self, op: object, pointers: object, value: object, mask: np.ndarray, sem: object) -> np.ndarray:
            traffic.additions += int(mask.sum())
            return native.atomic_rmw(op, pointers, value, mask, sem)

    builder = interpreter.interpreter_builder
    set_dim = builder.set_grid_dim

    def new_grid(*grid: int) -> None:
        traffic.launches += 1
        set_dim(*grid)

    with patch.object(interpreter, "_interpreter", Counted()), patch.object(builder, "set_grid_dim", new_grid):
        yield traffic


def poison(*tensors: Tensor) -> None:
    """Fills with NaN, or with a large negative number: whatever is not written will show."""
    for tensor in tensors:
        tensor.fill_(torch.nan if tensor.dtype.is_floating_point else -(10**6))
