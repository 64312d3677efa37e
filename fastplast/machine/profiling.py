"""Named ranges of time for Nsight Systems: the one door to the package nvtx, which may be missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

DOMAIN = "fastplast"


@cache
def _nvtx() -> Any:
    """The package, None where it is not installed."""
    try:
        import nvtx
    except ImportError:
        return None
    return nvtx


def annotate(message: str) -> AbstractContextManager[Any]:
    """A range around what a ``with`` block does; nothing without the package, next to nothing without a tool.

    Args:
        message: its name.

    Returns:
        The context manager.
    """
    nvtx = _nvtx()
    return nullcontext() if nvtx is None else nvtx.annotate(message=message, domain=DOMAIN)


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
