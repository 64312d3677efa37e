"""The ``cpu`` engine against the ``vmap`` engine, and its bits against themselves."""

import copy
import math
from dataclasses import fields, replace
from itertools import product

import pytest
import torch
from assertions import assert_close, assert_same_bits, tolerance

from fastplast.config import ELEMENTWISE, METHOD_NAMES, OPTIMIZERS, ConfigError, Experiment, Member
from fastplast.engines import Accumulators, CpuEngine, GroupState, VmapEngine, choose_engine
from fastplast.networks import ModuleNetwork

NETWORKS = ("mlp", "mlp13", "cnn", "convnet")  # that the engine has kernels for
CONVOLUTIONAL = ("cnn", "convnet")
POOLED = ("convnet",)
RATES = {"adam": 1e-3, "adamw": 1e-3, "sgd": 0.01}  # calm: a chaotic training multiplies rounding errors
EPOCHS, STEPS = 40, 200  # five updates each, the last of them ragged
ROUNDING = 4 * STEPS * math.sqrt(36)  # in eps: the updates, each through sums of some 36 terms, none forgotten
ALLOWED = tolerance(torch.float32, factor=ROUNDING)
AMPLIFIED = 10.0  # times the effect of one disturbed bit: errors of 200 updates, not of one
SUMS = [f.name for f in fields(Accumulators) if f.name != "steps"]


def mixed(optimizer: str, strength: float = 0.1, seed: int = 30) -> tuple[Member, ...]:
    """A member of every method in one batch, each with a rate of its own.

    With seeds of which no pre-activation comes within rounding of a kink, where engines may take different sides.
    """
    return tuple(
        Member(seed + i, RATES[optimizer] * (1 + 0.3 * i), method, 0.0 if method == "none" else strength)
        for i, method in enumerate(METHOD_NAMES)
    )


def with_cpu(trial, threads: int = 1):
    """The same group and initial state, trained by the ``cpu`` engine."""
    own = copy.copy(trial)
    own.state = GroupState(**{name: tensor.clone() for name, tensor in trial.state.tensors().items()})
    own.engine = CpuEngine(trial.group, own.state, threads)
    return own


def mixed_trial(make_trial, network: str, activation: str, optimizer: str, seed: int = 30, **changes):
    options = {
        "benchmark": "cifar_permute" if network in CONVOLUTIONAL else "mnist_permute",
        "momentum": 0.5 if optimizer == "sgd" else 0.0,
        "weight_decay": 0.01,
        "batch_size": 9,
    }
    return make_trial(
        mixed(optimizer, seed=seed), network=network, activation=activation, optimizer=optimizer, **options | changes
    )


@pytest.mark.parametrize(("network", "activation", "optimizer"), list(product(NETWORKS, ELEMENTWISE, OPTIMIZERS)))
def test_two_hundred_updates_with_every_method_equal_the_vmap_engine(network, activation, optimizer, make_trial):
    """To rounding errors, and to what training makes of them: of a last bit of the initial weights, for comparison."""
    trials = (mixed_trial(make_trial, network, activation, optimizer) for _ in range(2))
    assert_equal_curves(*trials, rejoined=network in POOLED)


def assert_equal_curves(slow, disturbed, rejoined: bool = False) -> None:
    """Trains a trial on both engines, and a copy whose initial weights are off by a last bit.

    Where they are rejoined, every epoch begins from one state: the gradient of a maximum jumps where two values pass
    each other, and a jump that comes an update later than in the other training is no error.
    """
    fast = with_cpu(slow)
    last_bit = torch.where(torch.arange(slow.group.layout.size) % 2 > 0, 1 + 2**-23, 1 - 2**-23)
    disturbed.state.params.mul_(last_bit)
    for epoch in range(EPOCHS):
        if rejoined:
            for name, tensor in slow.state.tensors().items():
                getattr(fast.state, name).copy_(tensor)
                getattr(disturbed.state, name).copy_(tensor)
            disturbed.state.params.mul_(last_bit)
        expected, sums, other = (trial.train(1, task=1, first=epoch) for trial in (slow, fast, disturbed))
        for name in SUMS:
            if name == "error":  # counts examples: a tie decided the other way is one of a batch of 4 or 9
                assert (getattr(sums, name) - getattr(expected, name)).abs().max() <= 0.5
                continue
            a, b, c = (getattr(x, name) for x in (sums, expected, other))
            chaos = AMPLIFIED * float((c - b).abs().max())
            assert_close(f"{name}, epoch {epoch}", a, b, factor=ROUNDING, scale=float(b.max()) + chaos / ALLOWED)
    moved = float((slow.state.params - slow.state.init).abs().max())
    chaos = AMPLIFIED * float((disturbed.state.params - slow.state.params).abs().max())
    assert_close("parameters", fast.state.params, slow.state.params, factor=ROUNDING, scale=moved + chaos / ALLOWED)
    assert fast.state.steps.tolist() == slow.state.steps.tolist() == [STEPS] * 4


