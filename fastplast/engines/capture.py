"""An update as a CUDA graph: launches are recorded once and replayed, and the host prepares none of them again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_WARM = 3  # updates before capture: libraries choose algorithms and take their memory


def capture(work: Callable[[], None], changed: Sequence[Tensor]) -> Callable[[], None]:
    """Records what `work` launches on the current CUDA device.

    Args:
        work: reads and writes the same memory at every call, and asks for no value.
        changed: all that it changes; left as it was.

    Returns:
        Does the work again.

    Raises:
        RuntimeError: if something in `work` cannot be captured.
    """
    kept = [tensor.clone() for tensor in changed]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARM):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    for tensor, before in zip(changed, kept):
        tensor.copy_(before)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # another thread may be measuring
        work()
    return graph.replay
