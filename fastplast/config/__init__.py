"""What to run: one flat frozen dataclass, its known names and presets, and the rules that it obeys.

Needs the standard library only, so that ``fastplast --help`` answers at once.
"""

from fastplast.config.definitions import DEFINITIONS, DEFINITIONS_ON_REQUEST
from fastplast.config.effects import NEEDS, check_effects
from fastplast.config.errors import ConfigError, flag
from fastplast.config.experiment import MACHINE_FIELDS, Experiment, Member
from fastplast.config.files import load_config
from fastplast.config.method_options import METHOD_OPTIONS, Option, option_fields
from fastplast.config.names import (
    ACTIVATIONS,
    BENCHMARKS,
    DATASET_NAMES,
    ELEMENTWISE,
    ENGINE_OF,
    INITS,
    LOSSES,
    MEMBER_FIELDS,
    MEMBER_HYPERPARAMETERS,
    METHOD_NAMES,
    METRIC_NAMES,
    MODULE_NETWORKS,
    NETWORK_NAMES,
    OPTIMIZERS,
    OTHER_FIELDS,
    OTHER_NAMES,
    PULLS,
    TAKES_STRENGTH,
    VMAP_ACTIVATIONS,
    is_path,
)
from fastplast.config.own import OWN, add_own, check_own, own_of, with_known_names
from fastplast.config.stored import defaults_of, lacking
from fastplast.config.summaries import METHOD_SUMMARIES, NETWORK_SUMMARIES

__all__ = [
    "ACTIVATIONS",
    "BENCHMARKS",
    "DATASET_NAMES",
    "DEFINITIONS",
    "DEFINITIONS_ON_REQUEST",
    "ELEMENTWISE",
    "ENGINE_OF",
    "INITS",
    "LOSSES",
    "MACHINE_FIELDS",
    "MEMBER_FIELDS",
    "MEMBER_HYPERPARAMETERS",
    "METHOD_NAMES",
    "METHOD_OPTIONS",
    "METHOD_SUMMARIES",
    "METRIC_NAMES",
    "MODULE_NETWORKS",
    "NEEDS",
    "NETWORK_NAMES",
    "NETWORK_SUMMARIES",
    "OPTIMIZERS",
    "OTHER_FIELDS",
    "OTHER_NAMES",
    "OWN",
    "PULLS",
    "TAKES_STRENGTH",
    "VMAP_ACTIVATIONS",
    "ConfigError",
    "Experiment",
    "Member",
    "Option",
    "add_own",
    "check_effects",
    "check_own",
    "defaults_of",
    "flag",
    "is_path",
    "lacking",
    "load_config",
    "option_fields",
    "own_of",
    "with_known_names",
]
