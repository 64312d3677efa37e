"""Every method that is more than a pull: a setting in which it acts within a few updates, one in which it is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_map

from fastplast.config import Member


@dataclass(frozen=True)
class Case:
    """Hyperparameters, without the method's name, with which a method acts, and with which it is none."""

    acts: dict[str, Any]
    neutral: dict[str, Any]
    strength: float = 0.0
    optimizer: str = "adam"


CASES = {
    "cbp": Case({"rate": 0.05, "maturity": 2, "correct_bias": "yes"}, {"rate": 0.0, "maturity": 2}),
    "redo": Case({"threshold": 0.5, "every": 2}, {"threshold": -1.0, "every": 2}),
    "snr": Case({"rate": 0.3, "ceiling": 2, "every": 1}, {"rate": 0.0, "ceiling": 2}),
    "regrama": Case({"threshold": 0.5, "every": 3, "batches": 2}, {"threshold": -1.0, "every": 2}),
    "shrink_perturb": Case({"shrink": 0.01, "perturb": 0.01}, {"shrink": 0.0, "perturb": 0.0}),
    "clip": Case({"bound": 0.5}, {"bound": 0.0}),
    "upgd": Case({"noise": 0.1}, {"noise": 0.0, "gate": "noise"}, optimizer="sgd"),
    "hare_tortoise": Case({"decay": 0.9, "every": 2}, {"decay": 0.0, "every": 2}),
    "noise": Case({"size": 0.1, "relative": "yes", "decay": 0.9}, {"size": 0.0}),
    "full_reset": Case({"to": "fresh"}, {"every": 0}),
    "spectral": Case({}, {}, strength=0.1),
    "parseval": Case({}, {}, strength=0.1),
    "fire": Case({}, {"every": 0}),
    "dash": Case({}, {"least": 1.0}),
    "nap": Case({"every": 2}, {"every": 0}),
    "c_chain": Case({}, {}, strength=1.0),
}


def member(name: str, seed: int = 0, acts: bool = True, rate: float = 1e-2, **options: Any) -> Member:
    """A member that uses a method, as it acts or is neutral in its case, with some options otherwise."""
    case = CASES[name]
    own = (case.acts if acts else case.neutral) | options
    return Member(seed, rate, name, case.strength * acts, options={f"{name}_{key}": own[key] for key in own})


def compute_gradients_by_member(engine: Any) -> None:
    """Makes gradients not depend on the batch to the bit, so that only methods could."""
    together = engine._gradients

    def one_by_one(*inputs: Any) -> Any:
        count = len(inputs[1])
        found = [together(*tree_map(lambda x, m=m: x[m : m + 1], inputs)) for m in range(count)]
        return tree_map(lambda *parts: torch.cat(parts), *found)

    engine._gradients = one_by_one
