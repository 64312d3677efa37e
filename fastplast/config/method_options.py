"""Hyperparameters of methods, declared once: flags, fields of grids, columns of results and lists follow from here.

The hyperparameter ``rate`` of the method ``cbp`` is everywhere called ``cbp_rate``, and on the command line
``--cbp-rate``. Each is of every member's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fastplast.config.errors import ConfigError, flag, shown
from fastplast.config.fields import AT_LEAST_ONE, AT_LEAST_ZERO, FRACTION, Bound, is_number, is_whole
from fastplast.config.names import TAKES_STRENGTH
from fastplast.text import closest, recognize

SHARE = Bound("in [0, 1]", "in [0, 1]", lambda number: 0 <= number <= 1)
ANY = Bound("a {}", "{}s", lambda number: True)

Values = tuple[tuple[str, Any], ...]  # field to value, or to a tuple of values, in the order of the declarations


class Option(NamedTuple):
    """A hyperparameter of a method.

    Attributes:
        default: whole, then only whole numbers are allowed; a number; or one of the choices.
        help: what it is, for ``--help`` and ``fastplast list methods``.
        rule: that a number obeys.
        choices: known words, where it takes one.
    """

    default: int | float | str
    help: str
    rule: Bound = AT_LEAST_ZERO
    choices: tuple[str, ...] = ()

    def checked(self, name: str, value: Any) -> int | float | str:
        """The value, a number as the type of the default.

        Args:
            name: of the field, for the error.
            value: that came.

        Returns:
            The value.

        Raises:
            ConfigError: if it breaks the rule.
        """
        if self.choices:
            value = recognize(value, self.choices) or value if isinstance(value, str) else value
            if value not in self.choices:
                words = closest(shown(value), self.choices)
                raise ConfigError(f"{flag(name)} must be a known name: got {shown(value)}. {words}", name)
            return value
        is_one, word = (is_whole, "whole number") if isinstance(self.default, int) else (is_number, "number")
        if not (is_one(value) and self.rule.holds(value)):
            raise ConfigError(f"{flag(name)} must be {self.rule.one.format(word)}: got {shown(value)}.", name)
        return type(self.default)(value)


METHOD_OPTIONS: dict[str, dict[str, Option]] = {
    "cbp": {
        "rate": Option(1e-4, "share of the mature units of a layer that is reset in an update; 0 is no method", SHARE),
        "maturity": Option(100, "updates that a unit is left alone after a reset"),
        "decay": Option(0.99, "of the running means of utility and activation", FRACTION),
        "utility": Option(
            "adaptable_contribution",
            "what makes a unit worth keeping",
            choices=("adaptable_contribution", "zero_contribution", "contribution", "weight", "adaptation",
                     "feature_by_input"),
        ),
        "share_of": Option("mature", "units that the rate is a share of", choices=("mature", "all")),
        "correct_bias": Option("no", "next biases take over the mean effect of a reset unit", choices=("no", "yes")),
    },
    "redo": {
        "threshold": Option(0.1, "greatest score of a dormant unit; below 0 is no method", ANY),
        "every": Option(1000, "updates between two resets", AT_LEAST_ONE),
        "batches": Option(32, "last minibatches before a reset over which activations are averaged", AT_LEAST_ONE),
    },
    "snr": {
        "rate": Option(0.08, "probability at which a silence is too long; 0 is no method", FRACTION),
        "ceiling": Option(200, "greatest threshold, in updates without firing; the first threshold", AT_LEAST_ONE),
        "every": Option(16, "tasks between two estimates of the thresholds", AT_LEAST_ONE),
    },
    "regrama": {
        "threshold": Option(0.01, "greatest score of a unit that is reset; below 0 is no method", ANY),
        "every": Option(1000, "updates between two resets", AT_LEAST_ONE),
        "batches": Option(1, "last minibatches before a reset over which gradients are averaged", AT_LEAST_ONE),
    },
    "shrink_perturb": {
        "shrink": Option(1e-4, "share of a parameter that is taken away", SHARE),
        "perturb": Option(1e-4, "factor of what is added"),
        "add": Option("gaussian", "what is added: standard normal numbers, a fresh initialisation, or the initial "
                      "parameters", choices=("gaussian", "fresh", "initial")),
        "when": Option("update", "after every update, or at every change of task", choices=("update", "task")),
    },
    "clip": {
        "bound": Option(2.0, "largest absolute value of a parameter, in units of the scale; 0 is no method"),
        "scale": Option("fan_in", "1 / sqrt(fan_in), or the largest initial weight of the layer",
                        choices=("fan_in", "initial")),
        "head": Option("yes", "whether the last layer is clipped too", choices=("yes", "no")),
    },
    "upgd": {
        "decay": Option(0.999, "of the running mean of utilities", FRACTION),
        "noise": Option(0.001, "standard deviation of the noise"),
        "gate": Option("all", "what utility protects a weight from: gradient and noise, or the noise alone",
                       choices=("all", "noise")),
        "scale": Option("global", "utilities relative to the largest of the network, or to the length of their row",
                        choices=("global", "local")),
        "largest": Option("corrected", "the largest utility with its bias corrected (paper) or not (published code)",
                          choices=("corrected", "raw")),
    },
    "hare_tortoise": {
        "decay": Option(0.999, "of the slow parameters; 0 is no method", FRACTION),
        "every": Option(800, "updates of a task between two resets of the fast parameters to the slow", AT_LEAST_ONE),
    },
    "noise": {
        "size": Option(0.01, "standard deviation of the noise on the gradient; 0 is no method"),
        "relative": Option("no", "to the norm of each tensor's gradient", choices=("no", "yes")),
        "decay": Option(1.0, "factor of the size from update to update of a task", SHARE),
    },
    "full_reset": {
        "every": Option(1, "tasks between two resets; 0 is no method"),
        "to": Option("initial", "the member's initial parameters, or a fresh draw", choices=("initial", "fresh")),
    },
    "spectral": {
        "exponent": Option(2, "k: the penalty pulls the k-th power of the largest singular value to 1", AT_LEAST_ONE),
        "biases": Option("yes", "whether biases are pulled to 0 as well", choices=("yes", "no")),
    },
    "parseval": {"target": Option(1.0, "s: rows, or columns, are pulled to orthogonality and squared length s")},
    "fire": {
        "every": Option(1, "tasks between two; 0 is no method"),
        "polar": Option("svd", "exact, or by ten iterations of Newton and Schulz (published code)",
                        choices=("svd", "newton_schulz")),
    },
    "dash": {
        "average": Option(0.3, "share of a minibatch's gradient in the running mean", SHARE),
        "least": Option(0.3, "least factor of a row; 1 is no method", SHARE),
    },
    "nap": {"every": Option(1, "updates between two projections; 0 is no method")},
    "c_chain": {"lag": Option(2, "updates between the network and the earlier one it is held to", AT_LEAST_ONE)},
}  # fmt: skip


def option_fields() -> Iterator[tuple[str, str, Option]]:
    """Every hyperparameter of every method known to this process.

    Yields:
        Its field, its method and its declaration.
    """
    for method, options in METHOD_OPTIONS.items():
        for name, option in options.items():
            yield f"{method}_{name}", method, option


def all_options(method: str, given: Any, several: bool) -> Values:
    """Every hyperparameter of a method, so that what is stored says all of them and each setting has one form.

    Args:
        method: its name.
        given: field to value, as a mapping or in pairs.
        several: whether each has several values.

    Returns:
        Field to value, or to a tuple of values; empty for a method without hyperparameters, and what is given for one
        that this process does not know.

    Raises:
        ConfigError: if one is unknown, of another method, or breaks its rule.
    """
    try:
        values = dict(given)
    except (TypeError, ValueError):
        raise ConfigError(f"options must be a dictionary: got {shown(given)}.", "options") from None
    if not isinstance(method, str) or method not in TAKES_STRENGTH:  # of a stored member, by its author's process
        return tuple(values.items())
    own = {f"{method}_{name}": option for name, option in METHOD_OPTIONS.get(method, {}).items()}
    for name in values:
        if name not in own:
            other = next((of for field, of, _ in option_fields() if field == name), None)
            if other is None:
                raise ConfigError(
                    f"options must be of --method {method}: got {shown(name)}. {closest(name, tuple(own))}", name
                )
            raise ConfigError(
                f"{flag(name)} belongs to --method {other}: got --method {method}. Drop one of them.", name, "method"
            )
    return tuple((field, _values(field, option, values, several)) for field, option in own.items())


def _values(field: str, option: Option, values: Mapping[str, Any], several: bool) -> Any:
    value = values.get(field, option.default)
    if not several:
        return option.checked(field, value)
    listed = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    checked = tuple(option.checked(field, one) for one in listed)
    if not checked or len(set(checked)) < len(checked):
        raise ConfigError(f"{flag(field)} must have values, none of them twice: got {shown(list(listed))}.", field)
    return checked
