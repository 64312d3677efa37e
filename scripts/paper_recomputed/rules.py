"""The rules of docs/paper.md, programmed from their words."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd

from paper_recomputed.values import (
    DIFFERENCE,
    INF,
    Number,
    crossing,
    first_bad,
    gap,
    goes,
    grain_of_rho,
    moved,
    part,
    rank_correlations,
    signed,
    tilt,
)  # fmt: skip

EXPLAINS = {
    "update norm": ("displacement_l1", -1),
    "weight norm": ("weight_norm_l1", 1),
    "weight stable rank": ("weight_srank_{layer}", -1),
    "feature stable rank": ("feature_srank_{layer}", -1),
    "activation entropy": ("activation_entropy", -1),
}


def of(name):
    """The setting of an activation."""
    return {"activation": name}


def bare(name):
    """The setting of an activation without a regulariser."""
    return {"activation": name, "method": "none"}


def _low_at_first(r, a):
    return [
        Number(r.seen("error", **of(n)).iloc[:, :2].mean(axis=1), -INF, 0.1, (0, 1), r.grain())
        for n in a["activations"]
    ]


def _error_rises(r, a):
    return [r.rise(**of(n)) for n in a["activations"]]


def _error_stays(r, a):
    return [r.rise(-INF, 0.1, **of(n)) for n in a["activations"]]


def _loses_first(r, a):
    first = first_bad(r.seen("error", **of(a["first"])))
    loses = r.loses(**of(a["first"]))
    return [Number(first_bad(r.seen("error", **of(n))) - first, 0, INF, None, 1.0, loses) for n in a["activations"]]


def _column_changes(r, a):
    return [moved(r, a["column"], a["when"], *signed(a["direction"]), **of(n)) for n in a["activations"]]


def _changes_with_loss(r, a):
    way = signed(a["direction"])
    return [moved(r, a["column"], a["when"], *way, premise=r.loses(**of(n)), **of(n)) for n in a["activations"]]


def _rank_constant(r, a):
    found = []
    for n in a["activations"]:
        stays = r.rise(-INF, 0.1, **of(n))
        found.append(moved(r, "hessian_srank", "start", -1, 1, premise=stays.premise and stays.holds, **of(n)))
    return found


def _feature_rank_constant(r, a):
    found = []
    for n in a["activations"]:
        w = r.seen("feature_srank_{layer}", **of(n))
        found.append(Number(part(w, 4) - part(w, 1), -3.2, 3.2, (-32, 32), 1e-6, r.loses(**of(n))))
    return found


def _explanation_disagrees(r, a):
    column, sign = EXPLAINS[a["explanation"]]
    found, lost = [], False
    for n in [n for n in a["activations"] if r.learned(**of(n))]:
        keeps = r.rise(-INF, 0.1, **of(n))
        if r.loses(**of(n)):
            lost = True
            found.append(moved(r, column, "end", *signed(-sign), **of(n)))
        elif keeps.holds and keeps.n >= 5 and keeps.p() < 0.05:
            found.append(moved(r, column, "end", *signed(sign), **of(n)))
    for number in found:
        number.premise = lost
    return found or [Number([], premise=False)]


def _worst_has_least(r, a):
    ways, one = (("error", 1), (a["column"], -1)), bare(a["first"])
    loses = r.loses(**of(a["first"]))
    return [gap(r, c, "end", one, bare(n), *signed(way), loses) for n in a["activations"] for c, way in ways]


def _rank_falls(r, a):
    when = a.get("when", "start")
    return [moved(r, "hessian_srank", when, -INF, 0, premise=r.loses(**of(n)), **of(n)) for n in a["activations"]]


def _rank_comes(r, a):
    found = []
    for n in a["activations"]:
        down = crossing(-r.seen("hessian_srank", "start", **of(n)).iloc[:, 1:])
        up = crossing(r.seen("error", **of(n)).iloc[:, 1:]) + 1
        found.append(Number(down - up, -INF, a["within"], None, 1.0, r.loses(**of(n))))
    return found


def _rank_goes_with_error(r, a):
    return [goes(r, "hessian_srank", "start", -1, **of(n)) for n in a["activations"]]


def _update_norm_follows(r, a):
    return [goes(r, a["column"], "end", a["direction"], "displacement_l1", **of(n)) for n in a["activations"]]


def _slopes_agree(r, a):
    return [tilt(r, a["column"], a["when"], *signed(a["direction"]), **of(n)) for n in a["activations"]]


def _slopes_differ(r, a):
    found = [tilt(r, a["column"], a["when"], 0, INF, **of(n)) for n in a["activations"]]
    lead = min(found, key=lambda f: 1.0 if f.silent() else f.p())
    return [tilt(r, a["column"], a["when"], *signed(-lead.mean), **of(n)) for n in a["activations"]]


def _overlap_high(r, a):
    levels = [part(r.seen("hessian_overlap", **of(n)), 4) for n in a["activations"]]
    return [Number(v, 0.8, INF, DIFFERENCE, 1e-6, absent=v.isna().all()) for v in levels]


def _settles_with_rank(r, a):
    still, own = np.log2(1.25), of(a["first"])
    norm = moved(r, "displacement_l1", "end", -still, still, 3, 4, **own)
    return [norm, moved(r, "hessian_srank", "end", 0, INF, 3, 4, **own)]


def _no_clear_relation(r, a):
    found = []
    for n in a["activations"]:
        x, y = (r.seen(c, "start", **of(n)) for c in ("feature_srank_{layer}", "hessian_srank"))
        found.append(Number(rank_correlations(x, y), -0.5, 0.5, DIFFERENCE, grain_of_rho(x.shape[1])))
    return found


def _online_rises_alone(r, a):
    w = r.seen("online_error", **of(a["first"]))
    rise = Number(part(w, 4) - part(w, 1), 0, INF, DIFFERENCE, r.grain())
    return [rise, r.rise(-INF, 0.05, **of(a["first"]))]


def _linear_cannot(r, a):
    return [Number(r.seen("error", **of(a["first"])).iloc[:, 0], 0.1, INF, (0, 1), r.grain())]


def _first_task(r, a):
    linear = r.seen("error", **of(a["first"])).iloc[:, 0]
    own = [r.seen("error", **of(n)).iloc[:, 0] for n in a["activations"]]
    return [Number(x - linear, -INF, 0, DIFFERENCE, r.grain()) for x in own]


def _worse_than_linear(r, a):
    return [gap(r, "error", "end", bare(n), bare(a["first"]), 0, INF) for n in a["activations"]]


def own_settings(r, activation, method):
    """Full settings of a method."""
    told = r.settings(activation, method)
    return [{"activation": activation, "method": method, "reduction": red, "strength": s} for red, s in told]


def _beside_none(r, a, column, when, way, needs_loss=True):
    found = []
    for n in a["activations"]:
        premise = not needs_loss or r.loses(**bare(n))
        for own in (o for m in a["methods"] for o in own_settings(r, n, m)):
            found.append(gap(r, column, when, own, bare(n), *signed(way), premise))
    return found


def twins(r, a):
    """A method's settings with those of each other method at the same reduction and strength."""
    for n in a["activations"]:
        for own in own_settings(r, n, a["method"]):
            for other in a["others"]:
                twin = {**own, "method": other}
                if twin in own_settings(r, n, other):
                    yield n, own, twin


