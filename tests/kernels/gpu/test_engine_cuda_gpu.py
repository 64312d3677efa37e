"""The ``cuda`` engine against the ``vmap`` engine: on a GPU with graphs, in the interpreter launch by launch."""

import copy
import math
from itertools import product

import pytest
import torch
from assertions import assert_close, assert_same_bits, tolerance
from interpreter import INTERPRETED

pytest.importorskip("triton", reason="needs Triton")

from fastplast.config import ELEMENTWISE, Member
from fastplast.engines import CudaEngine, GroupState, VmapEngine

RATES = {"adam": 1e-3, "adamw": 1e-3, "sgd": 0.01}  # calm: a chaotic training multiplies rounding errors
EPOCHS = 1 if INTERPRETED else 40  # five updates each, the last of them ragged
METHODS = ("none", "l2", "regenerative", *(() if INTERPRETED else ("wasserstein",)))  # sorting is slow there
STEPS = 5 * EPOCHS
CASES = list(zip(ELEMENTWISE, ("adam", "adamw", "sgd", "adam"))) if INTERPRETED else list(product(ELEMENTWISE, RATES))
ROUNDING = 4 * STEPS * math.sqrt(36)  # in eps: the updates, each through sums of some 36 terms, none forgotten
AMPLIFIED = 10.0  # times the effect of one disturbed bit: errors of 200 updates, not of one


def mixed(optimizer: str, methods: tuple[str, ...] = METHODS) -> tuple[Member, ...]:
    """A member of every method, each with a rate of its own."""
    return tuple(
        Member(30 + i, RATES[optimizer] * (1 + 0.3 * i), method, 0.0 if method == "none" else 0.1)
        for i, method in enumerate(methods)
    )


def on(trial, device: str, kind: type):
    """The same group and initial state, trained by another engine on another device."""
    own = copy.copy(trial)
    own.state = GroupState(**{name: tensor.to(device, copy=True) for name, tensor in trial.state.tensors().items()})
    where = torch.device(device)
    graphs = {"graphs": where.type == "cuda"} if kind is CudaEngine else {}
    own.engine = kind(trial.group, own.state, where, **graphs)
    tasks = {}

    def task(index: int = 0):
        if index not in tasks:  # once, as the trainer makes it
            made = trial.task(index)
            tensors = {name: value.to(device) for name, value in vars(made).items() if isinstance(value, torch.Tensor)}
            tasks[index] = type(made)(**vars(made) | tensors)
        return tasks[index]

    own.task = task
    return own


def trial_of(make_trial, members: tuple[Member, ...], activation: str = "relu", optimizer: str = "adam", **changes):
    options = {"momentum": 0.5 if optimizer == "sgd" else 0.0, "weight_decay": 0.01, "batch_size": 9} | changes
    return make_trial(
        members, network="mlp", benchmark="mnist_permute", activation=activation, optimizer=optimizer, **options
    )


@pytest.mark.parametrize(("activation", "optimizer"), CASES)
def test_two_hundred_updates_equal_the_vmap_engine(activation, optimizer, device, make_trial):
    """To rounding errors, and to what training makes of them: of a last bit of the initial weights, for comparison.

    In the interpreter, five updates.
    """
    trial = trial_of(make_trial, mixed(optimizer), activation, optimizer)
    slow, disturbed, fast = (on(trial, device, kind) for kind in (VmapEngine, VmapEngine, CudaEngine))
    last_bit = torch.where(torch.arange(trial.group.layout.size) % 2 > 0, 1 + 2**-23, 1 - 2**-23)
    disturbed.state.params.mul_(last_bit.to(device))
    allowed = tolerance(torch.float32, factor=ROUNDING)
    for epoch in range(EPOCHS):
        expected, sums, other = (each.train(1, task=1, first=epoch) for each in (slow, fast, disturbed))
        for name in ("loss", "update_l1", "update_l2"):
            a, b, c = (getattr(x, name) for x in (sums, expected, other))
            chaos = AMPLIFIED * float((c - b).abs().max())
            assert_close(f"{name}, epoch {epoch}", a, b, factor=ROUNDING, scale=float(b.max()) + chaos / allowed)
        assert (sums.error - expected.error).abs().max() <= 0.5
    moved = float((slow.state.params - slow.state.init).abs().max())
    chaos = AMPLIFIED * float((disturbed.state.params - slow.state.params).abs().max())
    assert_close("parameters", fast.state.params, slow.state.params, factor=ROUNDING, scale=moved + chaos / allowed)
    assert fast.state.steps.tolist() == [STEPS] * len(METHODS)


def test_a_member_has_the_same_bits_alone_and_among_others(device, make_trial):
    trial = trial_of(make_trial, mixed("adam"))
    together = on(trial, device, CudaEngine)
    sums = together.train(EPOCHS)
    for row, member in enumerate(trial.group.members):
        alone = on(trial_of(make_trial, (member,)), device, CudaEngine)
        own = alone.train(EPOCHS)
        for name in ("params", "m", "v", "steps", "diverged"):
            assert_same_bits(name, getattr(alone.state, name), getattr(together.state, name)[row : row + 1])
        for name, value in own.tensors().items():
            assert_same_bits(name, value, sums.tensors()[name][row : row + 1])


def test_one_call_has_the_same_bits_as_many_calls_and_tasks_follow_each_other(device, make_trial):
    trial = trial_of(make_trial, mixed("adam", ("none", "l2")))
    whole, parts = (on(trial, device, CudaEngine) for _ in range(2))
    for task in (0, 1):
        order = trial.order(0, task)
        whole.engine.run(whole.state, whole.task(task), order)
        for start in range(0, order.shape[1], 2):
            parts.engine.run(parts.state, parts.task(task), order[:, start : start + 2])
    assert_same_bits("parameters", parts.state.params, whole.state.params)
    assert int(whole.state.steps[0]) == 10


@pytest.mark.filterwarnings("ignore:(overflow|invalid value|divide by zero):RuntimeWarning")  # in the interpreter
def test_a_diverging_member_is_frozen_as_by_the_vmap_engine(device, make_trial):
    members = (Member(1, 1e-3, "none", 0.0), Member(2, 1e30, "none", 0.0), Member(3, 1e-3, "none", 0.0))
    calm = (members[0], Member(2, 1e-3, "none", 0.0), members[2])
    slow, fast = (on(trial_of(make_trial, members), device, kind) for kind in (VmapEngine, CudaEngine))
    healthy = on(trial_of(make_trial, calm), device, CudaEngine)
    for trial in (slow, fast, healthy):
        trial.train(2)
    assert fast.state.diverged.tolist() == slow.state.diverged.tolist()
    assert fast.state.diverged[1] >= 0
    assert fast.state.steps.tolist() == slow.state.steps.tolist()
    assert bool(fast.state.params.isfinite().all())
    for row in (0, 2):
        assert_same_bits("a healthy member", fast.state.params[row], healthy.state.params[row])


if not INTERPRETED:  # graphs need a GPU

    def test_graphs_have_the_same_bits_as_launches(device, make_trial):
        trial = trial_of(make_trial, mixed("adam"))
        captured, launched = (on(trial, device, CudaEngine) for _ in range(2))
        launched.engine = CudaEngine(trial.group, launched.state, torch.device(device), graphs=False)
        for each in (captured, launched):
            each.train(3)
        assert_same_bits("parameters", captured.state.params, launched.state.params)
