"""Sends a run to a store while it trains: after each task, and at the end."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Iterator
from pathlib import Path

from fastplast.stores import Pusher
from fastplast.training.loop import Event, TaskDone


def storing(path: Path, events: Iterator[Event], url: str) -> Iterator[Event]:
    """Sends a run as events announce that it has more. A store that fails ends nothing: the next task tries again.

    Args:
        path: of the run.
        events: from ``training``.
        url: of the place in the store; of a shard that of its sweep. See ``stores.check_store``.

    Yields:
        The same events.
    """
    pusher, by_hand = Pusher(path, url), f"by `fastplast push {shlex.quote(str(path))} {url}`"
    for event in events:
        yield event
        if isinstance(event, TaskDone):
            _try_to_push(pusher, f"after the next task, or {by_hand}")
    _try_to_push(pusher, by_hand)


def _try_to_push(pusher: Pusher, again: str) -> None:
    try:
        pusher.push()
    except (OSError, ValueError) as error:
        text = f"{error} Training is not concerned: the results are whole in {pusher.path}, and are sent {again}."
        warnings.warn(text, stacklevel=3)
