"""Tensors to a safetensors file, one piece at a time.

The library's own writer first makes a second copy of everything, which for a thousand members is gigabytes. The format
is a length, a JSON header and the bytes of the tensors (https://huggingface.co/docs/safetensors). Files are read with
the library.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

_PIECE = 1 << 24  # bytes
_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def pieces(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """The content of a safetensors file.

    Args:
        tensors: name to tensor, of any shape, on any device.

    Yields:
        Consecutive pieces; those of a contiguous tensor on the CPU are views of its memory.

    Raises:
        TypeError: if a tensor has a dtype that is not served.
    """
    # Widest elements first, as the library does: every tensor then starts at a multiple of its element's size.
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header, end = {}, 0
    for name in order:
        tensor = tensors[name]
        if tensor.dtype not in _NAMES:
            raise TypeError(f"{name} must have one of the dtypes {', '.join(_NAMES.values())}: got {tensor.dtype}.")
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in order:
        flat = tensors[name].detach().cpu().contiguous().reshape(-1)
        data = flat.view(torch.uint8).numpy()
        for start in range(0, len(data), _PIECE):
            yield data[start : start + _PIECE].data
