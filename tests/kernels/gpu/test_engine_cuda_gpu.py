"""The ``cuda`` engine against the ``vmap`` engine: on a GPU with graphs, in the interpreter launch by launch."""

import copy
import math
from itertools import product

import pytest
import torch
from assertions import NothingIsAllocated, assert_close, assert_same_bits, tolerance
from interpreter import INTERPRETED, unseen_launches

pytest.importorskip("triton", reason="needs Triton")

from fastplast_kernels.train_step import gpu, launches, training

from fastplast.config import ELEMENTWISE, ConfigError, Member
from fastplast.engines import CudaEngine, GroupState, VmapEngine
from fastplast.training.capacity import bytes_per_member

pytestmark = pytest.mark.usefixtures("small_buckets")
RATES = {"adam": 1e-3, "adamw": 1e-3, "sgd": 0.01}  # calm: a chaotic training multiplies rounding errors
METHODS = ("none", "l2", "regenerative", "wasserstein")
PLAIN = METHODS[:3] if INTERPRETED else METHODS  # sorting is slow there
# Small and short in the interpreter; the last minibatch of an epoch is ragged in both.
NETWORK = {"network": "mlp", "benchmark": "mnist_permute"}
SIZES = {"widths": (5, 4), "examples": 20} if INTERPRETED else {"examples": 40}
EPOCHS, UPDATES = (1, 3) if INTERPRETED else (40, 5)
STEPS = UPDATES * EPOCHS
CHANGES = [
    {"activation": "crelu", "layer_norm": True, "dropout": 0.2, "optimizer": "adamw"}, {"dropout": 0.2},
    {"activation": "crelu", "optimizer": "sgd"}, {"activation": "tanh", "layer_norm": True},
]  # fmt: skip
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
    options = (
        NETWORK
        | SIZES
        | {"momentum": 0.5 if optimizer == "sgd" else 0.0, "weight_decay": 0.01, "batch_size": 9}
        | changes
    )
    return make_trial(members, activation=activation, optimizer=optimizer, **options)


@pytest.mark.parametrize(("activation", "optimizer"), CASES)
def test_two_hundred_updates_equal_the_vmap_engine(activation, optimizer, device, make_trial):
    """To rounding errors, and to what training makes of them: of a last bit of the initial weights, for comparison.

    In the interpreter, three updates.
    """
    methods = METHODS if activation == "relu" else PLAIN
    trial = trial_of(make_trial, mixed(optimizer, methods), activation, optimizer)
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
    assert fast.state.steps.tolist() == [STEPS] * len(methods)


@pytest.mark.parametrize("change", CHANGES[:1] if INTERPRETED else CHANGES, ids=str)
def test_modified_perceptrons_equal_the_vmap_engine(change, device, make_trial):
    trial = trial_of(make_trial, mixed(change.get("optimizer", "adam"), ("l2",)), **change)
    slow, fast = (on(trial, device, kind) for kind in (VmapEngine, CudaEngine))
    expected, sums = slow.train(1), fast.train(1)
    for name in ("loss", "update_l1", "update_l2"):
        assert_close(name, getattr(sums, name), getattr(expected, name), factor=ROUNDING)
    moved = float((slow.state.params - slow.state.init).abs().max())
    last_bits = UPDATES * 2.0**-24 * float(slow.state.init.abs().max())  # a weight is rounded at every update
    scale = moved + last_bits / tolerance(torch.float32, factor=ROUNDING)
    assert_close("parameters", fast.state.params, slow.state.params, factor=ROUNDING, scale=scale)


def test_a_member_has_the_same_bits_alone_and_among_others(device, make_trial):
    trial = trial_of(make_trial, mixed("adam", PLAIN))
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
    trial = trial_of(make_trial, mixed("adam", ("none",)))
    whole, parts = (on(trial, device, CudaEngine) for _ in range(2))
    for task in (0, 1):
        order = trial.order(0, task)
        whole.engine.run(whole.state, whole.task(task), order)
        for some in order.split([2, UPDATES - 2], 1):
            parts.engine.run(parts.state, parts.task(task), some)
    assert_same_bits("parameters", parts.state.params, whole.state.params)
    assert int(whole.state.steps[0]) == 2 * UPDATES


@pytest.mark.filterwarnings(
    "ignore:(overflow|invalid value|divide by zero|All-NaN):RuntimeWarning"
)  # in the interpreter
def test_a_diverging_member_is_frozen_as_by_the_vmap_engine(device, make_trial):
    members = (Member(1, 1e-3, "none", 0.0), Member(2, 1e30, "none", 0.0), Member(3, 1e-3, "none", 0.0))
    calm = (members[0], Member(2, 1e-3, "none", 0.0), members[2])
    slow, fast = (on(trial_of(make_trial, members), device, kind) for kind in (VmapEngine, CudaEngine))
    healthy = on(trial_of(make_trial, calm), device, CudaEngine)
    for trial in (slow, fast, healthy):
        trial.train()
    assert fast.state.diverged.tolist() == slow.state.diverged.tolist()
    assert fast.state.diverged[1] >= 0
    assert fast.state.steps.tolist() == slow.state.steps.tolist()
    assert bool(fast.state.params.isfinite().all())
    for row in (0, 2):
        assert_same_bits("a healthy member", fast.state.params[row], healthy.state.params[row])


