"""Arrays of numbers as few characters: 16 bits a value, base64. What draws them needs no more than a screen shows."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

MISSING, ZERO = 65535, 65534  # codes of NaN, and of 0 where the other codes are logarithms
_TOP = 65533
_DECADES = 1e3  # from this ratio on, positive values keep their digits only on a logarithmic scale


def pack(values: np.ndarray) -> dict[str, Any]:
    """Codes of an array: value = low + step * code, or its exponential.

    Whole numbers that span less than 65,534 are kept exactly; other values to 1/65,533 of their span, or of the span of
    their logarithms if they are not negative and span more than three decades.

    Args:
        values: any shape; NaN is kept.

    Returns:
        ``shape``, ``low``, ``step``, ``log`` and ``data``: base64 of little-endian uint16.
    """
    x = np.asarray(values, np.float64)
    finite = np.isfinite(x)
    known = x[finite]
    codes = np.full(x.shape, MISSING, np.uint16)
    low, step, log = 0.0, 1.0, False
    if known.size:
        positive = known[known > 0]
        log = bool(known.min() >= 0 and positive.size and positive.max() > _DECADES * positive.min())
        scale = np.log(positive) if log else known
        low, span = float(scale.min()), float(scale.max() - scale.min())
        whole = not log and span <= _TOP and bool((known == np.round(known)).all())
        step = 1.0 if whole else span / _TOP or 1.0
        coded = np.log(np.where(known > 0, known, 1.0)) if log else known
        found = np.clip(np.round((coded - low) / step), 0, _TOP)
        codes[finite] = np.where(known > 0, found, ZERO) if log else found
    data = base64.b64encode(codes.astype("<u2").tobytes()).decode()
    return {"shape": list(x.shape), "low": low, "step": step, "log": log, "data": data}
