"""Activation functions and the gains that initialisations take for them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Activation = Callable[[Tensor, float], Tensor]
_LEAK, _STEEPNESS = 0.1, 5.0 / 3.0  # of smooth_leaky: alpha, and c / p (Lillo, Cheney 2026, equation 1)

ACTIVATION_FUNCTIONS: dict[str, Activation] = {
    "relu": lambda z, slope: torch.relu(z),
    "leaky_relu": lambda z, slope: functional.leaky_relu(z, slope),
    "tanh": lambda z, slope: torch.tanh(z),
    "identity": lambda z, slope: z,
    "crelu": lambda z, slope: torch.cat((torch.relu(z), torch.relu(-z)), 1),
    "fourier": lambda z, slope: torch.cat((torch.sin(z), torch.cos(z)), 1),
    "smooth_leaky": lambda z, slope: _LEAK * z + (1.0 - _LEAK) * z * torch.sigmoid(_STEEPNESS * z),
}


def widening(activation: str) -> int:
    """Outputs per unit: two of ``crelu`` (Shang et al. 2016) and ``fourier`` (Lewandowski et al. 2025), else one."""
    return 2 if activation in ("crelu", "fourier") else 1


def gain(activation: str, slope: float) -> float:
    """The factor of He et al. (2015) that keeps the variance of activations, as ``torch.nn.init.calculate_gain``.

    Args:
        activation: name of the activation that follows the layer.
        slope: negative slope of ``leaky_relu``.

    Returns:
        The gain.
    """
    gains = {
        "relu": math.sqrt(2.0),
        "leaky_relu": math.sqrt(2.0 / (1.0 + slope**2)),
        "tanh": 5.0 / 3.0,
        "crelu": math.sqrt(2.0),
        "fourier": math.sqrt(2.0),  # sine and cosine have a mean square of 1/2 together
        "smooth_leaky": math.sqrt(2.0 / (1.0 + _LEAK**2)),  # as leaky_relu of the same slope
    }
    return gains.get(activation, 1.0)