@pytest.mark.parametrize("method", ["none", "wasserstein"])
@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_an_update_waits_for_nothing_and_takes_no_memory(network, method, device, make_trial):
    """So that it can be captured in a graph: no value is read, and none is made or copied on the host."""
    sizes = {"network": "cnn", "benchmark": "cifar_shuffle", "channels": (2, 2), "examples": 2, "batch_size": 1}
    trial = trial_of(
        make_trial, mixed("adam", (method,)), dropout=0.2, layer_norm=True, **(sizes if network == "cnn" else {})
    )
    trial = on(trial, device, VmapEngine)
    engine = CudaEngine(trial.group, trial.state, torch.device(device), graphs=False)
    step = engine._prepared(trial.state, trial.task(), trial.order(), slice(0, 1)).step
    step.params[:] = trial.state.params
    training.begin(step, engine.hyper, trial.state.steps, torch.tensor([2], device=device))
    launches.update(step)  # what is made once
    before = step.params.clone()
    with unseen_launches(), NothingIsAllocated():
        launches.update(step)
    training.finish(step)
    assert not torch.equal(step.params, before)
    assert int(step.members[0, gpu.POSITION]) == 2


def out_of_memory(call, members_of, most: int):
    """`call`, which fails like PyTorch's allocator where more than `most` members are to be trained at once."""

    def limited(*arguments, **options):
        if members_of(*arguments) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return call(*arguments, **options)

    return limited


@pytest.mark.parametrize("where", ["start", "midway"])
def test_members_are_trained_part_by_part_to_the_same_bits_where_memory_does_not_suffice(
    where, device, make_trial, monkeypatch
):
    trial = trial_of(make_trial, mixed("adam", ("none", "l2", "wasserstein")))
    free, short = (on(trial, device, CudaEngine) for _ in range(2))
    expected = free.train()
    if where == "start":
        monkeypatch.setattr(launches, "allocate", out_of_memory(launches.allocate, lambda params, *_: len(params), 2))
    else:  # the last thing that takes memory, when all updates are made
        monkeypatch.setattr(training, "finish", out_of_memory(training.finish, lambda step: len(step.members), 2))
    with pytest.warns(UserWarning, match="GPU memory does not suffice for 3 members at once: 2 are trained at a time"):
        sums = short.train()
    for name, value in free.state.tensors().items():
        assert_same_bits(name, getattr(short.state, name), value)
    for name, value in expected.tensors().items():
        assert_same_bits(name, getattr(sums, name), value)


def test_where_not_even_one_member_fits_the_state_is_as_before_and_the_error_says_what_to_do(
    device, make_trial, monkeypatch
):
    trial = on(trial_of(make_trial, mixed("adam", ("none",))), device, CudaEngine)
    before = {name: tensor.clone() for name, tensor in trial.state.tensors().items()}
    monkeypatch.setattr(training, "finish", out_of_memory(training.finish, lambda step: len(step.members), 0))
    with pytest.raises(ConfigError, match=r"must fit in GPU memory beside the state of all: got 1 member.*--seeds"):
        trial.train()
    for name, value in before.items():
        assert_same_bits(name, getattr(trial.state, name), value)


CNN = {"network": "cnn", "benchmark": "cifar_shuffle", "channels": (8, 8)}


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("none", {}), ("l2", {"layer_norm": True, "activation": "crelu", "dropout": 0.1}), ("wasserstein", {}),
        ("none", CNN), ("none", CNN | {"activation": "crelu"}), ("none", CNN | {"layer_norm": True}),
    ],
)  # fmt: skip
def test_the_estimate_of_memory_covers_what_a_member_takes_full_size(method, change, device, make_trial):
    members = mixed("adam", (method,) * 3)
    trial = on(trial_of(make_trial, members, widths=(128, 64, 32), **change), device, VmapEngine)

    def taken(count: int) -> int:
        engine = CudaEngine(trial.group, trial.state, torch.device(device), graphs=False)
        engine.at_once = count
        step = engine._prepared(trial.state, trial.task(), trial.order(), slice(0, count)).step
        tensors = [*vars(step).values(), *(vars(step.buckets).values() if step.buckets else ())]
        return sum(tensor.nbytes for tensor in tensors if isinstance(tensor, torch.Tensor))

    arenas = 6 if method in ("regenerative", "wasserstein") else 5  # state, initial and the task's start, targets
    each = taken(3) - taken(2) + arenas * 4 * trial.group.layout.size
    estimate = bytes_per_member(trial.experiment, trial.group, trial.problem, "cuda")
    assert each <= estimate <= 2 * each


if not INTERPRETED:  # graphs need a GPU

    def test_graphs_have_the_same_bits_as_launches(device, make_trial):
        trial = trial_of(make_trial, mixed("adam"))
        captured, launched = (on(trial, device, CudaEngine) for _ in range(2))
        launched.engine = CudaEngine(trial.group, launched.state, torch.device(device), graphs=False)
        for each in (captured, launched):
            each.train(3)
        assert_same_bits("parameters", captured.state.params, launched.state.params)
