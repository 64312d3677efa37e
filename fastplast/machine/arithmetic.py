"""Arithmetic of libraries where truth is computed: float32 in full, by the same algorithm every time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import torch

_LOCK = Lock()
_users_settings: list[tuple[torch.dtype, int]] = []  # of every call that is under way; the first has the user's


@contextmanager
def restored_settings() -> Iterator[None]:
    """Tensors without a dtype are float32 here; afterwards default dtype and number of threads are the user's again.

    Yields:
        Nothing.
    """
    with _LOCK:  # calls from several threads overlap, and the last to end restores what the first found
        _users_settings.append((torch.get_default_dtype(), torch.get_num_threads()))
        torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        with _LOCK:
            dtype, threads = _users_settings[0]
            torch.set_num_threads(threads)  # each thread has its own
            if len(_users_settings) == 1:
                torch.set_default_dtype(dtype)
                _users_settings.clear()
            else:
                _users_settings.pop()


def use_full_float32() -> None:
    """Turns off in this process what gives products of float32 fewer bits, or other bits in another run, on a GPU.

    cuDNN otherwise convolves in TF32, with a mantissa of 10 bits, and may choose algorithms that add in any order.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
