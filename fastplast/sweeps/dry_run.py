"""``fastplast sweep --dry-run``: the plan of a sweep, with memory and a time from measured rates."""

from __future__ import annotations

from collections.abc import Sequence

from fastplast.sweeps.grid import as_group
from fastplast.sweeps.plan import GroupPlan, Shard, SweepPlan
from fastplast.text import duration
from fastplast.training.dry_run import format_rows, mebibytes, seconds_of_measuring, seconds_per_update
from fastplast.training.setup import prepare

_SAMPLE = 8  # members that a rate is measured with


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
        ("groups", f"{len(plan.groups):,}, of one network, activation and problem each"),
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
            seconds = _seconds(group, shards, plan)
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


def _seconds(group: GroupPlan, shards: Sequence[Shard], plan: SweepPlan) -> float:
    """Of training and measuring all members, by a sample that is spread over them; linear in members."""
    listed = [member for shard in shards for member in shard.experiment.members()]
    sample = tuple(listed[:: max(1, len(listed) // _SAMPLE)][:_SAMPLE])
    experiment = group.experiment.of_members(sample)
    setup = prepare(experiment, dataset=plan.datasets[group.experiment.dataset])
    train = seconds_per_update(setup) * setup.updates * len(listed) / len(sample)
    whole = group.experiment.of_members(listed)
    return train + seconds_of_measuring(whole, plan.datasets[whole.dataset])
