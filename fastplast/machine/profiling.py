"""Named ranges of time for Nsight Systems: by the package nvtx or, on a GPU without it, by PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

DOMAIN = "fastplast"


@cache
def _make_range() -> Callable[[str], AbstractContextManager[Any]]:
    """What makes a range of a message."""
    try:
        import nvtx
    except ImportError:
        import torch

        return torch.cuda.nvtx.range if torch.cuda.is_available() else lambda message: nullcontext()
    return lambda message: nvtx.annotate(message=message, domain=DOMAIN)


def annotate(message: str) -> AbstractContextManager[Any]:
    """A range around what a ``with`` block does; next to nothing without a tool.

    Args:
        message: its name.

    Returns:
        The context manager.
    """
    return _make_range()(message)


def annotate_each(name: str, numbers: Iterable[int]) -> Iterator[int]:
    """Numbers, with a range around what a ``for`` loop does with each.

    Args:
        name: what they count; the range is called ``name number``.
        numbers: to loop over.

    Yields:
        The numbers.
    """
    for number in numbers:
        with annotate(f"{name} {number}"):
            yield number
