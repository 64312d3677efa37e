"""The ``vmap`` engine against ordinary training: one ``nn.Module`` and one ``torch.optim`` optimiser per member."""

import math
from dataclasses import fields, replace
from itertools import product

import pytest
import torch
from assertions import NothingWaitsForTheHost, assert_close, assert_same_bits
from torch import Tensor, nn

from fastplast.config import ELEMENTWISE, NETWORK_NAMES, OPTIMIZERS, PULLS, ConfigError, Experiment, Member
from fastplast.engines import Accumulators, GroupState, available_cores, choose_device, vmap

# network, activation, optimizer, momentum, weight decay, method, reduction
CASES = [
    ("mlp", "relu", "adam", 0.0, "coupled", "l2", "mean"),
    ("mlp", "leaky_relu", "adamw", 0.0, "decoupled", "regenerative", "sum"),
    ("mlp", "tanh", "adam", 0.0, "decoupled", "none", "mean"),
    ("mlp", "identity", "sgd", 0.9, "decoupled", "wasserstein", "mean"),
    ("mlp13", "relu", "sgd", 0.9, "coupled", "none", "sum"),
    ("mlp13", "leaky_relu", "sgd", 0.0, "none", "l2", "sum"),
    ("mlp13", "tanh", "adamw", 0.0, "none", "wasserstein", "sum"),
    ("mlp13", "identity", "adam", 0.0, "none", "regenerative", "mean"),
    ("cnn", "relu", "adamw", 0.0, "coupled", "none", "mean"),
    ("cnn", "leaky_relu", "adam", 0.0, "none", "wasserstein", "mean"),
    ("cnn", "tanh", "sgd", 0.5, "coupled", "regenerative", "sum"),
    ("cnn", "identity", "adamw", 0.0, "decoupled", "l2", "mean"),
    ("convnet", "relu", "sgd", 0.9, "none", "none", "mean"),
    ("convnet", "leaky_relu", "adamw", 0.0, "none", "l2", "mean"),
    ("convnet", "tanh", "adam", 0.0, "coupled", "wasserstein", "sum"),
    ("convnet", "identity", "adam", 0.0, "none", "regenerative", "mean"),
]
RATES = {"adam": (1e-3, 3e-4, 3e-3), "adamw": (1e-3, 3e-4, 3e-3), "sgd": (0.03, 0.01, 0.1)}
STRENGTHS = {"mean": (1.0, 10.0, 0.3), "sum": (1e-2, 3e-2, 1e-3)}
EPOCHS = 10
ROUNDING = 16 * math.sqrt(50 * 36)  # in eps: fifty updates, each through sums of some 36 terms
SUMS = [f.name for f in fields(Accumulators) if f.name != "steps"]
ARENAS = [f.name for f in fields(GroupState) if f.name != "kept"]  # which groups of pulls leave empty


def fit(method: str, rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2), strengths: tuple[float, ...] = (1.0, 10.0, 0.3)):
    """Three members of one method."""
    return tuple(Member(seed, rate, method, s) for seed, rate, s in zip((4, 7, 11), rates, strengths))


def assert_same_members(name: str, a: GroupState, b: GroupState, rows: list[int]) -> None:
    for field in ARENAS:
        assert_same_bits(f"{name}: {field}", getattr(a, field)[rows], getattr(b, field)[rows])


def assert_same_sums(name: str, a: Accumulators, b: Accumulators, rows: list[int]) -> None:
    for field in [*SUMS, "steps"]:
        assert_same_bits(f"{name}: {field}", getattr(a, field)[rows], getattr(b, field)[rows])


def test_the_cases_cover_every_pair_that_matters() -> None:
    assert {c[:2] for c in CASES} == set(product(NETWORK_NAMES, ELEMENTWISE))
    assert {(c[2], c[5]) for c in CASES} == set(product(OPTIMIZERS, PULLS))
    assert {(c[0], c[2]) for c in CASES} == set(product(NETWORK_NAMES, OPTIMIZERS))
    assert {(c[0], c[5]) for c in CASES} == set(product(NETWORK_NAMES, PULLS))
    assert {(c[1], c[2]) for c in CASES} == set(product(ELEMENTWISE, OPTIMIZERS))
    assert {(c[2], c[4]) for c in CASES} == set(product(OPTIMIZERS, ("none", "coupled", "decoupled")))
    assert {c[5:] for c in CASES} == set(product(PULLS, ("mean", "sum")))


