"""What every engine trains: a group and its state in one flat arena; and what it gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from fastplast_kernels.optimisers import Hyperparameters
from torch import Tensor

from fastplast import seeding
from fastplast.config import MEMBER_HYPERPARAMETERS, Experiment, Member
from fastplast.methods import Pull, build_pull, strength_of
from fastplast.networks import AnyNetwork
from fastplast.networks.layout import Layout
from fastplast.problems import Task


@dataclass(frozen=True)
class Group:
    """Members that share network and activation, trained as one batch.

    Attributes:
        members: `M` of them.
        network: of all of them.
        optimizer: ``adam``, ``adamw`` or ``sgd``.
        decoupled: whether weight decay is decoupled.
        reduction: of regularisers, ``mean`` or ``sum``.
        hyper: of each member, as it is trained: without a pull its strength is 0.
        optimizer_reset: what of the optimiser begins anew at a change of task: ``none``, ``moments`` or ``step``.
        batch_size: examples of a minibatch; the last of an epoch may have fewer.
        loss: name of what is minimised: ``cross_entropy`` or ``mse``.
    """

    members: tuple[Member, ...]
    network: AnyNetwork
    optimizer: str
    decoupled: bool
    reduction: str
    hyper: Hyperparameters
    optimizer_reset: str
    batch_size: int
    loss: str

    @property
    def layout(self) -> Layout:
        """Of the arena."""
        return self.network.layout

    @property
    def seeds(self) -> list[int]:
        """One per member."""
        return [member.seed for member in self.members]


@dataclass
class GroupState:
    """All that training changes, and the initial parameters.

    Attributes:
        params: `[M, P]` float32.
        m: `[M, P]` first moments, or momentum buffers.
        v: `[M, P]` second moments.
        init: `[M, P]` parameters before the first update.
        steps: `[M]` int64, updates done.
        diverged: `[M]` int64, the update (from 0) at which loss or update became non-finite and the member was
            frozen just before; -1 for members in good health.
        kept: what methods keep beside these, by name, ``<method>.<name>``; ``since`` `[M]` and ``born`` `[M, 2, U]`,
            updates done when Adam's count of them began, ``resets`` `[M, L]` of units in the task; running statistics
            of a module's normalisation, ``running.<name>``. Empty without them.
    """

    params: Tensor
    m: Tensor
    v: Tensor
    init: Tensor
    steps: Tensor
    diverged: Tensor
    kept: dict[str, Tensor] = field(default_factory=dict)

    def running_of(self, member: int | slice) -> dict[str, Tensor]:
        """Running statistics by name, of a member or of several."""
        start = "running."
        return {name[len(start) :]: kept[member] for name, kept in self.kept.items() if name.startswith(start)}

    def tensors(self) -> dict[str, Tensor]:
        """Name to tensor, for checkpoints."""
        arena = {name: value for name, value in vars(self).items() if name != "kept"}
        return arena | {f"kept.{name}": value for name, value in self.kept.items()}


@dataclass
class Accumulators:
    """Sums over the updates of a call, per member.

    Attributes:
        steps: `[M]` int64, updates counted.
        loss: `[M]` float64, sum of the batch losses (data loss, before each update).
        error: `[M]` float64, sum of the fractions of each batch that were misclassified.
        update_l1: `[M]` float64, sum of the mean absolute change of a parameter.
        update_l2: `[M]` float64, sum of the Euclidean lengths of the change.
    """

    steps: Tensor
    loss: Tensor
    error: Tensor
    update_l1: Tensor
    update_l2: Tensor

    @classmethod
    def zeros(cls, *shape: int) -> Accumulators:
        """Nothing counted yet, of `[M]` members, or of `[M, E]` epochs of each."""
        sums = (torch.zeros(shape, dtype=torch.float64) for _ in range(4))
        return cls(torch.zeros(shape, dtype=torch.int64), *sums)

    def tensors(self) -> dict[str, Tensor]:
        """Name to tensor, for checkpoints."""
        return dict(vars(self))

    def means(self) -> dict[str, Tensor]:
        """Metric to mean over the updates, `[M]` float64; NaN for members that made none."""
        return {
            "online_loss": self.loss / self.steps,
            "online_error": self.error / self.steps,
            "update_l1_mean": self.update_l1 / self.steps,
            "update_l2_mean": self.update_l2 / self.steps,
        }

    def add(self, other: Accumulators) -> None:
        """Adds the sums of another call."""
        for name, total in self.tensors().items():
            total += other.tensors()[name].to(total.device)


class Engine(Protocol):
    """Trains a group. A member that diverges is frozen and harms no other."""

    name: str
    device: torch.device
    pull: Pull

    @property
    def notice(self) -> str | None:
        """What to tell the user before the first update, if anything."""
        return None

    def prepare(self, state: GroupState, task: Task, order: Tensor) -> None:
        """Compiles and captures what `run` will need, and changes nothing.

        CUDA graphs may not be captured while another thread waits for the device: whoever begins work in a thread
        calls this before.

        Args:
            state: of the group.
            task: that `run` will be called with.
            order: of the first call.
        """
        ...

    def run(self, state: GroupState, task: Task, order: Tensor) -> Accumulators:
        """Trains on minibatches in order, changing the state in place.

        Args:
            state: of the group.
            task: whose examples.
            order: `[M, S, B]` int64 positions; -1 pads ragged batches.

        Returns:
            Sums over the `S` updates.
        """
        ...

    def run_epochs(self, state: GroupState, task: Task, orders: Sequence[Tensor]) -> list[Accumulators]:
        """Trains epoch after epoch, with the results, to the bit, of a call of `run` for each.

        Args:
            state: of the group.
            task: whose examples.
            orders: one or more, all of one shape, as of `run`.

        Returns:
            Sums over the updates of each.
        """
        return [self.run(state, task, order) for order in orders]


def build_group(experiment: Experiment, network: AnyNetwork, members: tuple[Member, ...]) -> Group:
    """The group of an experiment's members.

    Args:
        experiment: resolved.
        network: of all members.
        members: `M` of them.

    Returns:
        The group.
    """

    def table(*values: float) -> Tensor:
        return torch.tensor(values, dtype=torch.float64)

    def own(member: Member, name: str) -> float:
        value = getattr(member, name)
        return float(getattr(experiment, name) if value is None else value)

    hyper = Hyperparameters(
        learning_rate=table(*(member.learning_rate for member in members)),
        **{name: table(*(own(member, name) for member in members)) for name in MEMBER_HYPERPARAMETERS},
        strength=table(*map(strength_of, members)),
    )
    return Group(
        members,
        network,
        experiment.optimizer,
        experiment.decoupled,
        experiment.reduction,
        hyper,
        experiment.optimizer_reset,
        experiment.batch_size,
        experiment.loss,
    )


def dropout_keys(group: Group) -> Tensor:
    """The key of every member's masks of dropout, `[M, 2]` int64; see ``dropout.dropout_mask`` of the kernels.

    Args:
        group: whose members.

    Returns:
        The keys.
    """
    return torch.tensor([seeding.key_words(seed, "dropout") for seed in group.seeds])


def pull_of(group: Group, state: GroupState) -> Pull:
    """The group's pull-to-target rule, from its initial parameters."""
    return build_pull(group.members, group.hyper.strength, state.init, group.layout, group.reduction)
