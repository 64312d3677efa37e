"""What is done when a GPU's memory does not suffice."""

from __future__ import annotations

import gc
import warnings

import torch


def give_back(what: str) -> None:
    """Gives memory that is cached but not in use back to the GPU, and tells the user what happens next.

    Args:
        what: it does not suffice for, and what is done instead.
    """
    gc.collect()  # what an exception's frames held in a cycle
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    warnings.warn(f"GPU memory does not suffice for {what}.", stacklevel=3)