@pytest.mark.parametrize("case", CASES, ids=["-".join(map(str, case)) for case in CASES])
def test_fifty_updates_of_three_members_equal_three_ordinary_trainings(case, make_trial) -> None:
    network, activation, optimizer, momentum, decay, method, reduction = case
    trial = make_trial(
        fit(method, RATES[optimizer], (0.0,) * 3 if method == "none" else STRENGTHS[reduction]),
        benchmark="cifar_permute" if network in ("cnn", "convnet") else "mnist_permute",
        network=network,
        activation=activation,
        optimizer=optimizer,
        momentum=momentum,
        weight_decay=0.0 if decay == "none" else 0.1,
        weight_decay_mode="auto" if decay == "none" else decay,
        reduction=reduction,
        batch_size=9,  # 40 = 4 x 9 + 4: the last batch is ragged
    )
    singles, task = [trial.ordinary(m) for m in range(3)], trial.task(1)
    for epoch in range(EPOCHS):
        order = trial.order(epoch, 1)
        sums = trial.engine.run(trial.state, task, order)
        for m, single in enumerate(singles):
            for positions in order[m]:
                single.step(task, positions)
            for name in SUMS:
                expected = math.fsum(getattr(single, name)[-5:])
                assert_close(f"{name} of {m} in epoch {epoch}", getattr(sums, name)[m], expected, factor=ROUNDING)
    params, init = trial.true_parameters(trial.state.params), trial.true_parameters(trial.state.init)
    for m, single in enumerate(singles):
        moved = float((single.vector() - init[m]).abs().max())
        assert_close(f"parameters of {m}", params[m], single.vector(), factor=ROUNDING, scale=moved)
    assert trial.state.steps.tolist() == [50, 50, 50]
    assert trial.state.diverged.tolist() == [-1, -1, -1]
    for name in ("params", "m", "v"):
        padding = getattr(trial.state, name).clone()
        for slot in trial.group.layout.slots:
            padding[:, slot.slice] = 0
        assert (padding == 0).all()


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("method", ["l2", "regenerative", "wasserstein"])
def test_a_strength_of_zero_is_no_regulariser_to_the_bit(method: str, optimizer: str, make_trial) -> None:
    plain = make_trial(fit("none", strengths=(0.0,) * 3), optimizer=optimizer)
    zero = make_trial(fit(method, strengths=(0.0,) * 3), optimizer=optimizer)
    mixed = make_trial(fit(method, strengths=(0.0, 1.0, 0.0)), optimizer=optimizer)
    sums = [trial.train(5) for trial in (plain, zero, mixed)]
    assert_same_members("all zero", zero.state, plain.state, [0, 1, 2])
    assert_same_members("beside a member of strength 1", mixed.state, plain.state, [0, 2])
    assert_same_sums("sums", sums[2], sums[0], [0, 2])
    assert (mixed.state.params[1] != plain.state.params[1]).any()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_methods_mixed_in_one_batch_equal_their_own_groups(reduction: str, make_trial) -> None:
    names = PULLS
    mixed = tuple(Member(seed, 3e-3, name, 0.05 * (name != "none")) for seed, name in enumerate(names))
    trial = make_trial(mixed, reduction=reduction)
    trial.train(5)
    for m, name in enumerate(names):
        same = make_trial(
            tuple(replace(member, method=name, strength=mixed[m].strength) for member in mixed), reduction=reduction
        )
        same.train(5)
        assert_same_members(name, trial.state, same.state, [m])
        alone = make_trial((mixed[m],), reduction=reduction)
        alone.train(5)
        moved = float((alone.state.params - alone.state.init).abs().max())
        assert_close(f"{name} alone", trial.state.params[m], alone.state.params[0], factor=ROUNDING, scale=moved)


