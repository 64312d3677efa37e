"""Self-normalised resets: a unit is reset when it has been silent for longer than its own past makes likely.

Farias, Jozefiak 2025. Silences are counted in updates, as the ages of the paper are multiples of the batch size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastplast.methods.method import Method, Seen, Users, Watch
from fastplast.methods.resets import Choice
from fastplast.methods.units import HiddenLayer, fired, hidden_layers


def _begin(users: Users, init: Tensor) -> dict[str, Tensor]:
    """Length of the present silence of each unit, its threshold, and how many silences of each length it had."""
    kept, ceiling = {}, users.options["ceiling"].long()
    for hidden in hidden_layers(users.network):
        name, shape = hidden.layer.name, (len(init), hidden.units)
        kept |= {
            f"silence.{name}": torch.zeros(shape, dtype=torch.int64),
            f"threshold.{name}": ceiling[:, None].repeat(1, hidden.units),
            f"past.{name}": torch.zeros(*shape, int(ceiling.max()) + 1, dtype=torch.int32),
        }
    return kept


def _kept(seen: Seen, hidden: HiddenLayer) -> tuple[Tensor, ...]:
    """Silence, threshold and past of a layer."""
    return tuple(seen.state[f"{part}.{hidden.layer.name}"] for part in ("silence", "threshold", "past"))


def _end(seen: Seen, silence: Tensor, past: Tensor, ends: Tensor) -> None:
    """Counts the silences that end, and begins new ones."""
    lengths = torch.minimum(silence, seen.users.options["ceiling"].long()[:, None])
    past.scatter_add_(2, lengths[:, :, None], ends[:, :, None].to(past.dtype))
    silence.masked_fill_(ends, 0)


def _observe(seen: Seen) -> None:
    for hidden, features in zip(hidden_layers(seen.users.network), seen.features):
        silence, _, past = _kept(seen, hidden)
        speaks = fired(hidden, features)
        _end(seen, silence, past, speaks)
        silence += (~speaks).long()


def _choose(seen: Seen) -> Choice:
    masks = []
    for hidden in hidden_layers(seen.users.network):
        silence, threshold, past = _kept(seen, hidden)
        masks.append(silence >= threshold)
        _end(seen, silence, past, masks[-1])
    return Choice(masks)


def new_thresholds(past: Tensor, threshold: Tensor, rate: Tensor, ceiling: Tensor) -> Tensor:
    """The shortest silence that at most a share `rate` of the past silences exceed; twice the old one if it is longer.

    Args:
        past: `[m, O, n]` how many silences of length 0 to n - 1 each unit had; those of length 0 do not count.
        threshold: `[m, O]` old ones.
        rate: `[m]`.
        ceiling: `[m]` greatest.

    Returns:
        `[m, O]`, at least 1; 1 of a unit that was never silent.
    """
    counts = past.double()
    counts[:, :, 0] = 0.0
    total = counts.sum(2, keepdim=True)
    reached = counts.cumsum(2) >= (1.0 - rate)[:, None, None] * total - 1e-9
    found = torch.where(total[:, :, 0] > 0, reached.double().argmax(2), 0)
    found = torch.where(found < threshold, found, 2 * threshold)
    return torch.minimum(found.clamp(min=1), ceiling.long()[:, None])


def _at_task(seen: Seen) -> None:
    options = seen.users.options
    is_due = (seen.task.index % options["every"] == 0)[:, None]
    for hidden in hidden_layers(seen.users.network):
        _, threshold, past = _kept(seen, hidden)
        new = new_thresholds(past, threshold, options["rate"], options["ceiling"])
        threshold.copy_(torch.where(is_due, new, threshold))
        past.masked_fill_(is_due[:, :, None], 0)


snr = Method(
    is_neutral=lambda options: options["rate"] == 0,
    begin=_begin,
    observe=_observe,
    choose_units=_choose,
    watch=Watch("silence", lambda users: [(users.options["ceiling"].max() + 1).expand(len(users.seeds))]),
    at_task=_at_task,
    needs_features=True,
    needs_layers=True,
)
