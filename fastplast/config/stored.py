"""What a stored configuration does not name: defaults that are left out, fields younger than it, or by damage."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from fastplast.config.experiment import LEFT_OUT, Experiment
from fastplast.config.names import BENCHMARKS, MEMBER_FIELDS, PRESET_FIELDS

_NOT_OF_EVERY_VERSION = ("class_order", "dataset", "dropout", "epoch_curves", "head_reset", "layer_norm", "member_list",
                         "srank_method", "subset", "test_examples")  # fmt: skip


def lacking(stored: Mapping[str, Any]) -> list[str]:
    """Fields that every version has stored and a stored configuration does not name: it is damaged.

    Args:
        stored: the configuration.

    Returns:
        The fields; with members one by one, those of members are not missed.
    """
    own = MEMBER_FIELDS if "member_list" in stored else ()
    left_out = {*LEFT_OUT, *_NOT_OF_EVERY_VERSION, *own, *stored}
    return [f.name for f in dataclasses.fields(Experiment) if f.name not in left_out]


def defaults_of(benchmark: str) -> dict[str, Any]:
    """What fields are that a stored configuration does not name: left out as defaults, or younger than the file.

    Args:
        benchmark: that the configuration names.

    Returns:
        Field to value, of all fields but those of the members.
    """
    names = {f.name: f.default for f in dataclasses.fields(Experiment) if f.name not in (*MEMBER_FIELDS, "member_list")}
    return {n: BENCHMARKS[benchmark].get(n, PRESET_FIELDS.get(n, default)) for n, default in names.items()}
