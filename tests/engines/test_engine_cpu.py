"""The ``cpu`` engine against the ``vmap`` engine, and its bits against themselves, for all networks and layers."""

import copy
import math
from dataclasses import fields, replace
from itertools import product

import pytest
import torch
from assertions import assert_close, assert_same_bits, tolerance
from cases import KINDS, LONG, NETWORKS, POOLED, SMOOTH

from fastplast.config import ACTIVATIONS, NETWORK_NAMES, OPTIMIZERS, PULLS, ConfigError, Experiment, Member
from fastplast.engines import Accumulators, CpuEngine, GroupState, VmapEngine, choose_engine
from fastplast.networks import ModuleNetwork

CONVOLUTIONAL = ("cnn", "convnet")
RATES = {"adam": 1e-3, "adamw": 1e-3, "sgd": 0.01}  # calm: a chaotic training multiplies rounding errors
EPOCHS, STEPS = 40, 200  # five updates each, the last of them ragged
ROUNDING = 4 * STEPS * math.sqrt(36)  # in eps: the updates, each through sums of some 36 terms, none forgotten
ALLOWED = tolerance(torch.float32, factor=ROUNDING)
AMPLIFIED = 10.0  # times the effect of one disturbed bit: errors of 200 updates, not of one
SUMS = [f.name for f in fields(Accumulators) if f.name != "steps"]
LAYERS = list(product(NETWORKS, KINDS))
ONCE = {"mlp": 1e-5, "mlp13": 1e-4, "cnn": 1e-5, "convnet": 1e-5}  # relative, of one update; more through 13 layers


def mixed(optimizer: str, strength: float = 0.1) -> tuple[Member, ...]:
    """A member of every method in one batch, each with a rate of its own."""
    return tuple(
        Member(30 + i, RATES[optimizer] * (1 + 0.3 * i), method, 0.0 if method == "none" else strength)
        for i, method in enumerate(PULLS)
    )


def with_cpu(trial, threads: int = 1):
    """The same group and initial state, trained by the ``cpu`` engine."""
    own = copy.copy(trial)
    own.state = GroupState(**{name: tensor.clone() for name, tensor in trial.state.tensors().items()})
    own.engine = CpuEngine(trial.group, own.state, threads)
    return own


def trial_of(make_trial, network: str, kind: str, optimizer: str = "adam", **changes):
    options = {
        "benchmark": "cifar_permute" if network in CONVOLUTIONAL else "mnist_permute",
        "momentum": 0.5 if optimizer == "sgd" else 0.0,
        "weight_decay": 0.01,
        "batch_size": 9,
    }
    return make_trial(mixed(optimizer), network=network, optimizer=optimizer, **options | KINDS[kind] | changes)


def has_kinks(network: str, kind: str) -> bool:
    """Whether a value within rounding errors of zero, or of another of its window, jumps the gradient.

    Which values are so near depends on the order in which a machine adds up. A jump that comes an update later than in
    the other training is no error, and after it the two part: they are compared piece by piece, each from one state,
    and in nine pieces of ten nothing may jump.
    """
    return kind not in SMOOTH or network in POOLED


def rejoin(trial, *others) -> None:
    for other, (name, tensor) in product(others, trial.state.tensors().items()):
        getattr(other.state, name).copy_(tensor)


def test_long_trainings_are_of_each_network_with_each_optimiser_and_of_each_kind():
    assert sorted((network, optimizer) for network, _, optimizer in LONG) == sorted(product(NETWORKS, OPTIMIZERS))
    assert {kind for _, kind, _ in LONG} == set(KINDS)
    assert set(NETWORKS) == set(NETWORK_NAMES)
    assert {options["activation"] for options in KINDS.values()} == set(ACTIVATIONS)


