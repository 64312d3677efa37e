"""What is true of every method: its neutral value is no method, and nothing depends on the batch or on a stop."""

import math
import re
from dataclasses import replace

import pytest
import torch
from assertions import assert_same_bits
from method_cases import CASES, compute_gradients_by_member, member

from fastplast.config import METHOD_NAMES, METHOD_OPTIONS, PULLS, TAKES_STRENGTH, ConfigError, Member, Option
from fastplast.engines import CpuEngine, MethodError, VmapEngine, choose_engine, missing_kernels
from fastplast.methods import METHODS, Choice, Method, hidden_layers, register

CPU = torch.device("cpu")


def train(trial, tasks: int = 2, epochs: int = 2) -> None:
    """Through tasks, as the loop does."""
    for task in range(tasks):
        trial.engine.hooks.begin_task(trial.state, trial.task(task))
        trial.train(epochs, task=task)


def arena(state, m: int) -> dict[str, torch.Tensor]:
    return {name: getattr(state, name)[m] for name in ("params", "m", "v", "steps", "diverged")}


def assert_same_member(name: str, a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    for part in a:
        assert_same_bits(f"{name}: {part}", a[part], b[part])


def test_every_method_has_a_case():
    assert set(CASES) == set(METHOD_NAMES) - set(PULLS)
    for name, case in CASES.items():
        assert (case.strength > 0) == TAKES_STRENGTH[name], name
        assert case.acts.keys() | case.neutral.keys() <= METHOD_OPTIONS[name].keys()


@pytest.mark.parametrize("network", ["mlp", "cnn"])
@pytest.mark.parametrize("name", CASES)
def test_its_neutral_value_is_no_method_to_the_bit_and_any_other_is_one(name, network, make_trial):
    fields = {"optimizer": CASES[name].optimizer, "network": network}
    plain = make_trial(tuple(Member(seed, 1e-2, "none", 0.0) for seed in range(3)), **fields)
    mixed = make_trial((member(name, 0, acts=False), member(name, 1), member(name, 2, acts=False)), **fields)
    for trial in (plain, mixed):
        train(trial)
    for m in (0, 2):
        assert_same_member(name, arena(mixed.state, m), arena(plain.state, m))
    assert (mixed.state.params[1] != plain.state.params[1]).any()
    assert mixed.state.diverged.tolist() == [-1, -1, -1]


def mixed_members(optimizer: str) -> tuple[Member, ...]:
    own = [member(name, 5 + i) for i, name in enumerate(CASES) if CASES[name].optimizer in ("adam", optimizer)]
    pulls = [Member(i, 1e-2, name, 0.1 * (name != "none")) for i, name in enumerate(PULLS)]
    return (*own[:8], *pulls, *own[8:])


@pytest.mark.parametrize(("optimizer", "network"), [("adam", "mlp"), ("sgd", "cnn")])
def test_a_member_is_the_same_bits_alone_and_among_members_of_all_methods(optimizer, network, make_trial):
    members, fields = mixed_members(optimizer), {"optimizer": optimizer, "network": network}
    together = make_trial(members, **fields)
    compute_gradients_by_member(together.engine)
    train(together)
    for m, own in enumerate(members):
        alone = make_trial((own,), **fields)
        compute_gradients_by_member(alone.engine)
        train(alone)
        assert_same_member(own.method, arena(together.state, m), arena(alone.state, 0))


@pytest.mark.parametrize(("optimizer", "reset"), [("adam", "none"), ("sgd", "none"), ("adam", "moments")])
def test_a_state_that_is_stored_and_read_goes_on_to_the_same_bits(optimizer, reset, make_trial):
    fields = {"optimizer": optimizer, "optimizer_reset": reset}
    whole, first, second = (make_trial(mixed_members(optimizer), **fields) for _ in range(3))
    train(whole)
    first.train(2)
    first.engine.hooks.begin_task(first.state, first.task(1))
    first.train(1, task=1)
    stored = {name: tensor.clone() for name, tensor in first.state.tensors().items()}
    for name, tensor in second.state.tensors().items():
        tensor.copy_(stored.pop(name))
    assert not stored
    second.train(1, task=1, first=1)
    for (name, a), b in zip(whole.state.tensors().items(), second.state.tensors().values()):
        assert_same_bits(name, b, a)


@pytest.mark.parametrize("name", CASES)
def test_a_member_that_diverges_is_frozen_and_leaves_the_others_alone(name, make_trial):
    fields = {"optimizer": CASES[name].optimizer, "activation": "identity"}
    healthy = make_trial((member(name, 0), member(name, 1)), **fields)
    loose = {"bound": 1e35} if name == "clip" else {}  # else it would keep the member from diverging
    hurt = make_trial((member(name, 0, rate=1e30, **loose), member(name, 1)), **fields)
    for trial in (healthy, hurt):
        compute_gradients_by_member(trial.engine)
        train(trial)
    at = int(hurt.state.diverged[0])
    assert 0 <= at <= 6
    assert hurt.state.steps.tolist() == [at, 12]
    assert hurt.state.params.isfinite().all()
    assert_same_member(name, arena(hurt.state, 1), arena(healthy.state, 1))
    frozen = arena(hurt.state, 0)["params"].clone()
    hurt.train(1, task=1)
    assert_same_bits("frozen", hurt.state.params[0], frozen)


@pytest.mark.parametrize("name", CASES)
def test_the_padding_of_the_arena_stays_zero(name, make_trial):
    trial = make_trial((member(name),), optimizer=CASES[name].optimizer, network="cnn")
    train(trial)
    for part in (trial.state.params, trial.state.m, trial.state.v):
        padding = part.clone()
        for slot in trial.group.layout.slots:
            padding[:, slot.slice] = 0
        assert (padding == 0).all()


def test_plain_tensors_take_the_same_steps_as_the_kernel(make_trial):
    """Of members with a step of their own as well: both ways are one definition."""
    trials = [make_trial((member("cbp"), member("redo", 1), Member(2, 1e-2, "none", 0.0))) for _ in range(2)]
    trials[1].engine._fused = False
    for trial in trials:
        trial.train(1)
        assert trial.state.kept["resets"].sum() > 0
    moved = (trials[0].state.params - trials[0].state.init).abs().max()
    assert (trials[0].state.params - trials[1].state.params).abs().max() < 1e-4 * moved
    assert torch.equal(trials[0].state.kept["born"], trials[1].state.kept["born"])


@pytest.fixture
def own_name(monkeypatch):
    """A name for a method of one's own, forgotten afterwards."""
    yield "mine"
    for known in (METHODS, METHOD_OPTIONS, TAKES_STRENGTH):
        known.pop("mine", None)


def test_a_hook_that_gives_another_shape_is_told(own_name, make_trial):
    register(own_name, Method(after_update=lambda seen: seen.params[:, :-1], summary="cuts"))
    trial = make_trial((Member(0, 1e-3, own_name, 0.0),))
    size = trial.group.layout.size
    with pytest.raises(MethodError, match=re.escape(f"at update 1 must give [1, {size}]: got [1, {size - 1}].")):
        trial.train(1)


def test_masks_of_no_hidden_layers_are_told(own_name, make_trial):
    register(
        own_name, Method(choose_units=lambda seen: Choice([torch.zeros(1, 14)]), needs_layers=True, summary="none")
    )
    trial = make_trial((Member(0, 1e-3, own_name, 0.0),))
    text = (
        "choose_units of the method 'mine' at update 1 must give bool masks [1, 14], [1, 12], [1, 9]: got torch.float32"
    )
    with pytest.raises(MethodError, match=re.escape(text)):
        trial.train(1)


def test_a_method_that_is_idle_in_updates_costs_none(make_trial):
    at_tasks = (member("shrink_perturb", when="task"), Member(1, 1e-2, "none", 0.0))
    idle, plain = make_trial(at_tasks), make_trial((replace(at_tasks[1], seed=0), at_tasks[1]))
    assert not idle.engine.hooks.acts_on_updates
    for trial in (idle, plain):
        trial.train(1)
    assert_same_bits("no update", idle.state.params, plain.state.params)
    idle.engine.hooks.begin_task(idle.state, idle.task(1))
    assert (idle.state.params[0] != plain.state.params[0]).any()


def test_parameters_that_a_method_makes_infinite_freeze_the_member_without_them(own_name, make_trial):
    def explode(seen):
        return torch.where((seen.number == 2)[:, None], torch.inf, seen.params)

    register(own_name, Method(after_update=explode, summary="explodes"))
    trial = make_trial((Member(0, 1e-3, own_name, 0.0), Member(1, 1e-3, "none", 0.0)))
    trial.train(1)
    assert trial.state.diverged.tolist() == [2, -1]
    assert trial.state.steps.tolist() == [2, 3]
    assert trial.state.params.isfinite().all()


def test_units_of_ones_own_choice_are_reset(own_name, make_trial):
    def first_unit(seen):
        masks = [torch.zeros(len(seen.params), hidden.units) for hidden in hidden_layers(seen.users.network)]
        masks[0][:, 0] = seen.users.options["on"].float()
        return Choice([mask > 0 for mask in masks])

    method = Method(choose_units=first_unit, needs_layers=True, summary="one unit")
    register(own_name, method, {"on": Option(1, "whether it is reset")})
    members = [Member(seed, 1e-3, own_name, 0.0, options={"mine_on": on}) for seed, on in enumerate((1, 0))]
    trial = make_trial(tuple(members))
    trial.train(1)
    assert trial.state.kept["resets"].tolist() == [[3, 0, 0], [0, 0, 0]]


ON_CPU = (
    "shrink_perturb",
    "clip",
    "hare_tortoise",
    "nap",
    "noise",
    "upgd",
    "full_reset",
    "fire",
    "dash",
    "cbp",
    "redo",
    "snr",
    "regrama",
)


def test_cpu_trains_resets_what_acts_after_updates_and_at_changes_of_task_and_auto_says_why_not_the_rest(make_trial):
    for name in CASES:
        trial = make_trial((member(name), Member(1, 1e-3, "none", 0.0)), optimizer=CASES[name].optimizer)
        engine = choose_engine(trial.experiment, trial.group, trial.state, CPU)
        if name in ON_CPU:
            assert isinstance(engine, CpuEngine)
        else:
            assert isinstance(engine, VmapEngine)
            text = f"--method {name} acts within every update, which its kernels do not serve"
            assert engine.notice == f"Engine vmap, not the faster cpu: {text}."


@pytest.mark.parametrize("reset", ["none", "moments", "step"])
def test_cpu_and_vmap_agree(reset, make_trial):
    with_adam = (name for name in ON_CPU if CASES[name].optimizer == "adam")
    members = (*(member(name, i) for i, name in enumerate(with_adam)), Member(9, 1e-2, "none", 0.0))
    trials = [make_trial(members, optimizer_reset=reset) for _ in range(2)]
    trials[0].engine = CpuEngine(trials[0].group, trials[0].state, 1)
    for trial in trials:
        train(trial, epochs=1)
    for m, own in enumerate(members):
        moved = (trials[1].state.params[m] - trials[1].state.init[m]).abs().max()
        assert (trials[0].state.params[m] - trials[1].state.params[m]).abs().max() < 1e-3 * moved, own.method
    assert trials[0].state.steps.tolist() == trials[1].state.steps.tolist() == [6] * len(members)


@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_on_cpu_a_member_is_the_same_bits_alone_and_among_others(network, make_trial):
    with_adam = (name for name in ON_CPU if CASES[name].optimizer == "adam")
    members = (*(member(name, i) for i, name in enumerate(with_adam)), Member(9, 1e-2, "wasserstein", 0.1))

    def trained(own, threads):
        trial = make_trial(own, network=network)
        trial.engine = CpuEngine(trial.group, trial.state, threads)
        trial.engine.hooks.begin_task(trial.state, trial.task(1))
        return trial, trial.train(2, task=1)

    together, sums = trained(members, 2)
    for m, own in enumerate(members):
        alone, by_itself = trained((own,), 1)
        assert_same_member(own.method, arena(together.state, m), arena(alone.state, 0))
        for name, values in sums.tensors().items():
            assert_same_bits(f"{own.method}: {name}", values[m], by_itself.tensors()[name][0])


@pytest.mark.parametrize(("reset", "first"), [("moments", 1.0), ("step", 9.0 / math.sqrt(999.0))])
def test_a_task_begins_with_the_step_of_a_count_that_begins_anew(reset, first, make_trial):
    """Moments of 1 that are kept are corrected to 0.9 / (1 - beta1) = 9 and 0.999 / (1 - beta2) = 999."""
    trial = make_trial((Member(0, 1e-6, "none", 0.0),), optimizer_reset=reset, examples=16)
    trial.state.m += 1.0
    trial.state.v += 1.0
    trial.state.steps += 10**6
    trial.engine.hooks.begin_task(trial.state, trial.task(1))
    assert (trial.state.m == 0).all() == (trial.state.v == 0).all() == (reset == "moments")
    assert trial.state.kept["since"].tolist() == [10**6]
    before = trial.state.params.clone()
    trial.train(1, task=1)
    moved = (trial.state.params - before).abs()[:, trial.group.layout["fc4.bias"].slice].max()
    assert float(moved) == pytest.approx(1e-6 * first, rel=0.12)  # gradients add some hundredths to the moments


def test_cuda_says_what_it_has_no_kernels_for(make_trial):
    assert missing_kernels(make_trial((member("cbp"),)).group) == "it has no kernels for --method cbp"
    assert missing_kernels(make_trial(optimizer_reset="step").group) == "it has no kernels for --optimizer-reset step"
    assert missing_kernels(make_trial((member("fire"),)).group) is None


def test_a_method_that_knows_units_refuses_a_module_and_the_others_train_it(make_trial):
    def module():
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 8), torch.nn.ReLU(), torch.nn.Linear(8, 5))

    with pytest.raises(ConfigError, match="--method cbp needs a built-in network, whose units are known: got module:"):
        make_trial((member("cbp"),), module=module)
    for name, case in CASES.items():
        if not METHODS[name].needs_layers:
            trial = make_trial((member(name), member(name, 1)), module=module, optimizer=case.optimizer)
            train(trial, epochs=1)
            assert trial.state.diverged.tolist() == [-1, -1], name


def test_a_full_reset_begins_running_statistics_anew(make_trial):
    def module():
        body = torch.nn.Linear(36, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Linear(8, 5)
        return torch.nn.Sequential(torch.nn.Flatten(), *body)

    trial = make_trial((Member(0, 1e-2, "none", 0.0), member("full_reset", 1)), module=module)
    first = {name: tensor.clone() for name, tensor in trial.state.running_of(slice(None)).items()}
    trial.train(2)
    after = {name: tensor.clone() for name, tensor in trial.state.running_of(slice(None)).items()}
    assert set(first) == {f"2.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
    trial.engine.hooks.begin_task(trial.state, trial.task(1))
    for name, tensor in trial.state.running_of(slice(None)).items():
        assert (after[name] != first[name]).any(), name
        assert_same_bits(name, tensor[0], after[name][0])
        assert_same_bits(name, tensor[1], first[name][1])
