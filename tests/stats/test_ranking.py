"""Settings ranked by mean error, and the best of each kind on seeds that did not choose it."""

import math
import re

import numpy as np
import pandas as pd
import pytest

import fastplast as fp
from fastplast.cli.main import run
from fastplast.cli.table import table_of
from fastplast.runs.writer import RunWriter
from fastplast.stats import Score, best, mean_interval, member_means, rank, select, split_seeds, within_range

SETTINGS = ["activation", "learning_rate"]


def members(seeds: int, diverged: tuple = ()) -> pd.DataFrame:
    rng, rows = np.random.default_rng(1), []
    for activation, level in (("relu", 0.5), ("tanh", 0.3)):
        for rate, more in ((0.1, 0.1), (0.01, 0.0)):
            for seed in range(seeds):
                is_gone = (activation, rate, seed) in diverged
                error = math.nan if is_gone else level + more + 0.01 * rng.random()
                row = {"activation": activation, "learning_rate": rate, "seed": seed}
                rows.append(row | {"diverged": is_gone, "mean_error": error})
    return pd.DataFrame(rows)


def test_settings_are_ranked_by_mean_error_with_intervals_over_seeds():
    table = members(5)
    ranked = rank(table, SETTINGS)
    order = [("tanh", 0.01), ("tanh", 0.1), ("relu", 0.01), ("relu", 0.1)]
    assert list(zip(ranked.activation, ranked.learning_rate)) == order
    for row in ranked.to_dict("records"):
        own = table[(table.activation == row["activation"]) & (table.learning_rate == row["learning_rate"])]
        expected = within_range(mean_interval(own.mean_error.to_numpy()), 0, 1)
        assert (row["mean_error"], row["low"], row["high"], row["n"]) == (
            expected.estimate, expected.low, expected.high, 5)  # fmt: skip
    assert ranked.best.tolist() == [True, False, False, False]
    grouped = rank(table, SETTINGS, ["activation"])
    assert grouped.activation.tolist() == ["relu", "relu", "tanh", "tanh"]
    assert grouped.best.tolist() == [True, False, True, False]


def test_a_setting_that_diverged_comes_after_those_that_did_not():
    ranked = rank(members(3, (("tanh", 0.01, 1),)), SETTINGS)
    assert list(ranked.iloc[-1][["activation", "learning_rate", "n", "diverged"]]) == ["tanh", 0.01, 2, 1]
    assert not ranked.best.iloc[-1]


def test_the_best_are_chosen_on_other_seeds_than_they_are_reported_on():
    table = members(6)
    found, text = best(table, SETTINGS, ["activation"])
    choosing, reporting = split_seeds(range(6))
    assert text == "Chosen on seeds 3, 4, 5, reported on seeds 0, 1, 2."
    for row in found.to_dict("records"):
        chosen = select(table[table.activation == row["activation"]], ["learning_rate"], choosing, reporting)
        assert row["learning_rate"] == chosen.setting["learning_rate"]
        assert row["mean_error"] == chosen.reported.estimate
        assert row["n"] == 3
    assert found.activation.tolist() == ["tanh", "relu"]
    few, text = best(members(2), SETTINGS)
    assert "same seeds (2), which flatters the best" in text
    assert list(zip(few.activation, few.learning_rate)) == [("tanh", 0.01)]
    with pytest.raises(ValueError, match="every setting must have all seeds"):
        best(table[:-1], SETTINGS)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    grid = {"tasks": 2, "epochs": 1, "examples": 12, "batch_size": 6, "widths": [5, 4], "srank": "off", "seeds": 4,
            "engine": "vmap", "method": ["none", "shrink_perturb"], "learning_rate": [0.1, 0.001]}  # fmt: skip
    return fp.sweep(grid, tmp_path_factory.mktemp("s") / "s", progress=False)


