"""``fastplast sweep --dry-run``: the plan of a sweep, with memory and a time from measured rates."""

from __future__ import annotations

from collections.abc import Sequence

from fastplast.config import Experiment
from fastplast.sweeps.grid import as_group
from fastplast.sweeps.plan import GroupPlan, Shard, SweepPlan
from fastplast.text import duration
from fastplast.training.dry_run import format_rows, mebibytes
from fastplast.training.estimate import estimate_seconds, may_take_an_hour


def summarize(plan: SweepPlan) -> str:
    """The plan in words, without a time.

    Args:
        plan: of the sweep.

    Returns:
        A few lines.
    """
    new, old = (sum(shard.is_begun is begun for shard in plan.shards) for begun in (False, True))
    whole = "" if plan.in_slice == plan.members else f", {plan.in_slice:,} of them in this slice"
    missing = sum(group.missing for group in plan.groups)
    rows = [
        ("sweep", str(plan.directory)),
        ("members", f"{plan.members:,}{whole}; {plan.finished:,} finished, {missing:,} not begun"),
        *([("also there", f"{plan.others:,} members of other grids, which stay as they are")] if plan.others else []),
        ("groups", f"{len(plan.groups):,}, of one network, activation, problem and engine each"),
        ("shards", f"{new:,} to train, {old:,} to resume"),
    ]
    return format_rows(rows)


def dry_run(plan: SweepPlan) -> str:
    """What a plan would do, use and take, from a few steps of every group.

    Args:
        plan: of the sweep.

    Returns:
        Text.
    """
    rows, total, most = [], 0.0, 0
    for number, group in enumerate(plan.groups, 1):
        e = group.experiment
        shards = [shard for shard in plan.shards if as_group(shard.experiment) == as_group(e)]
        largest = max((len(shard.experiment.member_list or ()) for shard in shards), default=0)
        memory = largest * group.member_bytes + plan.datasets[e.dataset].images.nbytes
        most = max(most, memory if shards else 0)
        text = f"{_name(group)}: {group.members:,} members"
        if shards:
            seconds = _seconds(shards, plan)
            total += seconds
            text += f", {len(shards)} shard{'s' * (len(shards) > 1)} of at most {largest:,} members, "
            text += f"{mebibytes(memory)}, at most about {duration(seconds)}"
        else:
            text += ", nothing to do"
        rows.append((f"group {number}", text))
    rows.append(("memory", f"at most {mebibytes(most)} of {mebibytes(plan.budget)} that a shard may take"))
    rows.append(("time", f"at most about {duration(total)} in all, from rates measured now"))
    return f"{summarize(plan)}\n{format_rows(rows)}"


def _name(group: GroupPlan) -> str:
    e, words = group.experiment, group.setup.group.network.name
    return f"{e.benchmark} {words} {e.activation} {e.optimizer}, {group.setup.group.layout.count:,} parameters"


def seconds_if_long(plan: SweepPlan) -> float:
    """Time of all shards of a plan, at most, as if none had begun.

    Args:
        plan: of the sweep.

    Returns:
        Seconds; 0 where none of its groups can take an hour, without measuring.
    """
    groups = [[s for s in plan.shards if as_group(s.experiment) == as_group(g.experiment)] for g in plan.groups]
    found = [shards for shards in groups if shards]
    if not any(may_take_an_hour(_together(shards)) for shards in found):
        return 0.0
    return sum(_seconds(shards, plan) for shards in found)


def _together(shards: Sequence[Shard]) -> Experiment:
    """Shards of a group as one experiment."""
    members = (member for shard in shards for member in shard.experiment.members())
    return shards[0].experiment.with_checked_members(members, str(shards[0].path))


def _seconds(shards: Sequence[Shard], plan: SweepPlan) -> float:
    return estimate_seconds(_together(shards), plan.datasets[shards[0].experiment.dataset], plan.network)
