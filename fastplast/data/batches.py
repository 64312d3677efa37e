"""Reads the pickled batches of CIFAR-10's Python version without executing what a pickle can ask for.

A pickle is a program: on loading, it may import any name and call it. The batches need a few names only, of numpy's
array protocol. Here each of them is an inert stand-in that remembers its arguments, and every other name is refused
before it is looked up, so that a batch from an unknown place can do no more than fail to be read.
"""

import io
import pickle
import pickletools
from typing import Any

import numpy as np

from fastplast.bounded import reason

PIXEL_TYPES = ("u1", "|u1", "uint8", "B")


class _Inert:
    """Stands for whatever the pickle wants built: keeps the arguments and the state, does nothing."""

    def __init__(self, *arguments: Any):
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Array(_Inert):
    """Stands for `numpy.core.multiarray._reconstruct(ndarray, shape, typecode)`."""


class _Dtype(_Inert):
    """Stands for `numpy.dtype(code, align, copy)`."""


ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Inert,  # the pickle only names it
    ("numpy", "dtype"): _Dtype,
}
_GETS = ("GET", "BINGET", "LONG_BINGET")
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")


def _check_program(content: bytes) -> None:
    """Refuses, before anything is built, a program whose few bytes would take the machine's memory or time.

    The memory of what was read is as large as the largest number in it that a program names; and a tuple of one tuple
    several times, that of another, takes for ever to hash. Batches number from 0 and use no tuple twice.

    Raises:
        ValueError: for either.
    """
    memo: dict[int, bool] = {}  # whether what was put there is a tuple
    before = ""
    for opcode, argument, _ in pickletools.genops(content):
        name = opcode.name
        if name in _PUTS:
            number = len(memo) if name == "MEMOIZE" else argument
            if not isinstance(number, int) or number > 2 * len(memo) + 64:
                raise ValueError(f"it numbers what was read up to {number}")
            memo[number] = "TUPLE" in before
        elif name == "DUP" or (name in _GETS and memo.get(argument)):  # pyright: ignore[reportArgumentType] - of a GET
            raise ValueError("it uses a tuple twice")
        before = name


class _RestrictedUnpickler(pickle.Unpickler):
    """An unpickler that knows the names of `ALLOWED` and imports nothing.

    Args:
        content: the pickle.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")
        self._left = len(content)  # bytes that texts may still become, which a program may ask for again and again

    def _encode(self, text: str, encoding: str = "latin1") -> bytes:
        # In place of `_codecs.encode(text, "latin1")`, by which Python 3 spells bytes in protocol 2; no other codec.
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"asks for the codec {_text(encoding)!r}")
        self._left -= len(text)
        if self._left < 0:
            raise pickle.UnpicklingError("becomes more bytes than it has")
        return text.encode("latin1")

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) == ("_codecs", "encode"):
            return self._encode
        if (module_name, global_name) not in ALLOWED:
            raise pickle.UnpicklingError(f"asks for {module_name}.{global_name}, which no CIFAR-10 batch needs")
        return ALLOWED[module_name, global_name]


def read_batch(content: bytes, most: int = 255) -> tuple[np.ndarray, np.ndarray]:
    """Reads one pickled batch.

    Args:
        content: the bytes of `data_batch_1` and its like: a pickled dict with `data`, a uint8 array `[R, C*H*W]`, and
            `labels`, a list of R whole numbers. Keys may be bytes (the official files, by Python 2) or text.
        most: the largest label.

    Returns:
        The pixels, uint8 `[R, C*H*W]`, and the labels, int64 `[R]`.

    Raises:
        ValueError: the bytes are no such pickle, or they ask for a name outside numpy's array protocol.
    """
    try:
        _check_program(content)
        batch = _RestrictedUnpickler(content).load()
    except Exception as error:  # a damaged pickle fails in as many ways as there are opcodes
        raise ValueError(f"not a readable CIFAR-10 batch: {reason(error)}") from error
    if not isinstance(batch, dict):
        raise ValueError(f"not a CIFAR-10 batch: expected a pickled dict, found {type(batch).__name__}")
    fields = {_text(key): value for key, value in batch.items()}
    if "data" not in fields or "labels" not in fields:
        found = ", ".join(sorted(fields)[:10])[:200] or "nothing"
        raise ValueError(f"not a CIFAR-10 batch: expected the keys data and labels, found {found}")
    pixels = _pixels(fields["data"])
    labels = fields["labels"]
    is_list = isinstance(labels, list) and all(type(label) is int and 0 <= label <= most for label in labels)
    if not is_list or len(labels) != len(pixels):
        raise ValueError(f"expected a list of {len(pixels):,} labels in 0..{most}, one for each image")
    return pixels, np.array(labels, dtype=np.int64)


def _text(key: Any) -> str:
    # Of anything else only its type: what contains itself twice takes for ever to write.
    text = key.decode("latin1") if isinstance(key, bytes) else key
    return text[:200] if isinstance(text, str) else type(text).__name__


def _shown(shape: Any) -> str:
    is_plain = isinstance(shape, tuple) and len(shape) < 10 and all(type(n) is int and abs(n) < 1 << 64 for n in shape)
    return str(shape) if is_plain else type(shape).__name__


def _pixels(array: Any) -> np.ndarray:
    # The state of an array is (version, shape, dtype, Fortran order, bytes).
    if not isinstance(array, _Array) or not isinstance(array.state, tuple) or len(array.state) != 5:
        raise ValueError("expected the images as a numpy array")
    _, shape, dtype, is_fortran, content = array.state
    code = _text(dtype.arguments[0]) if isinstance(dtype, _Dtype) and dtype.arguments else "?"
    if code not in PIXEL_TYPES:
        raise ValueError(f"expected images of type uint8, found {code}")
    if not (isinstance(shape, tuple) and len(shape) == 2 and all(type(size) is int and size >= 0 for size in shape)):
        raise ValueError(f"expected images as a matrix, found the shape {_shown(shape)}")
    if not isinstance(content, bytes) or len(content) != shape[0] * shape[1]:
        found = len(content) if isinstance(content, bytes) else type(content).__name__
        raise ValueError(f"expected {shape[0] * shape[1]:,} pixel bytes, found {found}")
    matrix = np.frombuffer(content, np.uint8).reshape(shape, order="F" if is_fortran else "C")
    return np.ascontiguousarray(matrix)
