"""The decision rules by name: each makes from a study the parts on which a verdict rests."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import NamedTuple

from paper_statements import of_activations as a
from paper_statements import of_appendices as o
from paper_statements import of_regularisers as r
from paper_statements.inference import Part


class Rule(NamedTuple):
    """How a statement is decided.

    Attributes:
        parts: from a study and the statement's arguments to the parts; its docstring is the rule in words.
        mode: whether ``all`` parts must hold or ``any``.
    """

    parts: Callable[..., list[Part]]
    mode: str

    @property
    def words(self) -> str:
        """The rule, for the page."""
        return " ".join((inspect.getdoc(self.parts) or "").split())


_ALL = (
    a.low_at_first,
    a.error_rises,
    a.error_stays,
    a.loses_first,
    a.column_changes,
    a.changes_with_loss,
    a.rank_constant,
    a.feature_rank_constant,
    a.worst_has_least,
    a.rank_falls,
    a.rank_comes,
    a.rank_goes_with_error,
    a.update_norm_follows,
    a.slopes_agree,
    a.overlap_high,
    a.settles_with_rank,
    r.method_vs_none,
    r.method_beside,
    r.unsteadier,
    r.works_over_more,
    r.lower_over_strengths,
    o.budget_delays_little,
    o.budget_loses,
    o.budget_rank_falls,
    o.online_rises_alone,
    o.first_task,
    o.worse_than_linear,
    o.linear_cannot,
    r.settings_correlate,
)
_ANY = (
    a.explanation_disagrees,
    a.slopes_differ,
    r.mitigates,
    r.preserves,
    o.same_end_other_online,
    o.same_online_other_end,
    a.no_clear_relation,
)
RULES = {parts.__name__: Rule(parts, mode) for listed, mode in ((_ALL, "all"), (_ANY, "any")) for parts in listed}

# Where a statement names no activations, it is decided for each that was run.
BY_ACTIVATION = (
    "mitigates",
    "preserves",
    "method_vs_none",
    "method_beside",
    "unsteadier",
    "works_over_more",
    "lower_over_strengths",
)