@pytest.mark.parametrize(("network", "kind", "optimizer"), LONG)
def test_two_hundred_updates_with_every_method_equal_the_vmap_engine(network, kind, optimizer, make_trial):
    """To rounding errors, and to what training makes of them: of a last bit of the initial weights, for comparison."""
    slow, disturbed = (trial_of(make_trial, network, kind, optimizer) for _ in range(2))
    fast, kinked = with_cpu(slow), has_kinks(network, kind)
    last_bit = torch.where(torch.arange(slow.group.layout.size) % 2 > 0, 1 + 2**-23, 1 - 2**-23)
    disturbed.state.params.mul_(last_bit)
    apart = {}
    for epoch in range(EPOCHS):
        if kinked:
            rejoin(slow, fast, disturbed)
            disturbed.state.params.mul_(last_bit)
        sums, expected, other = (trial.train(1, task=1, first=epoch) for trial in (fast, slow, disturbed))
        values = {name: tuple(getattr(x, name)[:, None] for x in (sums, expected, other)) for name in SUMS}
        error, wanted, _ = values.pop(
            "error"
        )  # counts examples: a tie decided the other way is one of a batch of 4 or 9
        assert (error - wanted).abs().max() <= 0.5
        for name, (a, b, c) in values.items():
            scale, chaos = float(b.max()), float((c - b).abs().max())
            apart |= far(f"{name}, epoch {epoch}", a, b, ALLOWED * scale + AMPLIFIED * chaos, epoch)
            assert_close(f"{name}, epoch {epoch}", a, b, scale=scale, factor=100 * ROUNDING)
        start, a, b, c = (x.double() for x in (slow.state.init, *(t.state.params for t in (fast, slow, disturbed))))
        moved, chaos = float((b - start).abs().max()), float((c - b).abs().max())
        apart |= far(f"parameters, epoch {epoch}", a, b, ALLOWED * moved + AMPLIFIED * chaos, epoch)
    assert len(apart) <= (EPOCHS * 4 // 10 if kinked else 0), apart
    assert fast.state.steps.tolist() == slow.state.steps.tolist() == [STEPS] * 4


def far(name: str, a: torch.Tensor, b: torch.Tensor, allowed: float, piece: int) -> dict[tuple[int, int], str]:
    """Rows of `[M, n]` that differ by more than is allowed, by piece of training and member; what is no number does."""
    difference = (a.double() - b.double()).abs().amax(1)
    rows = torch.nonzero(~(difference <= allowed)).flatten().tolist()
    return {(piece, row): f"{name} of {row}: {float(difference[row]):.3g}, allowed {allowed:.3g}" for row in rows}


@pytest.mark.parametrize(("network", "kind", "optimizer"), list(product(NETWORKS, KINDS, OPTIMIZERS)))
def test_each_of_five_updates_equals_that_of_the_vmap_engine(network, kind, optimizer, make_trial):
    slow = trial_of(make_trial, network, kind, optimizer)
    fast, apart = with_cpu(slow), {}
    order, task = slow.order(0, 1), slow.task(1)
    for update in range(order.shape[1]):
        rejoin(slow, fast)
        before, batch = slow.state.params.double(), order[:, update : update + 1].contiguous()
        sums, expected = (trial.engine.run(trial.state, task, batch) for trial in (fast, slow))
        for name in ("m", "v"):
            a, b = (getattr(trial.state, name) for trial in (fast, slow))
            apart |= far(f"{name}, update {update}", a, b, 2 * ONCE[network] * float(b.abs().max()), update)
        loss = [x.loss[:, None] for x in (sums, expected)]
        apart |= far(f"loss, update {update}", *loss, ONCE[network] * float(loss[1].max()), update)
        a, b = fast.state.params.double(), slow.state.params.double()
        sure = slow.state.m.abs() > 1e-6  # elsewhere Adam divides rounding errors by rounding errors
        assert float(sure.float().mean()) > 0.4
        once = ONCE[network] * (10 if update else 1)  # moments of opposite gradients have larger relative errors
        allowed = once * (b - before).abs().max() + torch.finfo(torch.float32).eps * b.abs()
        apart |= far(f"parameters, update {update}", (a - b).abs() / allowed * sure, 0 * b, 1.0, update)
    assert len(apart) <= (2 if has_kinks(network, kind) else 0), apart
    assert fast.state.steps.tolist() == slow.state.steps.tolist() == [5] * 4


@pytest.mark.parametrize(("network", "kind"), LAYERS)
def test_gradients_equal_the_vmap_engine(network, kind, make_trial):
    """One step of plain gradient descent at rate 1 moves by the gradient."""
    slow = trial_of(make_trial, network, kind, "sgd", momentum=0.0, weight_decay=0.0, learning_rate=(1.0,), epochs=1)
    slow.group = replace(slow.group, hyper=slow.group.hyper._replace(learning_rate=torch.ones(4, dtype=torch.float64)))
    slow.engine = VmapEngine(slow.group, slow.state, torch.device("cpu"))
    fast = with_cpu(slow)
    for trial in (slow, fast):
        trial.engine.run(trial.state, trial.task(1), trial.order(0, 1)[:, :1].contiguous())
    apart, init = {}, slow.state.init.double()
    for row in range(4):
        expected, found = (trial.state.params[row].double() - init[row] for trial in (slow, fast))
        allowed = ONCE[network] * float(expected.abs().max())
        apart |= far("gradient", found[None], expected[None], allowed, row)
    assert len(apart) <= (1 if has_kinks(network, kind) else 0), apart


@pytest.mark.parametrize(("network", "kind"), LAYERS)
def test_a_member_has_the_same_bits_alone_with_any_threads_and_in_calls_split_differently(network, kind, make_trial):
    together = with_cpu(trial_of(make_trial, network, kind), threads=2)
    parts, alone = with_cpu(trial_of(make_trial, network, kind)), []
    for row, threads in product(range(4), (1, 2)):
        options = KINDS[kind] | {"benchmark": together.experiment.benchmark, "network": network}
        members = together.group.members[row : row + 1]
        alone.append((row, with_cpu(make_trial(members, batch_size=9, weight_decay=0.01, **options), threads)))
    sums = together.train(3)
    for epoch, step in product(range(3), range(together.order().shape[1])):
        parts.engine.run(parts.state, parts.task(), parts.order(epoch)[:, step : step + 1])
    for name in ("params", "m", "v", "steps"):
        assert_same_bits(name, getattr(parts.state, name), getattr(together.state, name))
    for row, one in alone:
        own = one.train(3)
        for name in ("params", "m", "v", "steps", "diverged"):
            assert_same_bits(name, getattr(one.state, name), getattr(together.state, name)[row : row + 1])
        for name in SUMS:
            assert_same_bits(name, getattr(own, name), getattr(sums, name)[row : row + 1])


@pytest.mark.parametrize("engine", ["cpu", "vmap"])
def test_epochs_of_one_call_are_counted_apart_and_are_those_of_calls_of_their_own(engine, make_trial):
    members = (Member(1, 1e-3, "none", 0.0), Member(2, 1e30, "none", 0.0), Member(3, 1e-2, "l2", 1e-3))
    one, several = (make_trial(members, batch_size=9) for _ in range(2))
    if engine == "cpu":
        one, several = with_cpu(one), with_cpu(several, 2)
    orders = [one.order(epoch) for epoch in range(4)]
    expected = [one.engine.run(one.state, one.task(), order) for order in orders]
    found = several.engine.run_epochs(several.state, several.task(), orders)
    assert [sums.steps.tolist() for sums in found] == [sums.steps.tolist() for sums in expected]
    assert found[0].steps[1] < found[0].steps[0] == orders[0].shape[1]  # one diverges
    for name in SUMS:
        for a, b in zip(found, expected, strict=True):
            assert_same_bits(name, getattr(a, name), getattr(b, name))
    for name, tensor in one.state.tensors().items():
        assert_same_bits(name, several.state.tensors()[name], tensor)


def test_masks_depend_on_the_seed_and_on_no_batch_mate(make_trial):
    trial = trial_of(make_trial, "mlp", "dropout")
    assert torch.equal(CpuEngine(trial.group, trial.state, 1)._keys, trial.engine._keys)


@pytest.mark.parametrize("network", ["mlp", "cnn", "convnet"])
def test_a_diverging_member_is_frozen_as_by_the_vmap_engine(network, make_trial):
    members = (Member(1, 1e-3, "none", 0.0), Member(2, 1e30, "none", 0.0), Member(3, 1e-3, "none", 0.0))
    benchmark = "cifar_shuffle" if network in CONVOLUTIONAL else "mnist_shuffle"
    slow = make_trial(members, network=network, benchmark=benchmark)
    fast = with_cpu(slow)
    calm = with_cpu(
        make_trial((members[0], Member(2, 1e-3, "none", 0.0), members[2]), network=network, benchmark=benchmark)
    )
    for trial in (slow, fast, calm):
        trial.train(2)
    assert fast.state.diverged.tolist() == slow.state.diverged.tolist()
    assert fast.state.diverged[1] >= 0
    assert fast.state.steps.tolist() == slow.state.steps.tolist()
    assert bool(fast.state.params.isfinite().all())
    for row in (0, 2):
        assert_same_bits("a healthy member", fast.state.params[row], calm.state.params[row])


def test_a_forced_engine_that_cannot_serve_names_what_is_missing(make_trial):
    trial = make_trial(module=lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 5)))
    assert isinstance(trial.group.network, ModuleNetwork)
    with pytest.raises(ConfigError, match=r"no kernels for the module Sequential\. Use --engine vmap or auto"):
        choose_engine(Experiment(engine="cpu"), trial.group, trial.state, torch.device("cpu"))
    assert choose_engine(Experiment(), trial.group, trial.state, torch.device("cpu")).name == "vmap"


def test_auto_takes_the_cpu_engine_for_built_in_networks(make_trial):
    engines = {}
    for network, kind in LAYERS:
        trial = trial_of(make_trial, network, kind)
        engines[network, kind] = choose_engine(Experiment(), trial.group, trial.state, torch.device("cpu"))
    assert not {case: engine for case, engine in engines.items() if not isinstance(engine, CpuEngine)}