@pytest.mark.parametrize(("network", "activation"), list(product(NETWORKS, ELEMENTWISE)))
def test_gradients_equal_the_vmap_engine(network, activation, make_trial):
    """One step of plain gradient descent at rate 1 moves by the gradient."""
    calm = {"momentum": 0.0, "weight_decay": 0.0, "learning_rate": (1.0,), "epochs": 1}
    assert_equal_gradients(mixed_trial(make_trial, network, activation, "sgd", **calm))


def assert_equal_gradients(slow) -> None:
    """One step of a trial of gradient descent without momentum and decay, on both engines."""
    slow.group = replace(slow.group, hyper=slow.group.hyper._replace(learning_rate=torch.ones(4, dtype=torch.float64)))
    slow.engine = VmapEngine(slow.group, slow.state, torch.device("cpu"))
    fast = with_cpu(slow)
    for trial in (slow, fast):
        trial.engine.run(trial.state, trial.task(1), trial.order(0, 1)[:, :1].contiguous())
    for row in range(4):
        gradients = [trial.state.params[row].double() - trial.state.init[row].double() for trial in (slow, fast)]
        assert float((gradients[1] - gradients[0]).abs().max()) <= 1e-5 * float(gradients[0].abs().max())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("network", ["mlp", "cnn", "convnet"])
def test_one_update_equals_the_vmap_engine(network, optimizer, make_trial):
    assert_equal_update(mixed_trial(make_trial, network, "tanh", optimizer))


def assert_equal_update(slow) -> None:
    """One update of a trial on both engines."""
    fast = with_cpu(slow)
    for trial in (slow, fast):
        trial.engine.run(trial.state, trial.task(1), trial.order(0, 1)[:, :1].contiguous())
    moved = float((slow.state.params - slow.state.init).abs().max())
    ulp = torch.finfo(torch.float32).eps * slow.state.params.abs()
    sure = slow.state.m.abs() > 1e-6  # elsewhere Adam divides rounding errors by rounding errors
    difference = (fast.state.params.double() - slow.state.params.double()).abs()
    assert bool((difference <= 1e-5 * moved + ulp)[sure].all())
    assert float(sure.float().mean()) > 0.5


@pytest.mark.parametrize("network", ["mlp", "cnn", "convnet"])
def test_a_member_has_the_same_bits_alone_and_with_any_number_of_threads(network, make_trial):
    together = with_cpu(mixed_trial(make_trial, network, "relu", "adam"), threads=2)
    sums = together.train(4)
    for threads, row in product((1, 2), range(4)):
        members = together.group.members[row : row + 1]
        options = {"benchmark": together.experiment.benchmark, "network": network, "weight_decay": 0.01}
        alone = with_cpu(make_trial(members, batch_size=9, **options), threads)
        own = alone.train(4)
        for name in ("params", "m", "v", "steps", "diverged"):
            assert_same_bits(name, getattr(alone.state, name), getattr(together.state, name)[row : row + 1])
        for name in SUMS:
            assert_same_bits(name, getattr(own, name), getattr(sums, name)[row : row + 1])


@pytest.mark.parametrize("network", ["mlp", "cnn", "convnet"])
def test_one_call_has_the_same_bits_as_many(network, make_trial):
    whole = with_cpu(mixed_trial(make_trial, network, "leaky_relu", "adam"))
    parts = with_cpu(mixed_trial(make_trial, network, "leaky_relu", "adam"))
    order = whole.order()
    whole.engine.run(whole.state, whole.task(), order)
    for step in range(order.shape[1]):
        parts.engine.run(parts.state, parts.task(), order[:, step : step + 1])
    assert_same_bits("parameters", parts.state.params, whole.state.params)


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
    trial = make_trial()
    assert choose_engine(Experiment(), trial.group, trial.state, torch.device("cpu")).name == "cpu"
