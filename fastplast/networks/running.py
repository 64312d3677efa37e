"""Running statistics of a module's batch normalisation, each member's own."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm


class RunningNorms:
    """The batch normalisations of a module that keep running statistics.

    In training they normalise by the minibatch and leave its statistics in ``found``; the engine moves the running ones
    (``moved``), so that a frozen member's stay. In evaluation they normalise by the running statistics that come with
    the parameters; by those of the batch where none do.

    Args:
        module: whose layers; their ``forward`` is replaced.
    """

    def __init__(self, module: nn.Module) -> None:
        parts = dict(module.named_modules())
        self.layers = {n: p for n, p in parts.items() if isinstance(p, _BatchNorm) and p.track_running_stats}
        self.found: dict[str, Tensor] = {}
        self.given = False
        for name, layer in self.layers.items():
            layer.forward = partial(self._normalize, name, layer)  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def names(self) -> set[str]:
        """Of all buffers."""
        return {f"{name}.{buffer}" for name, layer in self.layers.items() for buffer, _ in layer.named_buffers()}

    def initial(self, members: int) -> dict[str, Tensor]:
        """What the statistics are before the first update.

        Args:
            members: M.

        Returns:
            Name to `[M, O]`; to `[M]` of the count of minibatches.
        """
        return {
            f"{name}.{buffer}": torch.stack([value.detach().float() if value.is_floating_point() else value] * members)
            for name, layer in self.layers.items() for buffer, value in layer.named_buffers()
        }  # fmt: skip

    def moved(self, old: dict[str, Tensor], found: dict[str, Tensor]) -> dict[str, Tensor]:
        """Running statistics after a minibatch, as ``torch.nn.BatchNorm2d`` moves them.

        Args:
            old: name to `[M, ...]`.
            found: of the minibatch, likewise: means, and variances without bias.

        Returns:
            Name to `[M, ...]`.
        """
        new = {}
        for name, layer in self.layers.items():
            count = old[f"{name}.num_batches_tracked"] + 1
            share = 1.0 / count.double() if layer.momentum is None else torch.full(count.shape, layer.momentum)
            new[f"{name}.num_batches_tracked"] = count
            for kind in ("running_mean", "running_var"):
                key = f"{name}.{kind}"
                new[key] = torch.lerp(old[key], found[key], share.to(old[key])[:, None])
        return new

    def _normalize(self, name: str, layer: _BatchNorm, x: Tensor) -> Tensor:
        layer._check_input_dim(x)
        if self.given and not layer.training:
            mean, variance = layer.running_mean, layer.running_var
            return functional.batch_norm(x, mean, variance, layer.weight, layer.bias, False, 0.0, layer.eps)
        if layer.training:
            if f"{name}.running_mean" in self.found:
                raise RuntimeError(f"{name} normalises twice in one forward pass. Give each place a layer of its own.")
            axes = (0, *range(2, x.ndim))
            self.found[f"{name}.running_mean"] = x.detach().mean(axes)
            self.found[f"{name}.running_var"] = x.detach().var(axes)
        return functional.batch_norm(x, None, None, layer.weight, layer.bias, True, 0.0, layer.eps)
