"""The same training as users have it today: what the engines are timed against.

Each peer is a function from (setup, task) to ``run(order) -> [M] summed batch losses``, which keeps its state between
calls. All take the paper's setting: adam, one learning rate, no regulariser; JAX also the Wasserstein regulariser.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap
from torch.nn import functional

from fastplast.networks import Conv, ModuleNetwork
from fastplast.problems import Task
from fastplast.training.setup import Setup

Run = Callable[[Tensor], Any]


def module(setup: Setup, member: int) -> nn.Sequential:
    """A member as an ordinary module: a user's own, or the built-in network with ReLU."""
    network, state = setup.group.network, setup.state
    if isinstance(network, ModuleNetwork):
        own = nn.Sequential(nn.Unflatten(1, network.shape), copy.deepcopy(network.template))
        own[1].load_state_dict(network.layout.views(state.init[member]))
        return own
    stages: list[nn.Module] = [nn.Unflatten(1, network.shape)]
    for i, layer in enumerate(network.layers):
        if isinstance(layer, Conv):
            made: nn.Module = nn.Conv2d(layer.in_channels, layer.outputs, layer.kernel, layer.stride, layer.padding)
        else:
            if i == 0 or isinstance(network.layers[i - 1], Conv):
                stages.append(nn.Flatten())
            made = nn.Linear(layer.inputs, layer.outputs)
        for name, parameter in made.named_parameters():
            slot = network.layout[f"{layer.name}.{name}"]
            parameter.data = state.init[member, slot.slice].reshape(slot.shape).clone()
        stages += [made, nn.ReLU()] if layer.activated else [made]
    return nn.Sequential(*stages)


def examples(task: Task) -> tuple[Tensor, Tensor]:
    """Every member's inputs `[M, N, I]` float32 and labels, materialised as scripts do."""
    everything = torch.arange(task.num_examples, device=task.labels.device).expand(task.num_members, -1)
    return task.inputs(everything), task.labels


def torch_loop(setup: Setup, task: Task) -> Run:
    """One module and one fused Adam per member, one after another."""
    x, y = examples(task)
    modules = [module(setup, m) for m in range(task.num_members)]
    rate = setup.group.members[0].learning_rate
    optimizers = [torch.optim.Adam(net.parameters(), rate, fused=True) for net in modules]

    def run(order: Tensor) -> Tensor:
        order, sums = order.to(x.device), torch.zeros(len(modules), device=x.device)
        for m, (net, optimizer) in enumerate(zip(modules, optimizers)):
            for positions in order[m]:
                loss = functional.cross_entropy(net(x[m, positions]), y[m, positions])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                sums[m] += loss.detach()
        return sums

    return run


def torch_vmap(setup: Setup, task: Task, compiled: bool = False) -> Run:
    """``torch.func``: stacked modules, vmapped gradients, compiled or not, one fused Adam over the stack."""
    x, y = examples(task)
    modules = [module(setup, m) for m in range(task.num_members)]
    params, _ = stack_module_state(modules)  # type: ignore[arg-type]
    optimizer = torch.optim.Adam(params.values(), setup.group.members[0].learning_rate, fused=True)
    template = modules[0]

    def loss(p: dict[str, Tensor], a: Tensor, b: Tensor) -> Tensor:
        return functional.cross_entropy(functional_call(template, p, (a,)), b)

    gradients = vmap(grad_and_value(loss))
    if compiled:
        gradients = torch.compile(gradients, dynamic=False, fullgraph=True)
    rows = torch.arange(task.num_members, device=x.device)[:, None]

    def run(order: Tensor) -> Tensor:
        order, sums = order.to(x.device), torch.zeros(task.num_members, device=x.device)
        for positions in order.unbind(1):
            grads, losses = gradients(
                {k: v.detach() for k, v in params.items()}, x[rows, positions], y[rows, positions]
            )
            for name, parameter in params.items():
                parameter.grad = grads[name]
            optimizer.step()
            sums += losses
        return sums

    return run


