"""What a report is made from: curves, correlations, spectra."""

import numpy as np
import pytest
from unpacking import unpack

from fastplast.reports import curves as curves_module
from fastplast.reports.curves import curves, spread_evenly
from fastplast.reports.reading import open_readers, read
from fastplast.reports.spectra import POINTS, spectra, thinned
from fastplast.stats import mean_interval


def test_curves_are_those_of_the_run(make):
    run = make()
    results = read([run])
    frame = run.metrics()
    for (name, when), found in results.curves.items():
        expected = frame[frame["when"] == when].pivot(index="member", columns="task", values=name)
        np.testing.assert_array_equal(found, expected.to_numpy(float))


def test_a_setting_has_the_mean_and_interval_of_its_members(make):
    results = read([make()])
    found = curves(results)
    (error,) = [metric for metric in found["metrics"] if metric["name"] == "error"]
    expected = mean_interval(results.curves["error", "end"][3:])
    span = np.ptp(results.curves["error", "end"])
    mean, half = (unpack(error["at"]["end"][part])[1] for part in ("mean", "half"))
    np.testing.assert_allclose(mean, expected.estimate, atol=span / 65533)
    assert error["ends"] == [0, 1]
    np.testing.assert_allclose(half, expected.high - expected.estimate, atol=20 * span / 65533)


def test_bounds_of_the_stable_rank_are_shown_only_where_they_differ(make):
    def names(run):
        return {metric["name"] for metric in curves(read([run]))["metrics"]}

    assert "hessian_srank_lo" not in names(make("tight"))
    assert {"hessian_srank_lo", "hessian_srank_hi"} <= names(make("loose", loose=2))


@pytest.mark.parametrize(("seeds", "settings"), [(40, 2), (1, 80)])
def test_what_a_file_holds_is_bounded(make, monkeypatch, seeds, settings):
    grid = tuple({"learning_rate": 0.1 * (k + 1)} for k in range(settings))
    results = read([make(settings=grid, seeds=seeds, tasks=2)])
    monkeypatch.setattr(curves_module, "MOST_VALUES", 600)
    found = curves(results)
    packed = [part for metric in found["metrics"] for at in metric["at"].values() for part in at.values() if part]
    assert sum(int(np.prod(part["shape"])) for part in packed) <= 600
    assert 0 < len(found["lines"]) < 80
    assert len(found["settings"]) == (2 if settings == 2 else 14)  # of 7 curves of 2 tasks: two means and a member
    counts = [sum(row in found["lines"] for row in results.rows[s]) for s in found["settings"]]
    assert max(counts) == min(counts)


def test_evenly_chosen_places_have_both_ends():
    assert spread_evenly(100, 3).tolist() == [0, 50, 99]
    assert spread_evenly(2, 5).tolist() == [0, 1]
    assert spread_evenly(5, 0).tolist() == []


def test_a_member_is_left_out_from_the_task_in_which_it_diverged(make):
    results = read([make(diverge={1: 2})])
    assert {row: (where.task, where.update) for row, where in results.diverged.items()} == {1: (2, 37)}
    error = results.curves["error", "end"]
    assert np.isnan(error[1]).tolist() == [False, False, True, True]
    assert np.isfinite(np.delete(error, 1, axis=0)).all()


def test_thinned_spectra_keep_signs_ranks_and_extremes():
    values = np.concatenate([np.geomspace(1, 1e-9, 500), -np.geomspace(0.5, 1e-3, 7), np.zeros(3)])
    np.random.default_rng(0).shuffle(values)
    rank, size = thinned(values)
    positive = np.sort(values[values > 0])[::-1]
    places = rank[0][np.isfinite(rank[0])].astype(int)
    assert places[0] == 1
    assert places[-1] == 500
    assert places[:5].tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(size[0][: len(places)], positive[places - 1])
    assert np.isfinite(rank).sum(1).tolist()[1] == 7
    assert rank.shape == (2, POINTS)


def test_spectra_are_those_of_the_member(make):
    results = read([make()])
    found = spectra(results)
    assert found is not None
    sizes = unpack(found["at"]["start"]["size"])
    for i, row in enumerate(found["rows"]):
        np.testing.assert_allclose(sizes[i, 0, 0, 0], row + 1, rtol=1e-3)


def test_a_run_without_spectra_has_none(make):
    assert spectra(read([make(srank=False)])) is None


def test_several_runs_are_one_table(make):
    results = read(open_readers([make("a").path, make("b", first_seed=3, tasks=2, settings=({"activation": "relu"},))]))
    assert len(results.members) == 9
    assert [len(rows) for rows in results.rows] == [6, 3]
    assert results.members["seed"].tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2]
    assert np.isnan(results.curves["error", "end"][3:6, 2:]).all()
    assert results.title == "a, b"
