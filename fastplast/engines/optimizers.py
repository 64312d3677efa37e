"""Update rules by name, and those of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from fastplast_kernels.optimisers import Hyperparameters
from fastplast_kernels.update import update
from torch import Tensor

from fastplast.config import OPTIMIZERS as NAMES
from fastplast.config import add_own
from fastplast.registered import RegisteredError, named

Moved = tuple[Tensor, Tensor, Tensor]  # new parameters and moments


@dataclass(frozen=True)
class Step:
    """What an update rule sees of the members, `M` of them.

    Attributes:
        params: `[M, P]`, less what decoupled weight decay takes away.
        grads: `[M, P]` of the batch's loss, with penalties and coupled weight decay.
        m: `[M, P]`, zero before the first update.
        v: `[M, P]`, likewise.
        number: `[M]` int64, of this update, from 1, or from the last reset of the optimizer.
        hyper: hyperparameters, `[M]` float64 each.
        decoupled: whether weight decay is apart from the gradient.
        coefficients: of ``adam``, where weights count updates of their own; else None.
    """

    params: Tensor
    grads: Tensor
    m: Tensor
    v: Tensor
    number: Tensor
    hyper: Hyperparameters
    decoupled: bool
    coefficients: tuple[Tensor, Tensor] | None = None

    def column(self, name: str) -> Tensor:
        """A hyperparameter (``learning_rate``, ``beta1``, ``beta2``, ``epsilon``, ``momentum``) as `[M, 1]` float32."""
        return getattr(self.hyper, name).float()[:, None]

    def decayed(self) -> Step:
        """With weight decay applied: to the parameters, or in the gradient."""
        decay = self.column("weight_decay")
        if self.decoupled:
            return replace(self, params=self.params * (1.0 - self.column("learning_rate") * decay))
        return replace(self, grads=torch.where(decay != 0, self.grads + decay * self.params, self.grads))


@dataclass(frozen=True)
class Optimizer:
    """An update rule, element by element.

    Attributes:
        rule: from a step to new parameters, m and v, each `[M, P]`; what it sees is left as it is.
        summary: one line.
        reference: where it comes from.
        has_kernels: whether kernels have the rule under its name, weight decay included; else the engine ``vmap``
            applies it with plain tensors.
    """

    rule: Callable[[Step], Moved]
    summary: str = ""
    reference: str = ""
    has_kernels: bool = False


def _by_kernels(name: str) -> Callable[[Step], Moved]:
    def rule(step: Step) -> Moved:
        s = step
        return update(s.params, s.grads, s.m, s.v, s.number, s.hyper, name, s.decoupled, s.coefficients)

    return rule


OPTIMIZERS: dict[str, Optimizer] = {
    "adam": Optimizer(_by_kernels("adam"), "Adam", "Kingma, Ba 2015", has_kernels=True),
    "adamw": Optimizer(
        _by_kernels("adamw"), "Adam with decoupled weight decay", "Loshchilov, Hutter 2019", has_kernels=True
    ),
    "sgd": Optimizer(_by_kernels("sgd"), "gradient descent, with momentum if asked for", has_kernels=True),
}


def register(name: str, optimizer: Optimizer) -> None:
    """Makes an update rule of one's own known to this process: to train with it, and to resume what it trained.

    Args:
        name: what ``Experiment(optimizer=...)`` calls it.
        optimizer: its rule.

    Raises:
        ValueError: if the name is one of the package's.
    """
    add_own("optimizer", name, NAMES)
    OPTIMIZERS[name] = optimizer


def take_step(name: str, step: Step) -> Moved:
    """One step of an optimizer, weight decay included.

    Args:
        name: of the optimizer.
        step: what its rule sees.

    Returns:
        New params, m and v.

    Raises:
        RegisteredError: if the rule fails, or gives no such tensors.
    """
    optimizer = OPTIMIZERS[name]
    if optimizer.has_kernels:
        return optimizer.rule(step)
    place = f"rule of the optimizer {name!r} at update {int(step.number.max())}"
    with named(place, "optimizer"), torch.no_grad():
        found = optimizer.rule(step.decayed())
    shapes = [tuple(getattr(tensor, "shape", ())) for tensor in found] if isinstance(found, tuple) else []
    if shapes != [tuple(step.params.shape)] * 3:
        raise RegisteredError(
            f"{place} must give parameters, m and v, each {list(step.params.shape)}: got "
            f"{', '.join(str(list(shape)) for shape in shapes) or type(found).__name__}."
        )
    return found
