"""C-CHAIN: outputs on other examples are held near those of the network some updates ago."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import grad
from torch.nn import functional

from fastplast import seeding
from fastplast.methods.method import Method, Seen, Users


def _begin(users: Users, init: Tensor) -> dict[str, Tensor]:
    """The parameters before each of the last updates, a ring."""
    return {"earlier": init[:, None].repeat(1, int(users.options["lag"].max()), 1)}


def _examples(seen: Seen) -> tuple[Tensor, Tensor]:
    """Inputs `[m, B, I]` of a minibatch that each member draws from its task."""
    count, examples = seen.users.batch_size, seen.task.num_examples
    drawn = [
        torch.from_numpy((seeding.words(seed, "method", count, number) >> 33).astype("int64") % examples)
        for seed, number in zip(seen.users.seeds, seen.number.tolist())
    ]
    positions = torch.stack(drawn).to(seen.params.device)
    return seen.task.inputs(positions), positions


def _gradient(seen: Seen) -> Tensor:
    """Of the cross-entropy of the present outputs against the earlier ones."""
    users, earlier, (x, _) = seen.users, seen.state["earlier"], _examples(seen)

    def churn(row: Tensor, x: Tensor, before: Tensor) -> Tensor:
        return functional.cross_entropy(users.network.logits(row, x), before)

    found = []
    for m, (row, lag, number) in enumerate(zip(seen.params, users.options["lag"].tolist(), seen.number.tolist())):
        place = number % int(lag)
        before = users.network.logits(earlier[m, place], x[m]).softmax(1)
        found.append(grad(churn)(row, x[m], before))
        earlier[m, place] = row
    return torch.stack(found) * users.strength.float()[:, None]


c_chain = Method(
    takes_strength=True,
    begin=_begin,
    gradient=_gradient,
)