def _method_beside(r, a):
    low, high = (-a["margin"], a["margin"]) if "margin" in a else signed(a["direction"])
    free = a["column"] != "error"
    return [gap(r, a["column"], "end", x, y, low, high, free or r.loses(**bare(n))) for n, x, y in twins(r, a)]


def _unsteadier(r, a):
    found = []
    for n, one, two in twins(r, a):
        x, y = r.seen("error", **one).align(r.seen("error", **two), join="inner")
        steps = x.diff(axis=1).abs().mean(axis=1) - y.diff(axis=1).abs().mean(axis=1)
        found.append(Number(steps, 0, INF, DIFFERENCE, r.grain(), r.loses(**bare(n))))
    return found


def late_errors(r, activation, method, reduction):
    """Of each strength, the error in the last quarter."""
    told = [s for s in own_settings(r, activation, method) if s["reduction"] == reduction]
    return [part(r.seen("error", **s), 4) for s in told]


def _works_over_more(r, a):
    found = []
    for n in a["activations"]:
        half = part(r.seen("error", **bare(n)), 4) / 2
        for red in ("mean", "sum"):
            count = {m: sum((x < half) * 1.0 for x in late_errors(r, n, m, red)) for m in ("wasserstein", *a["others"])}
            found += [
                Number(count["wasserstein"] - count[o], 0, INF, None, 1.0, r.loses(**bare(n))) for o in a["others"]
            ]
    return found


