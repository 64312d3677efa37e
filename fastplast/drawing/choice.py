"""The best of settings that would share a line: chosen on seeds that are not drawn, where there are enough."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastplast.drawing.settings import Setting
from fastplast.stats import split_seeds

Frame = Any  # pandas.DataFrame, whose stubs take chosen rows for an array


@dataclass(frozen=True, kw_only=True)
class Line(Setting):
    """A setting that is drawn as one line of a panel.

    Attributes:
        value: of the field that tells lines apart; ``label`` has it in words.
        seeds: of its members.
        chosen: hyperparameter to the value that was chosen; empty where there was no choice.
        by: seeds that chose and are not drawn; empty where drawn ones did; None where there was no choice.
    """

    value: Any
    seeds: frozenset[int]
    chosen: Mapping[str, Any] = field(default_factory=dict)
    by: tuple[int, ...] | None = None


def choose(
    members: Frame, scores: Frame, varying: Sequence[str], ablated: str | None = None, better: str = "lowest"
) -> tuple[dict[str, Any], tuple[int, ...] | None]:
    """The setting of the best mean score over the tasks and seeds that all candidates have.

    Settings of fewer than half as many seeds as the best covered one are no candidates; where a field is ablated, those
    with fewer of its values are none, and a setting is as good as at the best of these values.

    Args:
        members: one row per member, with ``run``, ``member``, ``seed`` and ``tasks``, the number of those it ended.
        scores: (run, member) x task.
        varying: hyperparameters that tell settings apart.
        ablated: the field whose values are all drawn.
        better: whether the ``"lowest"`` or the ``"highest"`` score is the best.

    Returns:
        Hyperparameter to value, and the seeds that chose: none where drawn ones did, None where one candidate was left.
    """
    import numpy as np

    keys = [*varying, *([ablated] if ablated else [])]
    members = members.dropna(subset=keys)
    count = members.groupby(list(varying))[ablated or "seed"].transform("nunique")
    members = members[count == count.max()] if ablated else members[2 * count >= count.max()]
    parts = [part for _, part in members.groupby(keys)]
    if len(parts) == 1:
        return {name: members[name].iloc[0] for name in varying}, None
    choosing, reporting = split_seeds(set.intersection(*(set(part["seed"]) for part in parts)))
    fair = choosing != reporting
    tasks = scores.columns[: int(members["tasks"].min())]
    best, least, sign = parts[0], np.inf, -1 if better == "highest" else 1
    for part in parts:
        own = part[part["seed"].isin(choosing)] if choosing else part
        found = sign * scores.reindex(list(zip(own["run"], own["member"])))[tasks].to_numpy().mean()
        if found < least:  # a setting with a member that diverged has no mean
            best, least = part, found
    return {name: best[name].iloc[0] for name in varying}, choosing if fair else ()


def with_same_seeds(lines: Sequence[Line], seed_of: Mapping[tuple[int, int], int]) -> list[Line]:
    """The lines of a panel, each with the seeds that all of them have and that did not choose.

    Args:
        lines: of one panel.
        seed_of: (run, member) to its seed.

    Returns:
        The lines, of fewer members; as they are where nothing was chosen.
    """
    if not any(line.chosen for line in lines):
        return list(lines)
    used = {seed for line in lines for seed in line.by or ()}
    shared = frozenset.intersection(*(line.seeds for line in lines)) - used
    narrowed = []
    for line in lines:
        seeds = shared or (line.seeds - used) or line.seeds
        members = tuple(member for member in line.members if seed_of[member] in seeds)
        narrowed.append(dataclasses.replace(line, members=members, seeds=seeds))
    return narrowed


def choice_sentences(
    lines_in: Mapping[str, Sequence[Line]],
    score: str = "Least mean error",
    say: Callable[[str], str] = str,
    is_short: bool = False,
) -> list[str]:
    """What was chosen in each panel, and on which seeds.

    Args:
        lines_in: panel, in words, to its lines.
        score: what was best, in words.
        say: the words for a hyperparameter.
        is_short: whether values are left out, with the command that lists them in their place.

    Returns:
        One sentence; none if nothing was chosen.
    """
    texts: dict[str, list[str]] = {}
    kinds = dict.fromkeys(tuple(line.chosen) for lines in lines_in.values() for line in lines if line.chosen)
    names = [say(name) for name in next(iter(kinds), ())] if len(kinds) == 1 else []

    def said_of(line: Line) -> str:
        if names:
            return "/".join(map(_brief, line.chosen.values()))
        return " ".join(f"{say(name)} {_brief(value)}" for name, value in line.chosen.items())

    for place, lines in lines_in.items():
        own = {line.label: said_of(line) for line in lines if line.chosen}
        if not own:
            continue
        same = len(set(own.values())) == 1 and len(own) == len(lines)
        said = next(iter(own.values())) if same else ", ".join(f"{label} {text}" for label, text in own.items())
        texts.setdefault(_by(lines), []).append(f"{place}: {said}" if place else said)
    if not texts:
        return []
    chosen = "; ".join(by if is_short else f"{by}: {'; '.join(said)}" for by, said in texts.items())
    chosen += ", a choice for each line, as fastplast table --best --by FIELD lists them" * is_short
    return [f"{score}, {'/'.join(names)}{', ' * bool(names)}{chosen}."]


def _by(lines: Sequence[Line]) -> str:
    """What chose the lines of a panel."""
    seeds = {line.by for line in lines if line.chosen and line.by is not None}
    if not seeds:
        return "the only ones of enough seeds"
    return "on drawn seeds, being few (optimistic)" if () in seeds else (
        f"on seeds {', '.join(map(str, max(seeds)))} (not drawn)")  # fmt: skip


def _brief(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
