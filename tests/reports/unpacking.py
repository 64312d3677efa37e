"""The inverse of what the report packs, as its script computes it."""

import base64

import numpy as np

from fastplast.reports.packing import MISSING, ZERO


def unpack(packed):
    codes = np.frombuffer(base64.b64decode(packed["data"]), "<u2").reshape(packed["shape"])
    values = packed["low"] + packed["step"] * codes.astype(np.float64)
    if packed["log"]:
        values = np.where(codes == ZERO, 0.0, np.exp(values))
    return np.where(codes == MISSING, np.nan, values)
