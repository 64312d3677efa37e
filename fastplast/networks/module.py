"""Any ``nn.Module`` of the user's as a network of the ``vmap`` engine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from math import prod

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from fastplast import seeding
from fastplast.config import ConfigError
from fastplast.losses import LOSSES
from fastplast.machine.generator import isolated_generators
from fastplast.networks.buffers import Constants, find_changing
from fastplast.networks.fixed import fixed_inputs, fixed_parameters
from fastplast.networks.forward_pass import ForwardPass
from fastplast.networks.layout import Layout
from fastplast.networks.running import RunningNorms

ModuleFactory = Callable[[], nn.Module]


def module_name(factory: ModuleFactory) -> str:
    """What a network made by a factory is called in configurations and results: ``module:`` and the module's class."""
    with isolated_generators():
        return f"module:{type(factory()).__qualname__}"


class ModuleNetwork:
    """A network made by a factory of modules, with the same face as ``Network``.

    Weight matrices (what regularisers pull) are the parameters of two or more dimensions. Features are the inputs of
    the ``nn.Linear`` that is called last. Inputs reach the module as `[B, channels, height, width]`.

    Args:
        factory: makes a new module; called once per member under that member's seed.
        shape: (channels, height, width) of the input.
        num_classes: C, the columns the module's output must have.
        name: what results call it; the module's class if None.

    Attributes:
        used: names of the parameters in the order of their last use, which may not be that of their registration.

    Raises:
        TypeError: if the factory does not make an ``nn.Module``.
        ValueError: if the module changes other buffers in training than those of batch normalisation, has no trainable
            parameters or such as are not registered or not real, draws random numbers in evaluation, or maps `[B, ...]`
            to anything but `[B, C]`.
    """

    activation = "own"
    feature_names = ("last",)
    has_closed_tail = False

    def __init__(
        self, factory: ModuleFactory, shape: tuple[int, int, int], num_classes: int, name: str | None = None
    ) -> None:
        if isinstance(factory, nn.Module):
            raise TypeError(
                f"network must be a function that makes modules: got a {type(factory).__name__}. Pass a module factory."
            )
        self.factory, self.shape = factory, shape
        module = self._new(seed=0)
        if not isinstance(module, nn.Module):
            raise TypeError(f"network must return an nn.Module: got {type(module).__name__}. Pass a module factory.")
        self.norms = RunningNorms(module)
        if running := [name for name in self._changing_buffers() if name not in self.norms.names]:
            raise ValueError(
                f"network must not keep running statistics: got buffers {', '.join(running)}. Use LayerNorm, GroupNorm "
                "or BatchNorm, whose statistics are each member's own. Buffers may be constant."
            )
        self._constants = Constants(module)
        self.template, self.name = module, name or f"module:{type(module).__qualname__}"
        parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
        if not parameters:
            raise ValueError(f"network must have trainable parameters: got none in {self.name}.")
        frozen = [n for n, p in module.named_parameters() if not p.requires_grad]
        if frozen:
            raise ValueError(f"network must not have frozen parameters: got {', '.join(frozen)}. Train all of them.")
        if unreal := {n: p.dtype for n, p in parameters.items() if not p.is_floating_point()}:
            name, dtype = next(iter(unreal.items()))
            raise ValueError(f"network must have real parameters: got {name} of {dtype}. Split it into two real ones.")
        weights = {n for n, p in parameters.items() if p.ndim >= 2}
        self.layout = Layout.pack({n: tuple(p.shape) for n, p in parameters.items()}, weights)
        self._check_output(num_classes)
        self._check_state()
        self.measuring_dtype = self._measuring_dtype()

    def _new(self, seed: int) -> nn.Module:
        with isolated_generators():
            torch.manual_seed(int(seeding.words(seed, "module", 1)[0] >> 1))
            return self.factory()

    def _changing_buffers(self) -> list[str]:
        try:
            with isolated_generators():
                return find_changing(self._new(seed=0), fixed_inputs(4, prod(self.shape)).view(4, *self.shape))
        except Exception:  # whatever a module of the user's may raise: the checks that follow say it
            return []

    def _check_output(self, num_classes: int) -> None:
        x = torch.zeros(2, *self.shape, dtype=torch.float32)
        try:
            with torch.no_grad():
                out = self.template.eval()(x)
        except Exception as error:  # whatever a module of the user's may raise
            raise ValueError(
                f"network must take inputs [B, {', '.join(map(str, self.shape))}]: {self.name} failed ({error})."
            ) from None
        shape = tuple(getattr(out, "shape", ()))
        if shape != (2, num_classes):
            raise ValueError(
                f"network must map [B, {', '.join(map(str, self.shape))}] to [B, {num_classes}]: got "
                f"{list(shape) or type(out).__name__} for B = 2 from {self.name}."
            )

    def _check_state(self) -> None:
        # Refuses what changes outputs and is no registered parameter: unregistered layers, and random numbers.
        x = fixed_inputs(4, prod(self.shape))
        parameters = self.layout.views(fixed_parameters(self.layout))
        with isolated_generators(), torch.enable_grad():
            before = torch.get_rng_state()
            once, twice = self.logits_of(parameters, x), self.logits_of(parameters, x)
            drew = not torch.equal(before, torch.get_rng_state())
            with ForwardPass(parameters) as watched:
                self.logits_of(parameters, x)
        self.used = watched.used
        if once.requires_grad:
            raise ValueError(
                f"network must register all that is trained: got a layer or tensor in {self.name} that is no part of "
                "parameters(). Use nn.ModuleList for layers in a list, nn.Parameter for tensors."
            )
        if drew or not torch.allclose(once, twice, rtol=0, atol=0, equal_nan=True):
            raise ValueError(
                f"network must compute the same twice in evaluation: got a random {self.name}. Draw in training only, "
                "for example F.dropout(x, training=self.training)."
            )

    def check_training(self, sizes: set[int], kind: str = "cross_entropy") -> None:
        """Computes a gradient as training will, with a module of its own.

        Args:
            sizes: of batches.
            kind: of the loss.

        Raises:
            ConfigError: if the module fails.
        """
        module, row = self._new(0).train(), fixed_parameters(self.layout)[None]
        norms, mean = RunningNorms(module), LOSSES[kind].mean

        def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
            logits = functional_call(module, parameters, (x.reshape(-1, *self.shape),))
            return mean(logits, logits.new_zeros(logits.shape) if kind == "mse" else torch.zeros(len(x)).long())

        for size in sorted(sizes, reverse=True):
            x = fixed_inputs(1, size * prod(self.shape)).view(1, size, -1)
            norms.found.clear()
            try:
                with isolated_generators():
                    vmap(grad(loss), randomness="different")(self.layout.views(row), x)
            except Exception as error:  # whatever a module of the user's may raise
                raise ConfigError(
                    f"network must train by torch.func.vmap(grad(loss)): {self.name} failed on a batch of {size} "
                    f"({type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''})."
                ) from error

    def _measuring_dtype(self) -> torch.dtype:
        """float64, or float32 where the module makes float32 tensors of its own, or insists on them."""
        row, x = (torch.zeros(size, dtype=torch.float64) for size in (self.layout.size, (2, prod(self.shape))))
        try:
            with torch.no_grad():
                self.logits(row, x)
        except Exception:  # whatever a module of the user's may raise
            return torch.float32
        return torch.float64

    def initial_parameters(self, seeds: list[int]) -> Tensor:
        """The module's own initialisation, under each member's seed.

        Args:
            seeds: one per member.

        Returns:
            `[M, P]` float32.

        Raises:
            ValueError: if modules share parameters, or differ in more than the values of their parameters.
        """
        self.train(False)
        arena = torch.zeros(len(seeds), self.layout.size, dtype=torch.float32)
        for row, seed in zip(arena, seeds):
            module = self._new(seed)
            parameters = dict(module.named_parameters())
            self._check_member(module, parameters, seed)
            for slot in self.layout.slots:
                row[slot.slice] = parameters[slot.name].detach().flatten()
        return arena

    def _check_member(self, module: nn.Module, parameters: dict[str, nn.Parameter], seed: int) -> None:
        # Refuses a module that differs from that of seed 0 in more than the values of its parameters.
        own = {id(p) for p in self.template.parameters()}
        if any(id(p) in own for p in parameters.values()):
            raise ValueError(f"network must make new parameters at every call: got those of another {self.name} again.")
        shapes = {name: tuple(p.shape) for name, p in parameters.items()}
        if shapes != {slot.name: slot.shape for slot in self.layout.slots}:
            raise ValueError(f"network must have the same parameters for every seed: got others for seed {seed}.")
        row, x = self.layout.views(fixed_parameters(self.layout)), fixed_inputs(4, prod(self.shape))
        RunningNorms(module)
        with torch.no_grad(), isolated_generators():
            expected = self.logits_of(row, x)
            found = functional_call(module.eval(), row, (x.reshape(-1, *self.shape),))
        if not torch.allclose(found, expected, rtol=1e-5, atol=1e-6, equal_nan=True):
            raise ValueError(
                f"network must differ between seeds in its parameters only: got a {self.name} of seed {seed} that "
                "computes something else. Make its tensors nn.Parameter, or the same for every seed; use nn.ModuleList "
                "for layers in a list."
            )

    def new_module(self, parameters: dict[str, Tensor]) -> nn.Module:
        """A module of its own with a member's parameters, by name."""
        module = self._new(seed=0)
        with torch.no_grad():
            for name, own in module.named_parameters():
                own.copy_(parameters[name])
        return module

    def structure(self) -> str:
        """SHA-256 of the names and types of the module's parts, and the names and shapes of its parameters."""
        parts = [(name, type(part).__qualname__) for name, part in self.template.named_modules()]
        slots = [(slot.name, list(slot.shape)) for slot in self.layout.slots]
        return hashlib.sha256(json.dumps([parts, slots]).encode()).hexdigest()

    @torch.no_grad()
    def fixed_outputs(self) -> list[float]:
        """Logits of fixed parameters on fixed inputs, while measuring and, with a fixed generator, in training."""
        row, x = fixed_parameters(self.layout), fixed_inputs(4, prod(self.shape))
        logits = []
        with isolated_generators():
            for mode in (False, True):
                torch.manual_seed(0)
                self.train(mode)
                logits.append(self.logits(row, x))
        return torch.stack(logits).flatten().nan_to_num(0.0, 0.0, 0.0).tolist()

    def train(self, mode: bool) -> None:
        """Switches dropout and the like on or off."""
        self.template.train(mode)

    def logits(self, row: Tensor, x: Tensor) -> Tensor:
        """Logits `[B, C]` of one member with parameters `[P]` on inputs `[B, I]`."""
        return self.logits_of(self.layout.views(row), x)

    def logits_of(self, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        """As ``logits``, of the parameters by name, with respect to which a gradient is taken faster than to a row.

        Running statistics may be among them. In training, those of the batch are left in ``norms.found``.
        """
        self.norms.found.clear()
        self.norms.given = not self.norms.names.isdisjoint(parameters)
        return functional_call(self.template, self._constants.like(x) | parameters, (x.reshape(-1, *self.shape),))

    def forward(
        self,
        row: Tensor,
        x: Tensor,
        dense_dtype: torch.dtype | None = None,
        running: dict[str, Tensor] | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Runs one member, catching the inputs of the ``nn.Linear`` that it calls last.

        Args:
            row: `[P]` the member's parameters.
            x: `[B, I]` inputs.
            dense_dtype: arithmetic of the whole module, if it can be had; that of the inputs if None.
            running: the member's running statistics by name, if there are any.

        Returns:
            Logits `[B, C]` and the features `[B, F]`, an empty list if the module calls no ``nn.Linear``.
        """
        if dense_dtype is not None:
            row, x = row.to(self.measuring_dtype), x.to(self.measuring_dtype)
        parameters = self.layout.views(row) | {name: value.to(x.dtype) for name, value in (running or {}).items()}
        with ForwardPass(parameters) as watched:
            logits = self.logits_of(parameters, x)
        h = watched.linear_inputs
        return logits, [] if h is None else [h.flatten(0, -2) if h.ndim > 1 else h]
