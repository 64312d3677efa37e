"""What is done when a GPU's memory does not suffice."""

from __future__ import annotations

import gc
import warnings

import torch

from fastplast.config import ConfigError


def release_and_warn(what: str) -> None:
    """Releases GPU memory that is cached and not in use, and warns the user of what happens next.

    Args:
        what: it does not suffice for, and what is done instead.
    """
    gc.collect()  # what an exception's frames held in a cycle
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    warnings.warn(f"GPU memory does not suffice for {what}.", stacklevel=3)


def halve_members(at_once: int, members: int) -> int:
    """How many members to train at once where memory does not suffice for so many.

    Args:
        at_once: for how many it does not.
        members: of the group.

    Returns:
        Half as many, rounded up.

    Raises:
        ConfigError: if one by itself does not fit.
    """
    if at_once == 1:
        raise ConfigError(
            "what trains one member must fit in GPU memory beside the state of all: got "
            f"{members:,} members. Use fewer --seeds, or fastplast sweep: its batches fit."
        )
    return -(-at_once // 2)