def jax_vmap(setup: Setup, task: Task) -> Run:
    """JAX: the whole loop compiled, ``vmap`` over members."""
    return _jax(setup, task, lambda jax, member: jax.vmap(member))


def jax_map(setup: Setup, task: Task, ranks: str = "argsort") -> Run:
    """JAX: the whole loop compiled, one member after another (``lax.map``), whose state stays in cache."""
    return _jax(setup, task, lambda jax, member: lambda *tables: jax.lax.map(lambda row: member(*row), tables), ranks)


def jax_map_search(setup: Setup, task: Task) -> Run:
    """`jax_map` with the rank of each weight searched for among the sorted weights."""
    return jax_map(setup, task, "sort and search")


def _wasserstein_gradient(jnp: Any, ranks: str, w: Any, sorted_init: Any, factor: float) -> Any:
    """Gradient of the pull on one weight matrix, from its formula: no derivative of a sort is taken."""
    flat = w.ravel()
    if ranks == "argsort":
        q = jnp.zeros_like(flat).at[jnp.argsort(flat, stable=False)].set(sorted_init, unique_indices=True)
    else:
        q = sorted_init[jnp.searchsorted(jnp.sort(flat), flat)]
    return factor * (w - q.reshape(w.shape))


def _jax(setup: Setup, task: Task, over_members: Callable[[Any, Any], Any], ranks: str = "argsort") -> Run:
    import jax
    from jax import numpy as jnp

    network, rate = setup.group.network, setup.group.members[0].learning_rate
    own = setup.group.members[0]
    strength = own.strength if own.method == "wasserstein" else 0.0
    factors = {  # 2 strength c
        slot.name: 2 * strength / (slot.count if setup.group.reduction == "mean" else 1)
        for slot in network.layout.slots
        if slot.is_weight and strength != 0
    }

    def forward(p: dict[str, Any], h: Any) -> Any:
        for layer in network.layers:
            w, b = p[f"{layer.name}.weight"], p[f"{layer.name}.bias"]
            if isinstance(layer, Conv):
                h = h.reshape(-1, layer.in_channels, layer.height, layer.width)
                pad = [(layer.padding, layer.padding)] * 2
                h = jax.lax.conv_general_dilated(h, w, (layer.stride,) * 2, pad) + b[:, None, None]
            else:
                h = h.reshape(h.shape[0], -1) @ w.T + b
            h = jax.nn.relu(h) if layer.activated else h
        return h

    def loss(p: dict[str, Any], a: Any, b: Any) -> Any:
        return -jnp.take_along_axis(jax.nn.log_softmax(forward(p, a)), b[:, None], 1).mean()

    def member(state: Any, a: Any, b: Any, order: Any, anchor: Any) -> Any:
        def step(carry: Any, positions: Any) -> Any:
            p, m, v, t = carry
            value, g = jax.value_and_grad(loss)(p, a[positions], b[positions])
            for name, factor in factors.items():
                g[name] = g[name] + _wasserstein_gradient(jnp, ranks, p[name], anchor[name], factor)
            t = t + 1
            m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
            v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
            size, root = rate / (1 - 0.9**t), jnp.sqrt(1 - 0.999**t)
            p = jax.tree.map(lambda p, m, v: p - size * m / (jnp.sqrt(v) / root + 1e-8), p, m, v)
            return (p, m, v, t), value

        state, losses = jax.lax.scan(step, state, order)
        return state, losses.sum()

    x, y = (jnp.asarray(value.cpu().numpy()) for value in examples(task))
    params = {name: jnp.asarray(view.cpu().numpy()) for name, view in network.layout.views(setup.state.init).items()}
    zeros = {name: jnp.zeros_like(value) for name, value in params.items()}
    state = [(params, zeros, zeros, jnp.zeros(task.num_members))]
    anchor = {name: jnp.sort(params[name].reshape(task.num_members, -1)) for name in factors}
    compiled = jax.jit(over_members(jax, member))

    def run(order: Tensor) -> np.ndarray:
        state[0], losses = jax.block_until_ready(compiled(state[0], x, y, jnp.asarray(order.numpy()), anchor))
        return np.asarray(losses)

    return run