@pytest.mark.parametrize(
    ("optimizer", "rate", "soon"), [("adam", 1e30, True), ("sgd", 1e30, True), ("sgd", 300.0, False)]
)
def test_a_diverging_member_is_frozen_just_before_the_bad_update(
    optimizer, rate: float, soon: bool, make_trial
) -> None:
    trial = make_trial(fit("none", (1e-3, rate, 1e-3), (0.0,) * 3), optimizer=optimizer, activation="identity")
    single, task, at = trial.ordinary(1), trial.task(), -1
    while at < 0 or (math.isfinite(single.loss[-1]) and single.vector().isfinite().all()):
        at, last = at + 1, single.vector()
        single.step(task, trial.order(at // 3)[1, at % 3])
    assert (at == 1) == soon
    sums = trial.train(20)
    assert trial.state.diverged.tolist() == [-1, at, -1]
    assert trial.state.steps.tolist() == [60, at, 60] == sums.steps.tolist()
    assert_close("frozen", trial.true_parameters(trial.state.params)[1], last, factor=ROUNDING)
    assert trial.state.m[1].isfinite().all()
    for name in SUMS:
        expected = math.fsum(getattr(single, name)[:at])
        assert_close(name, getattr(sums, name)[1], expected, factor=ROUNDING)
    again = trial.train(1, task=1)
    assert trial.state.diverged.tolist() == [-1, at, -1]
    assert again.steps.tolist() == [3, 0, 3]
    assert all(getattr(again, name)[1] == 0 for name in SUMS)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("activation", ELEMENTWISE)
def test_a_diverging_member_leaves_the_others_bits_alone(activation: str, optimizer: str, make_trial) -> None:
    healthy = make_trial(fit("l2", (1e-3,) * 3), optimizer=optimizer, activation=activation)
    hurt = make_trial(fit("l2", (1e-3, 1e30, 1e-3)), optimizer=optimizer, activation=activation)
    sums = [trial.train(3) for trial in (healthy, hurt)]
    assert_same_members("others", hurt.state, healthy.state, [0, 2])
    assert_same_sums("others", sums[1], sums[0], [0, 2])


@pytest.mark.parametrize("value", [math.inf, math.nan])
@pytest.mark.parametrize("method", ["none", "wasserstein"])
def test_a_member_of_non_finite_weights_never_moves(method: str, value: float, make_trial) -> None:
    trials = [make_trial(fit(method, strengths=(0.0,) * 3 if method == "none" else (1.0,) * 3)) for _ in range(2)]
    trials[1].state.params[1, 0] = value
    before = trials[1].state.params[1].clone()
    sums = [trial.train(2) for trial in trials]
    assert trials[1].state.diverged.tolist() == [-1, 0, -1]
    assert trials[1].state.steps.tolist() == [6, 0, 6]
    assert_same_bits("frozen", trials[1].state.params[1], before)
    assert all(float(getattr(sums[1], name)[1]) == 0 for name in [*SUMS, "steps"])
    assert (trials[1].state.m[1] == 0).all()
    assert_same_members("others", trials[1].state, trials[0].state, [0, 2])
    assert_same_sums("others", sums[1], sums[0], [0, 2])


def test_one_bad_batch_freezes_a_member_for_good(make_trial) -> None:
    trial = make_trial(fit("none", strengths=(0.0,) * 3))
    rows = trial.problem.rows
    example = next(n for n in range(40) if rows[1, n] not in rows[[0, 2]])
    images = trial.problem.images.float()
    images[rows[1, example]] = math.nan
    at = int((trial.order()[1] == example).nonzero()[0, 0])
    sums = trial.engine.run(trial.state, replace(trial.task(), images=images), trial.order())
    assert trial.state.diverged.tolist() == [-1, at, -1]
    assert sums.steps.tolist() == [3, at, 3]
    sums = trial.engine.run(trial.state, trial.task(), trial.order(1))
    assert sums.steps.tolist() == [3, 0, 3]
    assert trial.state.steps.tolist() == [6, at, 6]


def test_a_non_finite_loss_freezes_a_member_even_if_its_update_is_finite(make_trial) -> None:
    trial = make_trial(fit("none", strengths=(0.0,) * 3), widths=(4,))
    views = trial.group.layout.views(trial.state.params)
    views["fc2.weight"][1], views["fc2.bias"][1] = 0.0, torch.tensor([3e38, -3e38, 0.0, 0.0, 0.0])
    before = trial.state.params[1].clone()
    assert (trial.task().labels[1, trial.order()[1, 0]] == 1).any()  # whose loss is 6e38: infinite in float32
    trial.train(1)
    assert trial.state.diverged.tolist() == [-1, 0, -1]
    assert_same_bits("frozen", trial.state.params[1], before)


def test_a_non_finite_update_freezes_a_member_even_if_its_loss_is_finite(make_trial) -> None:
    trial = make_trial(fit("none", (1e-3, 1e39, 1e-3), (0.0,) * 3), optimizer="sgd")
    trial.train(1)
    assert trial.state.diverged.tolist() == [-1, 0, -1]
    assert_same_bits("frozen", trial.state.params[1], trial.state.init[1])


@pytest.mark.parametrize(("optimizer", "method"), [("sgd", "none"), ("adam", "wasserstein")])
def test_updates_written_at_once_have_the_bits_of_those_that_wait(optimizer, method, make_trial, monkeypatch) -> None:
    """The second member's loss is lost at some update, the third's first update overflows, so that all begins again."""
    given = fit(method, (1e-3, 300.0, 1e39), (0.0,) * 3 if method == "none" else (1.0,) * 3)
    trials, sums = [make_trial(given, optimizer=optimizer, activation="identity") for _ in range(2)], []
    for trial, free in zip(trials, (1 << 40, 0)):
        monkeypatch.setattr(vmap, "free_bytes", lambda device, free=free: free)
        sums.append(trial.train(3))
    assert trials[0].state.diverged[2] == 0
    assert_same_members("state", trials[0].state, trials[1].state, [0, 1, 2])
    assert_same_sums("sums", *sums, [0, 1, 2])


def test_the_length_of_a_finite_update_is_finite(make_trial) -> None:
    trial = make_trial(fit("none", (1e30,) * 3, (0.0,) * 3))
    sums = trial.engine.run(trial.state, trial.task(), trial.order()[:, :1])
    change = trial.true_parameters(trial.state.params - trial.state.init).double()
    assert trial.state.diverged.tolist() == [-1, -1, -1]
    assert_close("update_l1", sums.update_l1, change.abs().mean(1), length=1000)
    assert_close("update_l2", sums.update_l2, change.square().sum(1).sqrt(), length=1000)


@pytest.mark.parametrize(("examples", "batch_size"), [(10, 4), (6, 1), (7, 7), (5, 4)])
def test_ragged_and_single_batches_equal_ordinary_training(examples: int, batch_size: int, make_trial) -> None:
    trial = make_trial(fit("none", strengths=(0.0,) * 3), examples=examples, batch_size=batch_size)
    sums, task = trial.train(3), trial.task()
    for m in range(3):
        single = trial.ordinary(m)
        for positions in torch.cat([trial.order(epoch)[m] for epoch in range(3)]):
            single.step(task, positions)
        for name in SUMS:
            assert_close(name, getattr(sums, name)[m], math.fsum(getattr(single, name)), factor=ROUNDING)
        moved = float((single.vector() - trial.true_parameters(trial.state.init)[m]).abs().max())
        found = trial.true_parameters(trial.state.params)[m]
        assert_close(f"parameters of {m}", found, single.vector(), factor=ROUNDING, scale=moved)
    assert sums.steps.tolist() == [3 * math.ceil(examples / batch_size)] * 3


def test_a_member_does_not_depend_on_the_seeds_and_settings_of_its_batch_mates(make_trial) -> None:
    mine = Member(5, 2e-3, "wasserstein", 1.0)
    first = make_trial((Member(1, 1e-3, "none", 0.0), mine, Member(2, 1e-2, "l2", 3.0)))
    second = make_trial((Member(9, 1e-1, "l2", 1.0), mine, mine))
    sums = [trial.train(5) for trial in (first, second)]
    assert_same_members("member", first.state, second.state, [1])
    assert_same_sums("sums", sums[0], sums[1], [1])


@pytest.mark.parametrize("others", [0, 1, 30])
def test_a_member_does_not_depend_on_how_many_batch_mates_it_has(others: int, make_trial) -> None:
    mine, mates = fit("regenerative"), tuple(Member(100 + i, 5e-3, "l2", 1.0) for i in range(others))
    few, many = make_trial(mine), make_trial((*mates, mine[1]))
    few.train(5)
    many.train(5)
    moved = float((few.state.params[1] - few.state.init[1]).abs().max())
    assert_close("params", many.state.params[-1], few.state.params[1], factor=ROUNDING, scale=moved)


def test_permuting_members_permutes_results(make_trial) -> None:
    members, turned = fit("wasserstein"), [2, 0, 1]
    straight, turning = make_trial(members), make_trial(tuple(members[i] for i in turned))
    sums = [straight.train(5), turning.train(5)]
    assert_same_bits("init", turning.state.init, straight.state.init[turned])
    moved = (straight.state.params - straight.state.init).abs().amax(1)
    for place, m in enumerate(turned):
        found, expected = turning.state.params[place], straight.state.params[m]
        assert_close(f"params of {m}", found, expected, factor=ROUNDING, scale=float(moved[m]))
    for name in SUMS:
        assert_close(name, getattr(sums[1], name), getattr(sums[0], name)[turned], factor=ROUNDING)


def test_one_call_is_the_same_bits_as_many(make_trial) -> None:
    whole, pieces = make_trial(fit("l2"), batch_size=9), make_trial(fit("l2"), batch_size=9)
    order = torch.cat([whole.order(epoch) for epoch in range(3)], 1)
    given = order.clone()
    sums = whole.engine.run(whole.state, whole.task(), order)
    parts = Accumulators.zeros(3)
    for step in range(order.shape[1]):
        parts.add(pieces.engine.run(pieces.state, pieces.task(), order[:, step : step + 1]))
    assert_same_members("state", pieces.state, whole.state, [0, 1, 2])
    assert_same_sums("sums", parts, sums, [0, 1, 2])
    assert_same_bits("order", order, given)


def test_updates_with_plain_tensors_in_blocks_or_not_equal_the_kernel(make_trial) -> None:
    kernel, whole, blocks = trials = [make_trial(fit("wasserstein", (1e-3, 1e30, 1e-2))) for _ in range(3)]
    whole.engine._fused = blocks.engine._fused = False  # as on a GPU
    blocks.engine._rows = 1
    sums = [trial.train(3) for trial in trials]
    assert_same_members("state", blocks.state, whole.state, [0, 1, 2])
    assert_same_sums("sums", sums[2], sums[1], [0, 1, 2])
    moved = (whole.state.params - whole.state.init).abs().amax(1)
    for m, (found, expected) in enumerate(zip(kernel.state.params, whole.state.params)):
        assert_close(f"params of {m}", found, expected, factor=ROUNDING, scale=float(moved[m]))
    assert_same_bits("diverged", kernel.state.diverged, whole.state.diverged)
    assert_same_bits("steps", kernel.state.steps, whole.state.steps)
    for name in SUMS:
        assert_close(name, getattr(sums[0], name), getattr(sums[1], name), factor=ROUNDING)


def test_initial_parameters_are_kept_and_sgd_has_no_second_moment(make_trial) -> None:
    trial = make_trial(fit("l2"), optimizer="sgd", momentum=0.9)
    init = trial.state.init.clone()
    assert_same_bits("params", trial.state.params, init)
    trial.train(2)
    assert_same_bits("init", trial.state.init, init)
    assert (trial.state.v == 0).all()
    assert (trial.state.params != init).any()


class Own(nn.Module):
    """LayerNorm, batch statistics and dropout."""

    def __init__(self, dropout: float, batch_norm: bool = False) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(36, 12), nn.LayerNorm(12)
        self.batch_norm = nn.BatchNorm1d(12, track_running_stats=False) if batch_norm else nn.Identity()
        self.drop, self.last = nn.Dropout(dropout), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.batch_norm(self.norm(self.first(x.flatten(1))))
        return self.last(self.drop(torch.relu(h)))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_users_module_trains_as_it_would_by_itself(batch_norm: bool, make_trial) -> None:
    # Not adam: it would blow up the rounding errors of the zero gradients that batch statistics make.
    members = fit("regenerative", (0.1, 0.03, 0.01), (1.0, 0.1, 0.0))
    trial = make_trial(members, module=lambda: Own(0.0, batch_norm), optimizer="sgd", momentum=0.9)
    singles, task = [trial.ordinary(m, Own(0.0, batch_norm)) for m in range(3)], trial.task()
    sums = trial.train(5)
    params = trial.true_parameters(trial.state.params)
    for m, single in enumerate(singles):
        for positions in torch.cat([trial.order(epoch)[m] for epoch in range(5)]):
            single.step(task, positions)
        assert_close(f"loss of {m}", sums.loss[m], math.fsum(single.loss), factor=ROUNDING)
        assert_close(f"parameters of {m}", params[m], single.vector(), factor=ROUNDING)


def test_dropout_differs_between_members_and_updates_and_repeats_with_the_seeds(make_trial) -> None:
    trials = [make_trial(fit("none", (1e-3,) * 3, (0.0,) * 3), module=lambda: Own(0.5)) for _ in range(3)]
    sums = [trial.train(2) for trial in trials[:2]]
    assert_same_members("repeated", trials[1].state, trials[0].state, [0, 1, 2])
    assert_same_sums("repeated", sums[1], sums[0], [0, 1, 2])
    trials[2].train(1)
    torch.rand(100)
    trials[2].train(1, first=1)
    assert_same_members("went on after other draws", trials[2].state, trials[0].state, [0, 1, 2])
    pair = make_trial((Member(3, 1e-3, "none", 0.0), Member(4, 1e-3, "none", 0.0)), module=lambda: Own(0.5))
    pair.state.params[1] = pair.state.params[0]
    task = replace(pair.task(), rows=pair.task().rows[:1].expand(2, -1), labels=pair.task().labels[:1].expand(2, -1))
    pair.engine.run(pair.state, task, pair.order()[:1].expand(2, -1, -1))
    assert (pair.state.params[0] != pair.state.params[1]).any()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_an_error_that_names_the_flag() -> None:
    for asked in ("device", "engine"):
        with pytest.raises(ConfigError, match=rf"--{asked} cuda needs an NVIDIA GPU: .*Use --device cpu."):
            choose_device(Experiment(**{asked: "cuda"}))
    assert choose_device(Experiment()) == torch.device("cpu")


def test_there_is_a_core() -> None:
    assert available_cores() >= 1


@pytest.mark.parametrize("network", ["mlp", "cnn", "convnet"])
@pytest.mark.parametrize("method", ["none", "wasserstein"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_an_update_as_on_a_gpu_waits_for_nothing(network, method, decay, make_trial):
    """So that it can be captured in a graph: no value is read and none is made on the host."""
    strength = {} if method == "none" else {"strength": (0.1,)}
    benchmark = "mnist_shuffle" if network == "mlp" else "cifar_shuffle"
    trial = make_trial(network=network, benchmark=benchmark, method=method, dropout=0.2, weight_decay=decay, **strength)
    trial.engine._fused = False  # as on a GPU
    task, positions, sums = trial.task(), trial.order()[:, 0], torch.zeros(4, 3, dtype=torch.float64)
    trial.engine._update(trial.state, task, positions, sums)  # what is made once
    with NothingWaitsForTheHost():
        trial.engine._update(trial.state, task, positions, sums)
    assert trial.state.steps.tolist() == [2, 2, 2]
