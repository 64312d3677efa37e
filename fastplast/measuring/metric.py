"""What a metric is, and what it sees of a member at the start or the end of a task."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from torch import Tensor

from fastplast.losses import LOSSES
from fastplast.measuring.probes import Evaluation, member_inputs
from fastplast.networks import AnyNetwork, ModuleNetwork
from fastplast.problems import Task
from fastplast.registered import RegisteredError, named

Reads = Literal["outputs", "features", "weights"]


@dataclass(frozen=True)
class Snapshot:
    """One member at the start or the end of a task, on all `N` examples. Nothing of it is to be changed.

    Attributes:
        network: of the group.
        params: `[P]` float32.
        init: `[P]`, before the first update.
        task: of all members.
        member: its position among them.
        seed: of the member.
        evaluation: what it does on the task: ``loss``, ``error``, ``logits`` `[N, C]`, ``features`` and
            ``activations`` by layer.
        penalty: of its regulariser, strength included; None without one.
        step: from a gradient `[P]` to the parameters `[P]` after an update of the optimizer with it.
        batch_size: examples of a minibatch.
        running: running statistics of a module's normalisation, by name; empty without them.
    """

    network: AnyNetwork
    params: Tensor
    init: Tensor
    task: Task
    member: int
    seed: int
    evaluation: Evaluation
    penalty: float | None
    step: Callable[[Tensor], Tensor]
    batch_size: int
    running: dict[str, Tensor]

    @cached_property
    def inputs(self) -> Tensor:
        """`[N, I]` float32, as training sees them."""
        return member_inputs(self.task, self.member)

    @property
    def labels(self) -> Tensor:
        """`[N]` int64, or numbers."""
        return self.task.labels[self.member]

    @property
    def logits(self) -> Tensor:
        """`[N, C]` outputs."""
        return self.evaluation.logits

    @property
    def activations(self) -> dict[str, Tensor]:
        """Hidden layer to post-activation values, `[N, O]` or `[N, O, height, width]`."""
        return self.evaluation.activations

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """Layer to its weights in float64, `[O, I]`; kernels are flattened per output."""
        return {
            slot.name.removesuffix(".weight"): self.params[slot.slice].double().view(slot.shape[0], -1)
            for slot in self.network.layout.slots
            if slot.is_weight
        }

    def outputs(self, parameters: dict[str, Tensor], inputs: Tensor) -> Tensor:
        """What the network gives while it is measured.

        Args:
            parameters: by name, as ``network.layout.views(params)`` gives them, of any one type.
            inputs: `[B, I]` of the same type.

        Returns:
            `[B, C]`.
        """
        if isinstance(self.network, ModuleNetwork):
            self.network.train(False)
        running = {name: value.to(inputs.dtype) for name, value in self.running.items()}
        return self.network.logits_of(parameters | running, inputs)

    def loss_of(self, parameters: dict[str, Tensor], inputs: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of some examples, for gradients.

        Args:
            parameters: by name, as ``network.layout.views(params)`` gives them.
            inputs: `[B, I]`.
            labels: `[B]`.

        Returns:
            A number.
        """
        return LOSSES[self.task.loss].mean(self.outputs(parameters, inputs), labels)


@dataclass(frozen=True)
class Metric:
    """What is measured of a member at the start and the end of a task.

    Attributes:
        measure: from a snapshot to a number, or to numbers by column.
        definition: in words; or column to definition, where ``{layer}`` stands for the name of a layer. A single
            column is called as the metric.
        unit: of its columns; empty for pure numbers.
        reads: what it depends on. Of ``outputs`` it is measured at every task, of others where ``probe_every`` says;
            of ``weights`` alone at task ends and before task 0: the start finds the weights of the end before.
        runs_network: whether it runs the network again, which members of a module do in turn.
    """

    measure: Callable[[Snapshot], Any]
    definition: str | Mapping[str, str]
    unit: str = ""
    reads: Reads = "features"
    runs_network: bool = True

    def definitions(self, name: str) -> dict[str, str]:
        """Column to definition.

        Args:
            name: of the metric.

        Returns:
            Of all columns.
        """
        return {name: self.definition} if isinstance(self.definition, str) else dict(self.definition)


def columns_of(name: str, metric: Metric, snapshot: Snapshot, place: str) -> dict[str, float]:
    """A metric of one member.

    Args:
        name: of the metric.
        metric: itself.
        snapshot: of the member.
        place: when, for errors.

    Returns:
        Column to value.

    Raises:
        RegisteredError: if it fails, or gives anything but numbers in columns that it defines.
    """
    place = f"measure of the metric {name!r} {place}"
    with named(place, "metric"):
        found = metric.measure(snapshot)
        values = found if isinstance(found, Mapping) else {name: found}
        columns = {column: float(value) for column, value in values.items()}
    patterns = [re.escape(column).replace(r"\{layer\}", ".+") for column in metric.definitions(name)]
    for column in columns:
        if not any(re.fullmatch(pattern, column) for pattern in patterns):
            raise RegisteredError(f"{place} must give the columns that it defines: got {column!r}. Define it too.")
    return columns
