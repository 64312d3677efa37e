"""Head reset: the last layer starts every task anew."""

from __future__ import annotations

import torch
from torch import Tensor

from fastplast.networks import AnyNetwork, ModuleNetwork


def reset_head(kind: str, params: Tensor, healthy: Tensor, network: AnyNetwork, seeds: list[int], task: int) -> None:
    """Resets the last layer of every member in place; moments of the optimiser stay, as in Dohare et al. 2024.

    ``zero``: weights and biases become 0 before every task, the first included (what the code of Dohare et al. does).
    ``reinit``: they are drawn anew from the network's initialisation before every task but the first.

    Args:
        kind: ``none``, ``zero`` or ``reinit``.
        params: `[M, P]`, changed.
        healthy: `[M]` bool; members that have diverged stay as they are.
        network: of the group.
        seeds: one per member.
        task: number of the task that begins.

    Raises:
        ValueError: if the network is a module of the user's.
    """
    if kind == "none" or (kind == "reinit" and task == 0):
        return
    if isinstance(network, ModuleNetwork):
        raise ValueError(f"head_reset must be none for a module of your own: got {kind}.")
    name = network.layers[-1].name
    for slot in (network.layout[f"{name}.weight"], network.layout[f"{name}.bias"]):
        fresh = torch.zeros(len(seeds), slot.count, dtype=torch.float32)
        if kind == "reinit":
            fresh = network.head_parameters(slot, seeds, task)
        params[:, slot.slice] = torch.where(healthy[:, None], fresh.to(params.device), params[:, slot.slice])
