"""Members that the engine cpu trains through tasks, and what holds of them whatever kernels do for their methods."""

from collections.abc import Iterator

import torch
from assertions import assert_same_bits
from cases import KINDS
from method_cases import member

from fastplast.config import Member
from fastplast.engines import CpuEngine

# Wide outputs, pooling with dropout after it, normalisation, more examples than a group or fewer.
LAYERS = [
    ("mlp", "relu", 16),
    ("mlp", "all", 20),
    ("mlp13", "leaky_relu", 7),
    ("cnn", "crelu", 16),
    ("cnn", "layer norm", 40),
    ("convnet", "all", 16),
]


def trial_of(make_trial, members, network="mlp", kind="relu", batch=16, threads=1, **fields):
    """On the engine cpu, or as it is made, on vmap, with 0 threads."""
    benchmark = "cifar_shuffle" if network in ("cnn", "convnet") else "mnist_shuffle"
    trial = make_trial(members, network=network, benchmark=benchmark, batch_size=batch, **KINDS[kind] | fields)
    trial.engine = CpuEngine(trial.group, trial.state, threads) if threads else trial.engine
    return trial


def train(trial, tasks=2, epochs=2):
    """Through tasks, as the loop does; the sums of the last."""
    for task in range(tasks):
        trial.engine.hooks.begin_task(trial.state, trial.task(task))
        sums = trial.train(epochs, task=task)
    return sums


def epochs_from_one_state(slow, fast) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Task, epoch and the parameters before it, of two trials that begin each epoch from the state of the first."""
    for task in range(2):
        for trial in (slow, fast):
            trial.engine.hooks.begin_task(trial.state, trial.task(task))
        for epoch in range(3):
            for name, tensor in fast.state.tensors().items():
                tensor.copy_(slow.state.tensors()[name])
            yield task, epoch, slow.state.params.clone()


def assert_same_state(a, b) -> None:
    for name, tensor in a.tensors().items():
        assert_same_bits(name, tensor, b.tensors()[name])


def assert_same_member(a, m, b, n) -> None:
    """Of two states."""
    for name in ("params", "m", "v", "steps", "diverged"):
        assert_same_bits(name, getattr(a, name)[m], getattr(b, name)[n])


def check_alone_and_in_parts(make_trial, members, network, **fields):
    """A member has the same bits alone, among all, and in calls of one update or of epochs; gives the trial of all."""
    together = trial_of(make_trial, members, network, threads=2, **fields)
    parts, sums = trial_of(make_trial, members, network, **fields), train(together)
    whole = trial_of(make_trial, members, network, threads=2, **fields)
    for task in range(2):
        whole.engine.hooks.begin_task(whole.state, whole.task(task))
        orders = [whole.order(epoch, task) for epoch in range(2)]
        found = whole.engine.run_epochs(whole.state, whole.task(task), orders)
    assert_same_state(whole.state, together.state)
    for name, values in sums.tensors().items():
        assert_same_bits(name, found[0].tensors()[name] + found[1].tensors()[name], values)
    for task in range(2):
        parts.engine.hooks.begin_task(parts.state, parts.task(task))
        for epoch in range(2):
            for step in range(parts.order().shape[1]):
                order = parts.order(epoch, task)[:, step : step + 1]
                parts.engine.run(parts.state, parts.task(task), order)
    assert_same_state(parts.state, together.state)
    for m, own in enumerate(members):
        alone = trial_of(make_trial, (own,), network, **fields)
        by_itself = train(alone)
        assert_same_member(alone.state, 0, together.state, m)
        for name, values in sums.tensors().items():
            assert_same_bits(f"{own.method}: {name}", by_itself.tensors()[name][0], values[m])
    return together


def check_stored_and_read(make_trial, members, **fields) -> None:
    """A state that is stored and read goes on to the same bits."""
    whole, first, second = (trial_of(make_trial, members, **fields) for _ in range(3))
    train(whole)
    first.train(2)
    first.engine.hooks.begin_task(first.state, first.task(1))
    first.train(1, task=1)
    for name, tensor in first.state.tensors().items():
        second.state.tensors()[name].copy_(tensor)
    second.train(1, task=1, first=1)
    assert_same_state(second.state, whole.state)


def check_neutral(make_trial, name, **fields) -> None:
    """The neutral value of a method is no method, to the bit, and another is one."""
    own = (member(name, 0, acts=False), member(name, 1), member(name, 2, acts=False))
    plain = trial_of(make_trial, tuple(Member(seed, 1e-2, "none", 0.0) for seed in range(3)), **fields)
    mixed = trial_of(make_trial, own, **fields)
    for trial in (plain, mixed):
        train(trial)
    for m in (0, 2):
        assert_same_member(mixed.state, m, plain.state, m)
    assert (mixed.state.params[1] != plain.state.params[1]).any()