def _lower_over_strengths(r, a):
    found = []
    for n in a["activations"]:
        for red in ("mean", "sum"):
            mean = {m: pd.concat(late_errors(r, n, m, red), axis=1).mean(axis=1) for m in ("wasserstein", *a["others"])}
            gaps = [mean["wasserstein"] - mean[o] for o in a["others"]]
            found += [Number(x, -INF, 0, DIFFERENCE, r.grain(), r.loses(**bare(n))) for x in gaps]
    return found


def _budget_delays_little(r, a):
    few, many = (r.seen("error", epochs=e) for e in (r.table["epochs"].min(), r.table["epochs"].max()))
    few, many = few.align(many, join="inner")
    return [Number(first_bad(many) - first_bad(few), -2, 2, None, 1.0)]


def _budget_loses(r, a):
    return [r.rise(epochs=e) for e in sorted(r.table["epochs"].unique())]


def _budget_rank_falls(r, a):
    budgets = [{"epochs": e} for e in sorted(r.table["epochs"].unique())]
    return [moved(r, "hessian_srank", "start", -INF, 0, premise=r.loses(**b), **b) for b in budgets]


def _settings_correlate(r, a):
    t = r.table[(r.table["activation"] == "relu") & (r.table["task"] > 0)]
    name = ["method", "reduction", "strength"]
    rank = t[t["when"] == "start"].pivot_table(index="seed", columns=name, values="hessian_srank")
    error = t[t["when"] == "end"].pivot_table(index="seed", columns=name, values="error")
    rho, lost = rank_correlations(rank, error), error.to_numpy().max() > 0.1
    return [Number(rho, -INF, 0, DIFFERENCE, grain_of_rho(rank.shape[1]), lost)]


def pairs_of(r):
    """All settings two by two."""
    name = ["activation", "method", "reduction", "strength", "epochs"]
    return list(combinations(r.table[name].drop_duplicates().to_dict("records"), 2))


def sure(number):
    """Whether a claim certainly holds."""
    return not number.silent() and number.holds and number.p() < 0.05


def _same_end_other_online(r, a):
    found = []
    for pair in pairs_of(r):
        if sure(gap(r, "error", "end", *pair, -0.02, 0.02)):
            for x, y in (pair, pair[::-1]):
                if sure(gap(r, "error", "start", x, y, 0.02, INF)):
                    found.append(gap(r, "online_error", "end", x, y, 0, INF))
    return found or [Number([], premise=False)]


def _same_online_other_end(r, a):
    found = []
    for pair in pairs_of(r):
        if sure(gap(r, "online_error", "end", *pair, -0.05, 0.05)):
            up = gap(r, "error", "end", *pair, 0, INF)
            low, high = (0, INF) if up.mean > 0 else (-INF, 0)
            found.append(gap(r, "error", "end", *pair, low, high, bool(np.any(abs(up.x) >= r.grain()))))
    return found or [Number([], premise=False)]


def _mitigates(r, a):
    return _beside_none(r, a, "error", "end", -1)


def _preserves(r, a):
    return _beside_none(r, a, "hessian_srank", "start", 1)


def _method_vs_none(r, a):
    return _beside_none(r, a, a["column"], "end", a["direction"], needs_loss=False)


# Of these rules any number may hold; of all others each must.
ANY = (
    _explanation_disagrees, _slopes_differ, _no_clear_relation, _mitigates, _preserves, _same_end_other_online,
    _same_online_other_end,
)  # fmt: skip
ALL = (
    _low_at_first, _error_rises, _error_stays, _loses_first, _column_changes, _changes_with_loss, _rank_constant,
    _feature_rank_constant, _worst_has_least, _rank_falls, _rank_comes, _rank_goes_with_error, _update_norm_follows,
    _slopes_agree, _overlap_high, _settles_with_rank, _online_rises_alone, _linear_cannot, _first_task,
    _worse_than_linear,
    _method_beside, _method_vs_none, _unsteadier, _works_over_more, _lower_over_strengths, _budget_delays_little,
    _budget_loses, _budget_rank_falls, _settings_correlate,
)  # fmt: skip
RULES = {rule.__name__[1:]: (rule, mode) for listed, mode in ((ALL, all), (ANY, any)) for rule in listed}
