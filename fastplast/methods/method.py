"""What a method against plasticity loss is: what it pulls weights to, or functions that are called at their moment.

The moments of an update are, in order: ``gradient`` before the optimiser, ``rule`` in place of it, ``after_update``,
``observe`` and ``choose_units`` after it; and ``at_task`` at a change of task. A hook sees the members that use its
method, `m` of them, whatever others are in the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from fastplast_kernels.optimisers import Hyperparameters
from torch import Tensor

from fastplast.methods.resets import USUAL, Reset
from fastplast.networks import AnyNetwork
from fastplast.networks.layout import Layout
from fastplast.problems import Task


@dataclass(frozen=True)
class Users:
    """The members that use a method, `m` of them.

    Attributes:
        network: of all of them.
        seeds: one for each.
        strength: `[m]` float64.
        options: hyperparameter, without the method's name, to `[m]` float64; of words, to `[m]` int64 positions among
            the choices.
        choices: the words of those that take one.
        hyper: of the optimiser.
        batch_size: examples of a minibatch; the last of an epoch may have fewer.
    """

    network: AnyNetwork
    seeds: list[int]
    strength: Tensor
    options: dict[str, Tensor]
    choices: dict[str, tuple[str, ...]]
    hyper: Hyperparameters
    batch_size: int

    @property
    def layout(self) -> Layout:
        """Of a row of parameters."""
        return self.network.layout

    def column(self, name: str) -> Tensor:
        """A hyperparameter as `[m, 1]` float32, to be multiplied with rows."""
        return self.options[name].float()[:, None]

    def chosen(self, name: str, word: str) -> Tensor:
        """`[m]` bool, who has this word for a hyperparameter."""
        return self.options[name] == self.choices[name].index(word)


@dataclass(frozen=True)
class Seen:
    """What a hook sees. Nothing of it is to be changed but ``state``.

    Attributes:
        users: the members.
        number: `[m]` int64, of this update, from 1; at a change of task, of the last.
        params: `[m, P]`; before the update in ``gradient`` and ``rule``, after it in the others. This, and what follows
            but ``state`` and ``task``, is empty in the ``choose_units`` of a method with ``observe``.
        m: `[m, P]` first moments.
        v: `[m, P]` second moments.
        init: `[m, P]` initial parameters.
        state: what the method keeps, by name; tensors `[m, ...]`, changed in place.
        task: that is trained on; at a change, that begins.
        grads: `[m, P]` of the batch's loss, after ``gradient`` with what it added; empty at a change of task, and for
            methods that read parameters only.
        features: activations of each hidden layer on the batch, `[m, B, O]` or `[m, B, O, height, width]`, before the
            update and before pooling and dropout; only where the method asks for them.
    """

    users: Users
    number: Tensor
    params: Tensor
    m: Tensor
    v: Tensor
    init: Tensor
    state: dict[str, Tensor]
    task: Task
    grads: Tensor
    features: list[Tensor] = field(default_factory=list)

    def of_each(self, work: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        """What work gives for each member's own part of some tensors, stacked.

        Matrix products and other long sums are to be taken so: of a whole batch, their bits depend on its size.
        """
        return torch.stack([work(*own) for own in zip(*tensors)])


Hook = Callable[[Seen], Any]


@dataclass(frozen=True)
class KernelHook:
    """A hook of updates that the kernels of the cpu engine do, too; see ``train_step.actions`` there.

    They do it for a method without an anchor and another such hook; ``choose_units`` goes with ``after_update``.

    Attributes:
        hook: the definition, which the other engines call.
        kind: of what the kernels do. Its parts are what the method keeps, by name.
        settings: from the members to the numbers of the kind, each `[m]`.
        of_layers: from the members and their initial parameters `[m, P]` to a number of each layer, `[m, L]`; None for
            none.
        draws: from the members to `[m]` bool, who needs normal numbers.
        serves: from the members to `[m]` bool, for whom kernels do it; of ``after_update`` only.
    """

    hook: Hook
    kind: str
    settings: Callable[[Users], Sequence[Tensor]] = lambda users: ()
    of_layers: Callable[[Users, Tensor], Tensor] | None = None
    draws: Callable[[Users], Tensor] = lambda users: torch.zeros(len(users.seeds), dtype=torch.bool)
    serves: Callable[[Users], Tensor] = lambda users: torch.ones(len(users.seeds), dtype=torch.bool)

    def __call__(self, seen: Seen) -> Any:
        """What the hook gives."""
        return self.hook(seen)


@dataclass(frozen=True)
class Watch:
    """How the kernels of the cpu engine do what ``observe`` does; see ``train_step.units`` there.

    Attributes:
        kind: of what is watched. Its parts are what the method keeps, ``<part>.<layer>``.
        settings: from the members to the numbers of the kind, each `[m]`.
    """

    kind: str
    settings: Callable[[Users], Sequence[Tensor]]


@dataclass(frozen=True)
class Method:
    """A method against plasticity loss. A hook that is None is not called.

    Attributes:
        anchor: from initial parameters `[m, P]` and their layout to the anchor `[m, P]`; None for no pull.
        ranked: whether the anchor is dealt out by rank (then each weight matrix of the anchor is sorted).
        summary: one line for ``fastplast list methods``; the package's own are in ``fastplast.config``.
        reference: where it comes from; likewise.
        takes_strength: whether a method without an anchor takes a strength; 0 is no method.
        is_neutral: from the hyperparameters of a member, by name, to whether they make it no method, to the bit.
        is_idle_in_updates: from the same to whether no hook but ``at_task`` does anything.
        begin: from the members and their initial parameters to what the method keeps, tensors `[m, ...]` by name.
        gradient: gives `[m, P]`, added to the gradient of the loss before the optimiser sees it.
        rule: gives new parameters `[m, P]`, in place of the optimiser; moments stay as they are.
        after_update: gives new parameters `[m, P]`, or None where none has changed.
        observe: takes account of what units did in the update, in ``state``, for ``choose_units``.
        choose_units: gives `[m, O]` bool for each hidden layer: units to be reset. With ``observe`` it knows the update
            by its number and ``state``, and may be left out where it would choose none and change nothing.
        watch: how the cpu engine observes; None if it cannot.
        at_task: gives new parameters `[m, P]` before a task other than the first, or None.
        reads_params_only: whether ``after_update`` reads neither gradients nor features: then the cpu engine can call
            it between its fused updates, for members for whom its kernels do not do it themselves.
        needs_features: whether hooks read the features.
        needs_layers: whether it needs a built-in network, whose units are known.
        reset: how units are reset.
        resets_optimizer: whether ``at_task`` begins moments, Adam's count of updates, and running statistics of a
            module's normalisation, anew.
    """

    anchor: Callable[[Tensor, Layout], Tensor] | None = None
    ranked: bool = False
    summary: str = ""
    reference: str = ""
    takes_strength: bool = False
    is_neutral: Callable[[Mapping[str, Any]], bool] = lambda options: False
    is_idle_in_updates: Callable[[Mapping[str, Any]], bool] = lambda options: False
    begin: Callable[[Users, Tensor], dict[str, Tensor]] | None = None
    gradient: Hook | None = None
    rule: Hook | None = None
    after_update: Hook | None = None
    observe: Hook | None = None
    choose_units: Hook | None = None
    watch: Watch | None = None
    at_task: Hook | None = None
    reads_params_only: bool = False
    needs_features: bool = False
    needs_layers: bool = False
    reset: Reset = USUAL
    resets_optimizer: bool = False

    @property
    def acts_on_updates(self) -> bool:
        """Whether a hook is called at every update."""
        return any(hook is not None for hook in (self.gradient, self.rule, self.after_update, self.choose_units))

    @property
    def kernel_hook(self) -> KernelHook | None:
        """What the kernels of the cpu engine do of the method, if anything."""
        hooks = [hook for hook in (self.gradient, self.rule, self.after_update) if hook is not None]
        if len(hooks) > 1 or self.anchor or (self.choose_units and not self.after_update):
            return None
        return next((hook for hook in hooks if isinstance(hook, KernelHook)), None)

    @property
    def acts_within_updates(self) -> bool:
        """Whether a hook is called at every update that needs more than kernels have after it."""
        within = (self.gradient is not None or self.rule is not None) and self.kernel_hook is None
        chooses = self.choose_units is not None and self.watch is None
        return within or chooses or (self.after_update is not None and not self.reads_params_only)
