"""Methods that reset units on the engine cpu: its kernels observe what the methods themselves do on vmap."""

from dataclasses import replace

import pytest
import torch
from assertions import assert_close
from cpu_trials import (
    LAYERS,
    assert_same_member,
    assert_same_state,
    check_alone_and_in_parts,
    check_neutral,
    check_stored_and_read,
    epochs_from_one_state,
    train,
    trial_of,
)
from method_cases import CASES, member
from test_cbp_alone import check_against_one_network

from fastplast.config import METHOD_OPTIONS, Member
from fastplast.engines import CpuEngine, MethodError
from fastplast.methods import METHODS, register

UNITS = tuple(name for name, method in METHODS.items() if method.watch is not None)
OTHERS = ("none", "l2", "regenerative", "wasserstein", "clip", "hare_tortoise", "nap", "shrink_perturb", "fire")


def of_all_methods() -> tuple[Member, ...]:
    """Two of each method that resets units, among members of the others."""
    units = [member(name, 2 * i + k) for i, name in enumerate(UNITS) for k in range(2)]
    pulls = [Member(20 + i, 1e-2, name, 0.1 * (name != "none")) for i, name in enumerate(OTHERS[:4])]
    return (*units[:5], *pulls, *(member(name, 30 + i) for i, name in enumerate(OTHERS[4:])), *units[5:])


def assert_kept(fast, slow) -> None:
    """What methods keep is the same, numbers to rounding."""
    for name, kept in slow.kept.items():
        if kept.dtype == torch.float64:
            assert_close(name, fast.kept[name], kept, length=10_000)
        else:
            assert torch.equal(fast.kept[name], kept), name


def check_against_vmap(slow, fast) -> None:
    """Epoch by epoch, each from the same state."""
    for task, epoch, before in epochs_from_one_state(slow, fast):
        sums, expected = (trial.train(1, task=task, first=epoch) for trial in (fast, slow))
        assert_kept(fast.state, slow.state)
        moved = float((slow.state.params - before).abs().max())
        assert (fast.state.params - slow.state.params).abs().max() < 1e-3 * moved  # Adam enlarges rounding errors
        for name, value in expected.tensors().items():
            assert_close(name, sums.tensors()[name], value, length=10_000)


@pytest.mark.parametrize(("network", "kind", "batch"), [*LAYERS, ("convnet", "dropout", 9)])
@pytest.mark.parametrize("name", UNITS)
def test_what_is_kept_and_what_is_reset_equals_the_vmap_engine(name, network, kind, batch, make_trial):
    members = (member(name, 0), Member(2, 1e-2, "none", 0.0), member(name, 1))
    slow, fast = (trial_of(make_trial, members, network, kind, batch, weight_decay=0.01, threads=n) for n in (0, 1))
    check_against_vmap(slow, fast)
    assert (slow.state.kept["born"][[0, 2]].flatten(1) > 0).any(1).all()


@pytest.mark.parametrize("name", UNITS)
def test_with_gradient_descent_as_well(name, make_trial):
    members = (member(name, 0), member(name, 1))
    fields = {"optimizer": "sgd", "momentum": 0.5}
    slow, fast = (trial_of(make_trial, members, "cnn", "layer norm", **fields, threads=n) for n in (0, 1))
    check_against_vmap(slow, fast)
    assert slow.state.kept["resets"].sum() > 0


@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_every_utility_and_both_shares_in_one_batch_equal_the_vmap_engine(network, make_trial):
    words = METHOD_OPTIONS["cbp"]["utility"].choices
    members = tuple(
        member("cbp", i, utility=word, share_of=share, decay=0.9)
        for i, (word, share) in enumerate((word, share) for word in words for share in ("mature", "all"))
    )
    slow, fast = (trial_of(make_trial, members, network, "leaky_relu", threads=n) for n in (0, 1))
    check_against_vmap(slow, fast)


@pytest.mark.parametrize("reset", ["moments", "step"])
def test_the_counts_of_a_unit_and_of_a_task_go_together_with_dropout_too(reset, make_trial):
    members = (member("cbp", 0), member("full_reset", 1), Member(2, 1e-2, "none", 0.0))
    slow, fast = (trial_of(make_trial, members, kind="dropout", optimizer_reset=reset, threads=n) for n in (0, 1))
    check_against_vmap(slow, fast)


@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_a_member_is_the_same_bits_alone_among_all_methods_and_in_calls_split_differently(network, make_trial):
    together = check_alone_and_in_parts(make_trial, of_all_methods(), network)
    assert (together.state.kept["born"].flatten(1).amax(1) > 0).sum() == 2 * len(UNITS)


def test_a_state_that_is_stored_and_read_goes_on_to_the_same_bits(make_trial):
    check_stored_and_read(make_trial, of_all_methods())


@pytest.mark.parametrize("name", UNITS)
def test_its_neutral_value_is_no_method_to_the_bit(name, make_trial):
    check_neutral(make_trial, name)


@pytest.mark.parametrize("name", UNITS)
def test_a_member_that_diverges_is_frozen_and_what_was_observed_before_is_counted_once(name, make_trial):
    members = (member(name, 0, rate=1e30), member(name, 1))
    hurt, parts, healthy = (
        trial_of(make_trial, own, kind="identity") for own in (members, members, (member(name, 0), members[1]))
    )
    for trial in (hurt, healthy):
        trial.train(1)
    for step in range(3):
        parts.engine.run(parts.state, parts.task(), parts.order()[:, step : step + 1])
    at = int(hurt.state.diverged[0])
    assert 0 < at <= 3
    assert hurt.state.steps.tolist() == [at, 3]
    assert hurt.state.params.isfinite().all()
    assert_same_state(hurt.state, parts.state)
    assert_same_member(hurt.state, 1, healthy.state, 1)


def test_cbp_equals_one_network_by_itself(make_trial):
    trial = make_trial((member("cbp", 3, rate=1e-3, correct_bias="no"),))
    trial.engine = CpuEngine(trial.group, trial.state, 1)
    check_against_one_network(trial)


def test_a_method_of_ones_own_may_choose_by_what_kernels_observe(make_trial):
    register("mine", replace(METHODS["redo"], summary="redo"), METHOD_OPTIONS["redo"])
    options = {f"mine_{key}": value for key, value in (METHOD_DEFAULTS | CASES["redo"].acts).items()}
    own = trial_of(make_trial, (Member(0, 1e-2, "mine", 0.0, options=options),))
    same = trial_of(make_trial, (member("redo", 0),))
    for trial in (own, same):
        train(trial)
    assert_same_member(own.state, 0, same.state, 0)


METHOD_DEFAULTS = {name: option.default for name, option in METHOD_OPTIONS["redo"].items()}


def test_an_error_in_choosing_names_method_hook_and_update(make_trial):
    def fail(seen):
        raise ZeroDivisionError("a mistake")

    register("mine", replace(METHODS["redo"], choose_units=fail, summary="fails"), METHOD_OPTIONS["redo"])
    options = {f"mine_{key}": value for key, value in (METHOD_DEFAULTS | {"every": 3}).items()}
    trial = trial_of(make_trial, (Member(0, 1e-2, "mine", 0.0, options=options),))
    with pytest.raises(MethodError, match="choose_units of the method 'mine' at update 3 failed: ZeroDivisionError"):
        trial.train(1)
