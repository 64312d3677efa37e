"""What may go wrong between a run and its training: a checkpoint that does not fit, code of the user's that fails."""

from __future__ import annotations

import contextlib
import sysconfig
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

import fastplast
from fastplast.config import METHOD_NAMES, Experiment
from fastplast.networks import ModuleNetwork
from fastplast.runs.files import StoreError
from fastplast.training.setup import Setup

_OTHERS = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))


def check_checkpoint(
    run: Path, stored: Mapping[str, Tensor], position: Mapping[str, Any], own: Mapping[str, Tensor], e: Experiment
) -> None:
    """Refuses a checkpoint that is whole but not of this run: another version's, or changed by hand.

    Args:
        run: the run directory.
        stored: its tensors by name.
        position: ``task`` and ``epoch``.
        own: the tensors that are needed.
        e: the experiment, resolved.

    Raises:
        StoreError: if a tensor is missing or of another shape or type, or the position is none of the experiment's.
    """
    place = f"{run / 'checkpoint'} must be of this run: got"
    mend = "Restore it from a copy, or remove it to train the run from its first task again."
    task, epoch = position.get("task"), position.get("epoch")
    fits = type(task) is int and type(epoch) is int and 0 <= task <= (e.tasks or 0) and 0 <= epoch < e.epochs
    if not fits or (task == e.tasks and epoch):
        raise StoreError(f"{place} task {task!r}, epoch {epoch!r} of {e.tasks} tasks of {e.epochs} epochs. {mend}")
    for name, tensor in own.items():
        if name not in stored:
            raise StoreError(f"{place} no tensor {name}. {mend}")
        found, needed = ((list(t.shape), t.dtype) for t in (stored[name], tensor))
        if found != needed:
            raise StoreError(f"{place} {name} of {found[0]}, {found[1]}, not {needed[0]}, {needed[1]}. {mend}")


@contextlib.contextmanager
def naming_user_code(setup: Setup, run: Path) -> Iterator[None]:
    """Adds to an error of a user's module or method where it was raised, and how to go on.

    Args:
        setup: what is trained.
        run: the run directory.

    Yields:
        Nothing.
    """
    try:
        yield
    except Exception as error:
        network = setup.group.network
        names = {f"method {m.method}" for m in setup.group.members if m.method not in METHOD_NAMES}
        names |= {f"network {network.name}"} if isinstance(network, ModuleNetwork) else set()
        own = Path(fastplast.__file__).parent
        theirs = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if not Path(frame.filename).is_relative_to(own) and not frame.filename.startswith(_OTHERS)
        ]
        add_note = getattr(error, "add_note", None)  # from Python 3.11 on
        if names and theirs and add_note is not None:
            at = theirs[-1]
            add_note(
                f"Raised by {' or '.join(sorted(names))} in {at.name}, {at.filename}, line {at.lineno}. Once that is "
                f"mended, fastplast.resume({str(run)!r}, ...) goes on from the last checkpoint."
            )
        raise