def test_the_command_prints_the_statistics_as_text_markdown_latex_and_csv(sweep, capsys):
    path = str(sweep.path)
    assert run(["table", path, "--csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "learning_rate,method,mean_error,low,high,n,diverged,best"
    means = member_means(sweep.metrics()).groupby(["learning_rate", "method"]).mean_error.mean()
    for line in lines[1:]:
        rate, method, error, *_ = line.split(",")
        assert float(error) == pytest.approx(means[float(rate), method], rel=1e-12)
    assert run(["table", path, "--by", "Method", "--best"]) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[0].split()[:2] == ["method", "learning"]
    assert "Chosen on seeds 2, 3, reported on seeds 0, 1." in text
    assert run(["table", path, "--latex"]) == 0
    latex = capsys.readouterr().out
    assert r"shrink\_perturb" in latex
    assert r"95 \% interval" in latex
    assert latex.count(r"\textbf") == 5
    markdown = table_of([path], [], False, "markdown").splitlines()
    assert markdown[1] == "| --- | --- | --- | --- | --- |"
    assert sum("**" in line for line in markdown) == 1


def test_the_text_fits_a_terminal_and_stays_whole_in_a_pipe(sweep, capsys, monkeypatch):
    words = ["table", str(sweep.path), "--by", "method", "--best"]
    assert run(words) == 0
    whole = capsys.readouterr().out
    width = max(map(len, whole.partition("Chosen")[0].splitlines()))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    for columns, left_out in ((width, []), (width - 1, ["n"]), (width - 4, ["n", "95 % interval"])):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert run(words) == 0
        text = capsys.readouterr().out
        header = re.split("  +", text.splitlines()[0])
        assert header == [name for name in re.split("  +", whole.splitlines()[0]) if name not in left_out]
        assert max(map(len, text.splitlines())) <= columns
        assert len(text.partition("Chosen")[0].splitlines()) == len(whole.partition("Chosen")[0].splitlines())
        assert " ".join(text.split("Chosen")[1].split()) == " ".join(whole.split("Chosen")[1].split())
        assert all(line.startswith("  ") for line in text.split("Chosen")[1].splitlines()[1:])
    assert text != whole


def test_what_does_not_tell_settings_apart_is_refused(sweep, capsys):
    assert run(["table", str(sweep.path), "--by", "metod"]) == 2
    assert "--by must be a hyperparameter: got 'metod'. Did you mean 'method'?" in capsys.readouterr().err
    assert run(["table", str(sweep.path), "--csv", "--latex"]) == 2
    assert "not allowed with" in capsys.readouterr().err


def test_another_score_is_ranked_from_its_highest_value():
    frame = members(4).assign(accuracy=lambda table: 1 - table["mean_error"])
    score = Score("accuracy", 0.0, 1.0, is_highest_best=True)
    usual, other = rank(members(4), SETTINGS), rank(frame, SETTINGS, score=score)
    assert other[SETTINGS].equals(usual[SETTINGS])
    np.testing.assert_allclose(other["accuracy"], 1 - usual["mean_error"])
    np.testing.assert_allclose(other[["low", "high"]], 1 - usual[["high", "low"]])
    chosen, text = best(frame, SETTINGS, ["activation"], score)
    least, same = best(members(4), SETTINGS, ["activation"])
    assert text == same
    assert chosen[SETTINGS].equals(least[SETTINGS])


def test_a_table_without_errors_is_ranked_by_another_metric(tmp_path, capsys):
    described = {"member": [0, 1, 2, 3], "seed": [0, 1] * 2, "method": ["l2"] * 4, "strength": [0.1, 0.1, 0.2, 0.2]}
    with RunWriter.create(tmp_path / "r", {}, "made up") as writer:
        for task in range(2):
            measured = {"updates": [task] * 4, "diverged": [False] * 4, "online_loss": [0.1, 0.2, 0.3, 0.4]}
            writer.write_metrics(task, "end", described | measured | {"accuracy": [0.5, 0.5, 0.75, 0.75]})
        writer.finish()
    path = str(tmp_path / "r")
    assert run(["table", path]) == 2
    assert "metric must be metrics of the run: got 'error'" in capsys.readouterr().err
    assert run(["table", path, "--metric", "online_loss", "--csv"]) == 0
    header, first, second = capsys.readouterr().out.splitlines()
    assert header == "strength,mean_online_loss,low,high,n,diverged,best"
    assert first.startswith("0.1,0.15")
    assert second.startswith("0.2,0.35")
    assert run(["table", path, "--metric", "accuracy"]) == 2
    assert "best_is must say whether the lowest or the highest accuracy is best" in capsys.readouterr().err
    assert run(["table", path, "--metric", "accuracy", "--best-is", "highest", "--best"]) == 0
    assert "0.2       0.75" in capsys.readouterr().out
