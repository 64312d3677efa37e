"""Work in the background while the caller does something else: in a thread, on a GPU on a stream of its own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Generic, TypeVar

import torch

Result = TypeVar("Result")


class BackgroundWorker(Generic[Result]):
    """Does one piece of work at a time, whose inputs nobody may change until its result was asked for.

    Leaving the context waits for work that was begun.

    Args:
        device: on which the work is done.
        at_once: do it in the caller's thread instead, before ``submit`` returns.
    """

    def __init__(self, device: torch.device, at_once: bool) -> None:
        self._threads = None if at_once else ThreadPoolExecutor(1, "fastplast-background")
        self._device = device
        self._stream: Any = None if at_once or device.type != "cuda" else torch.cuda.Stream(device)
        self._pending: Future[Result] | None = None

    def __enter__(self) -> BackgroundWorker[Result]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)

    @property
    def is_pending(self) -> bool:
        """Whether work was submitted whose result was not yet asked for."""
        return self._pending is not None

    @property
    def is_done(self) -> bool:
        """Whether ``result`` would return without waiting."""
        return self._pending is not None and self._pending.done()

    def submit(self, work: Callable[[], Result]) -> None:
        """Begins work, on a GPU once what the caller has launched is done.

        Args:
            work: what to do.
        """
        assert self._pending is None
        if self._threads is None:
            self._pending = Future()
            self._pending.set_result(work())
            return
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
        self._pending = self._threads.submit(self._do, work)

    def result(self) -> Result:
        """Waits for the work submitted last.

        Returns:
            Its result, all of it computed.

        Raises:
            Exception: what the work raised.
        """
        assert self._pending is not None
        pending, self._pending = self._pending, None
        return pending.result()

    def _do(self, work: Callable[[], Result]) -> Result:
        if self._stream is None:
            return work()
        with torch.cuda.stream(self._stream):  # streams and devices are chosen for each thread
            try:
                return work()
            finally:
                self._stream.synchronize()
