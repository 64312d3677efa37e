"""Any ``nn.Module`` of the user's as a network of the ``vmap`` engine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cached_property
from math import prod

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fastplast import seeding
from fastplast.networks.fixed import fixed_inputs, fixed_parameters
from fastplast.networks.layout import Layout

ModuleFactory = Callable[[], nn.Module]


class ModuleNetwork:
    """A network made by a factory of modules, with the same face as ``Network``.

    Weight matrices (what regularisers pull) are the parameters of two or more dimensions. Features are the inputs of
    the module's last ``nn.Linear``. Inputs reach the module as `[B, channels, height, width]`.

    Args:
        factory: makes a new module; called once per member under that member's seed.
        shape: (channels, height, width) of the input.
        num_classes: C, the columns the module's output must have.

    Raises:
        TypeError: if the factory does not make an ``nn.Module``.
        ValueError: if the module has running buffers, has no trainable parameters, or maps `[B, ...]` to anything but
            `[B, C]`.
    """

    activation = "own"
    feature_names = ("last",)
    has_closed_tail = False

    def __init__(self, factory: ModuleFactory, shape: tuple[int, int, int], num_classes: int) -> None:
        if isinstance(factory, nn.Module):
            raise TypeError(
                f"network must be a function that makes modules: got a {type(factory).__name__}. Pass a module factory."
            )
        self.factory, self.shape = factory, shape
        module = self._new(seed=0)
        if not isinstance(module, nn.Module):
            raise TypeError(f"network must return an nn.Module: got {type(module).__name__}. Pass a module factory.")
        running = [name for name, _ in module.named_buffers()]
        if running:
            raise ValueError(
                f"network must not keep running statistics: got buffers {', '.join(running)}. Use LayerNorm or "
                f"GroupNorm, or BatchNorm with track_running_stats=False."
            )
        self.template, self.name = module, f"module:{type(module).__qualname__}"
        parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
        if not parameters:
            raise ValueError(f"network must have trainable parameters: got none in {self.name}.")
        frozen = [n for n, p in module.named_parameters() if not p.requires_grad]
        if frozen:
            raise ValueError(f"network must not have frozen parameters: got {', '.join(frozen)}. Train all of them.")
        weights = {n for n, p in parameters.items() if p.ndim >= 2}
        self.layout = Layout.pack({n: tuple(p.shape) for n, p in parameters.items()}, weights)
        self._check_output(num_classes)
        self.measuring_dtype = self._measuring_dtype()

    @cached_property
    def last_linear(self) -> nn.Linear | None:
        """The module's last ``nn.Linear``, whose inputs are the features; None if there is none."""
        found = [m for m in self.template.modules() if isinstance(m, nn.Linear)]
        return found[-1] if found else None

    def _new(self, seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(seeding.words(seed, "module", 1)[0] >> 1))
            return self.factory()

    def _check_output(self, num_classes: int) -> None:
        x = torch.zeros(2, *self.shape)
        try:
            with torch.no_grad():
                out = self.template.eval()(x)
        except RuntimeError as error:
            raise ValueError(
                f"network must take inputs [B, {', '.join(map(str, self.shape))}]: {self.name} failed ({error})."
            ) from None
        shape = tuple(getattr(out, "shape", ()))
        if shape != (2, num_classes):
            raise ValueError(
                f"network must map [B, {', '.join(map(str, self.shape))}] to [B, {num_classes}]: got "
                f"{list(shape) or type(out).__name__} for B = 2 from {self.name}."
            )

    def _measuring_dtype(self) -> torch.dtype:
        """float64, or float32 where the module makes float32 tensors of its own."""
        row, x = (torch.zeros(size, dtype=torch.float64) for size in (self.layout.size, (2, prod(self.shape))))
        try:
            with torch.no_grad():
                self.logits(row, x)
        except RuntimeError:
            return torch.float32
        return torch.float64

    def initial_parameters(self, seeds: list[int]) -> Tensor:
        """The module's own initialisation, under each member's seed.

        Args:
            seeds: one per member.

        Returns:
            `[M, P]` float32.
        """
        arena = torch.zeros(len(seeds), self.layout.size)
        for row, seed in zip(arena, seeds):
            parameters = dict(self._new(seed).named_parameters())
            for slot in self.layout.slots:
                row[slot.slice] = parameters[slot.name].detach().flatten()
        return arena

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
        with torch.random.fork_rng(devices=[]):
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
        """As ``logits``, of the parameters by name, with respect to which a gradient is taken faster than to a row."""
        return functional_call(self.template, parameters, (x.reshape(-1, *self.shape),))

    def forward(self, row: Tensor, x: Tensor, dense_dtype: torch.dtype | None = None) -> tuple[Tensor, list[Tensor]]:
        """Runs one member, catching the inputs of its last ``nn.Linear``.

        Args:
            row: `[P]` the member's parameters.
            x: `[B, I]` inputs.
            dense_dtype: arithmetic of the whole module, if it can be had; that of the inputs if None.

        Returns:
            Logits `[B, C]` and the features `[B, F]`, an empty list if the module has no ``nn.Linear``.
        """
        if dense_dtype is not None:
            row, x = row.to(self.measuring_dtype), x.to(self.measuring_dtype)
        if self.last_linear is None:
            return self.logits(row, x), []
        features: list[Tensor] = []
        handle = self.last_linear.register_forward_pre_hook(lambda module, inputs: features.append(inputs[0]))
        try:
            logits = self.logits(row, x)
        finally:
            handle.remove()
        return logits, [features[-1].flatten(0, -2) if features[-1].ndim > 1 else features[-1]]
