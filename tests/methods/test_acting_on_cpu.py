"""Methods whose hooks the kernels of the engine cpu do themselves: the same parameters as by the hooks on vmap."""

from dataclasses import replace

import pytest
import torch
from cpu_trials import (
    LAYERS,
    assert_same_member,
    assert_same_state,
    check_alone_and_in_parts,
    check_neutral,
    check_stored_and_read,
    epochs_from_one_state,
    trial_of,
)
from method_cases import CASES, member

from fastplast.config import METHOD_OPTIONS, Member
from fastplast.methods import METHODS, KernelHook, register

# Every way of each method in which the kernels do something else.
WAYS = [
    ("clip", {}),
    ("clip", {"scale": "initial", "head": "no"}),
    ("hare_tortoise", {}),
    ("hare_tortoise", {"decay": 0.5, "every": 1}),
    ("nap", {}),
    ("nap", {"every": 1}),
    ("shrink_perturb", {}),
    ("shrink_perturb", {"add": "initial", "shrink": 0.3, "perturb": 0.2}),
    ("shrink_perturb", {"add": "fresh"}),
    ("shrink_perturb", {"when": "task"}),
    ("noise", {}),
    ("noise", {"relative": "no", "size": 0.01}),
    ("upgd", {}),
    ("upgd", {"gate": "noise", "largest": "raw"}),
    ("upgd", {"scale": "local", "decay": 0.9}),
    ("upgd", {"noise": 0.0}),
]
PLAIN = (Member(90, 1e-2, "none", 0.0), Member(91, 1e-2, "wasserstein", 0.1))


def members_of(optimizer: str = "adam") -> tuple[Member, ...]:
    """One of each way that an optimiser can do, among some that do not act."""
    ways = [(name, options) for name, options in WAYS if CASES[name].optimizer in ("adam", optimizer)]
    acting = [member(name, i, **options) for i, (name, options) in enumerate(ways)]
    return (PLAIN[0], *acting[:5], PLAIN[1], *acting[5:], member("cbp", 92))


def test_every_method_whose_hook_kernels_do_is_compared_with_it():
    assert {name for name, _ in WAYS} == {name for name in CASES if METHODS[name].kernel_hook}


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize(("network", "kind", "batch"), LAYERS)
def test_parameters_and_what_is_kept_equal_the_vmap_engine(network, kind, batch, optimizer, make_trial):
    """Epoch by epoch, each from the same state."""
    members, fields = members_of(optimizer), {"optimizer": optimizer, "weight_decay": 0.01}
    slow, fast = (trial_of(make_trial, members, network, kind, batch, n, **fields) for n in (0, 1))
    for task, epoch, before in epochs_from_one_state(slow, fast):
        for trial in (fast, slow):
            trial.train(1, task=task, first=epoch)
        for m, own in enumerate(members):
            moved = (slow.state.params[m] - before[m]).abs().max()
            assert (fast.state.params[m] - slow.state.params[m]).abs().max() < 1e-3 * moved, own.method
        for name, kept in slow.state.kept.items():
            found, numbers = fast.state.kept[name], kept.is_floating_point()
            assert (found - kept).abs().max() <= 1e-3 * kept.abs().max() * numbers, name


@pytest.mark.parametrize(("optimizer", "network"), [("adam", "mlp"), ("sgd", "cnn")])
def test_a_member_is_the_same_bits_alone_among_all_methods_and_in_calls_split_differently(
    optimizer, network, make_trial
):
    check_alone_and_in_parts(make_trial, members_of(optimizer), network, optimizer=optimizer)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_state_that_is_stored_and_read_goes_on_to_the_same_bits(optimizer, make_trial):
    check_stored_and_read(make_trial, members_of(optimizer), optimizer=optimizer)


@pytest.mark.parametrize("name", dict(WAYS))
def test_its_neutral_value_is_no_method_to_the_bit(name, make_trial):
    check_neutral(make_trial, name, optimizer=CASES[name].optimizer)


UPDATES = 300  # more than lie between two copies of a member's state


