"""A module's forward pass: in which order it uses its parameters, and what enters its last linear layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves


class ForwardPass(TorchFunctionMode):
    """Watches what a thread computes within a ``with`` block, whether layers are called as modules or as functions.

    Args:
        parameters: by name, the tensors that the module computes with.

    Attributes:
        linear_inputs: `[..., I]` that entered the last ``nn.Linear`` or ``functional.linear``; None if there was none.
    """

    def __init__(self, parameters: dict[str, Tensor]) -> None:
        super().__init__()
        self.linear_inputs: Tensor | None = None
        self._names = {id(tensor): name for name, tensor in parameters.items()}
        self._used: dict[str, None] = {}

    @property
    def used(self) -> tuple[str, ...]:
        """Names of the parameters that something was computed with, in the order of their last use."""
        return tuple(self._used)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Calls `func`, as PyTorch asks of a mode, and notes what it was given."""
        named = kwargs or {}
        found = func(*args, **named)
        if not any(isinstance(leaf, Tensor) for leaf in tree_leaves(found)):
            return found  # a shape or a dtype was asked for
        if func is functional.linear:
            self.linear_inputs = args[0] if args else named["input"]
        for leaf in tree_leaves((args, named)):
            if (name := self._names.get(id(leaf))) is not None:
                self._used.pop(name, None)
                self._used[name] = None
        return found
