"""``fastplast sweep --dry-run``: the plan of a sweep, with memory and a time from measured rates."""

from __future__ import annotations

from collections.abc import Iterable

from fastplast.config import Experiment
from fastplast.sweeps.plan import GroupPlan, Plan
from fastplast.text import duration
from fastplast.training.dry_run import seconds_of_measuring, seconds_per_update
from fastplast.training.setup import prepare

_SAMPLE = 8  # members that a rate is measured with


def describe(plan: Plan) -> str:
    """The plan in words, without a time.

    Args:
        plan: of the sweep.

    Returns:
        A few lines.
    """
    new, old = (sum(shard.is_begun is begun for shard in plan.shards) for begun in (False, True))
    whole = "" if plan.mine == plan.members else f", {plan.mine:,} of them in this slice"
    missing = sum(group.missing for group in plan.groups)
    return (
        f"sweep       {plan.directory}\n"
        f"members     {plan.members:,}{whole}; {plan.finished:,} finished, {missing:,} not begun\n"
        f"groups      {len(plan.groups):,}, of one network, activation and problem each\n"
        f"shards      {new:,} to train, {old:,} to resume"
    )


def dry_run(plan: Plan) -> str:
    """What a plan would do, use and take, from a few steps of every group.

    Args:
        plan: of the sweep.

    Returns:
        Text.
    """
    lines, total, most = [describe(plan)], 0.0, 0
    members = _members_by_group(plan)
    for number, group in enumerate(plan.groups, 1):
        e = group.experiment
        shards = [len(s.experiment.member_list or ()) for s in plan.shards if _same(s.experiment, e)]
        memory = max(shards, default=0) * group.member_bytes + plan.datasets[e.dataset].images.nbytes
        most = max(most, memory if shards else 0)
        text = f"group {number:<5} {_name(group)}: {group.members:,} members"
        if shards:
            seconds = _seconds(group, members[id(group)], plan)
            total += seconds
            text += f", {len(shards)} shard{'s' * (len(shards) > 1)} of at most {max(shards):,} members, "
            text += f"{memory / 2**20:,.0f} MiB, at most about {duration(seconds)}"
        else:
            text += ", nothing to do"
        lines.append(text)
    lines.append(f"memory      at most {most / 2**20:,.0f} MiB of {plan.budget / 2**20:,.0f} MiB that a shard may take")
    lines.append(f"time        at most about {duration(total)} in all, from rates measured now")
    return "\n".join(lines)


def _same(a: Experiment, b: Experiment) -> bool:
    from fastplast.sweeps.grid import as_group

    return as_group(a) == as_group(b)


def _members_by_group(plan: Plan) -> dict[int, list]:
    return {
        id(group): [m for s in plan.shards if _same(s.experiment, group.experiment) for m in s.experiment.members()]
        for group in plan.groups
    }


def _name(group: GroupPlan) -> str:
    e, words = group.experiment, group.setup.group.network.name
    return f"{e.benchmark} {words} {e.activation} {e.optimizer}, {group.setup.group.layout.count:,} parameters"


def _seconds(group: GroupPlan, members: Iterable, plan: Plan) -> float:
    """Of training and measuring all members, by a sample that is spread over them; linear in members."""
    listed = list(members)
    sample = tuple(listed[:: max(1, len(listed) // _SAMPLE)][:_SAMPLE])
    experiment = group.experiment.of_members(sample)
    setup = prepare(experiment, dataset=plan.datasets[group.experiment.dataset])
    train = seconds_per_update(setup) * setup.updates * len(listed) / len(sample)
    whole = group.experiment.of_members(listed)
    return train + seconds_of_measuring(whole, plan.datasets[whole.dataset])