def long_order(trial):
    return trial.order().repeat(1, UPDATES // trial.order().shape[1] + 1, 1)[:, :UPDATES]


def with_infinite_pixel(task):
    """A task and an example more, whose infinite pixel saturates units: its loss is finite, its gradient is not."""
    images = torch.cat([task.images.float(), torch.zeros(1, task.images.shape[1])])
    images[-1, 2] = torch.inf
    rows = torch.cat([task.rows, torch.full_like(task.rows[:, :1], len(images) - 1)], 1)
    return replace(task, images=images, rows=rows, labels=torch.cat([task.labels, task.labels[:, :1]], 1))


@pytest.mark.parametrize("method", dict(WAYS))
def test_what_is_kept_goes_back_with_an_update_that_is_undone(method, make_trial):
    """In one call as in calls of one update, before each of which the state is copied."""
    bad, options = 290, {"bound": 1e35} if method == "clip" else {}  # else it would keep the member from diverging
    members = (member(method, 0, **options), member(method, 1, **options))
    fields = {"kind": "tanh", "optimizer": CASES[method].optimizer}
    whole, parts = (trial_of(make_trial, members, **fields) for _ in range(2))
    task, order = with_infinite_pixel(whole.task()), long_order(whole)
    order[0, bad, 3] = task.rows.shape[1] - 1
    for trial, calls in ((whole, [order]), (parts, order.split(1, 1))):
        for call in calls:
            trial.engine.run(trial.state, task, call)
    assert whole.state.diverged.tolist() == [bad, -1]
    assert whole.state.steps.tolist() == [bad, UPDATES]
    assert_same_state(whole.state, parts.state)


def test_parameters_that_an_action_makes_infinite_freeze_the_member_without_them(make_trial):
    """After the update, as on vmap; in one call as in calls of one update."""
    last, adds = 290, {"shrink": 0.0, "perturb": 1e30, "add": "initial"}
    members = (member("shrink_perturb", 0, **adds), member("shrink_perturb", 1))
    whole, parts, slow = (trial_of(make_trial, members, kind="tanh", threads=n) for n in (1, 1, 0))
    for trial in (whole, parts, slow):
        trial.state.init[0].zero_()
        trial.state.init[0, 0] = torch.finfo(torch.float32).max / (last + 0.5) / 1e30  # of a pixel that is always 0
        task = trial.task()
        task.images[:, 0] = 0
        for call in long_order(trial).split(1 if trial is parts else UPDATES, 1):
            trial.engine.run(trial.state, task, call)
    assert whole.state.diverged.tolist() == slow.state.diverged.tolist() == [last + 1, -1]
    assert whole.state.steps.tolist() == slow.state.steps.tolist() == [last + 1, UPDATES]
    expected = last / (last + 0.5) * torch.finfo(torch.float32).max
    assert float(whole.state.params[0, 0]) == pytest.approx(expected, rel=last * 2**-24)  # a rounding each
    assert_same_state(whole.state, parts.state)


def test_a_hook_of_ones_own_in_place_of_a_kernels_is_called(make_trial):
    """Whatever the kernels do in place of the hook that it replaces."""
    method = replace(METHODS["clip"], after_update=lambda seen: 0.5 * seen.params, summary="halves")
    register("mine", method, METHOD_OPTIONS["clip"])
    options = {f"mine_{name}": option.default for name, option in METHOD_OPTIONS["clip"].items()}
    slow, fast = (trial_of(make_trial, (Member(0, 1e-3, "mine", 0.0, options=options),), threads=n) for n in (0, 1))
    for trial in (slow, fast):
        trial.train(2)
    assert slow.state.params.abs().max() < 0.1
    assert (slow.state.params - fast.state.params).abs().max() < 1e-4 * (
        slow.state.params - slow.state.init
    ).abs().max()


def test_a_hook_of_kernels_in_a_method_of_ones_own_is_done_by_them(make_trial):
    def fail(seen):
        raise AssertionError("the hook was called")

    hook = METHODS["clip"].after_update
    assert isinstance(hook, KernelHook)
    register(
        "mine", replace(METHODS["clip"], after_update=replace(hook, hook=fail), summary="clips"), METHOD_OPTIONS["clip"]
    )
    options = {f"mine_{name}": option.default for name, option in METHOD_OPTIONS["clip"].items()}
    own = trial_of(make_trial, (Member(0, 1e-2, "mine", 0.0, options=options | {"mine_bound": 0.5}),))
    same = trial_of(make_trial, (member("clip"),))
    for trial in (own, same):
        trial.train(2)
    assert_same_member(own.state, 0, same.state, 0)
