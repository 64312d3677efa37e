"""Plots of sweeps: which member is drawn where, what is chosen, and the words for it."""

import itertools

import numpy as np
import pytest

from fastplast.cli.main import run as run_command
from fastplast.config import ConfigError
from fastplast.drawing import plot
from fastplast.runs.writer import RunWriter
from fastplast.stats import mean_interval

METHODS = ("l2", "regenerative", "wasserstein", "redo", "spectral", "parseval")
STRENGTHS, ACTIVATIONS, TASKS = (1.0, 0.01, 0.0001), ("relu", "leaky_relu", "tanh"), 3


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Writes a run with every combination of fields; the error of a member is `error` of it, and so `more` metrics."""

    def sweep(fields, error, seeds=6, tasks=TASKS, diverged=(), more=()):
        path = tmp_path_factory.mktemp("runs") / "run"
        rows = [dict(zip(fields, values)) | {"seed": seed}
                for values in itertools.product(*fields.values()) for seed in range(seeds)]  # fmt: skip
        described = {"member": list(range(len(rows)))} | {name: [row[name] for row in rows] for name in rows[0]}
        described |= {"benchmark": ["mnist_shuffle"] * len(rows)} if "benchmark" not in fields else {}
        with RunWriter.create(path, {}, "train") as writer:
            for task in range(tasks):
                measured = {"updates": [task] * len(rows), "diverged": [i in diverged for i in range(len(rows))]}
                measured |= {"error": [error(row, task) for row in rows]}
                measured |= {name: [dict(more)[name](row) for row in rows] for name in more}
                writer.write_metrics(task, "end", described | measured)
            writer.finish()
        return writer.run

    return sweep


def best_is_middle(row, task):
    """Least at strength 0.01, on seeds 3 to 5; on the others at 1."""
    best = 0.01 if row["seed"] >= 3 else 1.0
    return 0.1 * task + 0.01 * row["seed"] + (0.0 if row["strength"] == best else 0.2)


@pytest.fixture(scope="module")
def large(sweep):
    return sweep({"method": METHODS, "strength": STRENGTHS, "activation": ACTIVATIONS}, best_is_middle)


def means(axes):
    return [line for line in axes.lines if line.get_linewidth() == 1.5 and line.get_marker() != "x"]


def titles(figure):
    return [axes.get_title() for axes in figure.axes]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def words(figure):
    return " ".join(text.get_text() for text in figure.texts).replace("\xa0", " ").replace("\n", " ")


def test_a_large_sweep_has_a_colour_for_each_method_and_a_panel_for_each_activation(large):
    figure = plot(large, ["error"])
    assert titles(figure) == ["relu", "leaky_relu", "tanh"]
    assert legend(figure) == [f"{name} (n = 3)" for name in METHODS]
    for axes in figure.axes:
        assert len({line.get_color() for line in means(axes)}) == len(METHODS)
        assert axes.get_ylim() == figure.axes[0].get_ylim()
    assert [axes.get_ylabel() != "" for axes in figure.axes] == [True, False, False]


def test_the_best_setting_is_chosen_on_seeds_that_are_not_drawn(large):
    figure = plot(large, ["error"])
    expected = [np.mean([best_is_middle({"strength": 0.01, "seed": s}, t) for s in range(3)]) for t in range(TASKS)]
    for axes in figure.axes:
        for line in means(axes):
            np.testing.assert_allclose(line.get_ydata(), expected)
    assert "Least mean error, strength, on seeds 3, 4, 5 (not drawn): relu: 0.01;" in words(figure)
    assert "seeds 0 to 2." in words(figure)
    assert "3 activations  ·  54 members" in words(figure)


def test_few_seeds_choose_for_themselves_and_the_caption_says_so(sweep):
    figure = plot(sweep({"method": ("l2", "redo"), "strength": STRENGTHS}, best_is_middle, seeds=3), hue="method",
                  columns=["error"])  # fmt: skip
    assert "on drawn seeds, being few (optimistic): 1." in words(figure)
    assert legend(figure) == ["l2 (n = 3)", "redo (n = 3)"]


def test_a_setting_with_a_diverged_member_is_not_chosen(sweep):
    run = sweep({"strength": STRENGTHS, "method": ("l2",)}, best_is_middle, diverged=(6 + 4,))  # 0.01, seed 4
    assert "on seeds 3, 4, 5 (not drawn): 0.0001." in words(plot(run, ["error"], hue="method"))


def test_rows_columns_colours_and_styles_go_by_any_field(large):
    figure = plot(large, ["error"], row="activation", col="method", hue="strength")
    assert titles(figure) == [f"{one}, {two}" for one in ACTIVATIONS for two in METHODS]
    assert legend(figure) == [f"strength {value} (n = 6)" for value in ("0.0001", "0.01", "1")]
    styled = plot(large, ["error"], hue="method", style="strength", where={"activation": "relu"})
    assert len(styled.axes) == 1
    looks = {(line.get_color(), line.get_linestyle()) for line in means(styled.axes[0])}
    assert len(looks) == len(METHODS) * len(STRENGTHS)
    assert legend(styled)[-3:] == ["strength 0.0001", "strength 0.01", "strength 1"]
    both = plot(large, ["error", "error@end"], row="activation", where={"method": "l2"})
    assert [axes.get_subplotspec().get_geometry()[:2] for axes in both.axes] == [(3, 2)] * 6
    assert titles(both) == [*ACTIVATIONS, *ACTIVATIONS]  # of the first metric, then of the second


def test_members_are_filtered_by_fields(large):
    figure = plot(large, ["error"], where={"method": ["l2", "redo"], "strength": 0.01, "seed": [0, 1]})
    assert len(means(figure.axes[0])) == 6
    assert "12 members" in words(figure)
    assert "strength 0.01, seeds 0, 1." in words(figure)


def test_a_method_has_its_colour_in_every_plot(large):
    def colours(**options):
        figure = plot(large, ["error"], hue="method", where={"activation": "relu", **options})
        return dict(zip(legend(figure), (line.get_color() for line in means(figure.axes[0]))))

    first, second = colours(), colours(method=["wasserstein", "l2", "regenerative"])
    assert {name: first[name] for name in second} == second


def test_labels_title_and_size_are_as_given(large):
    figure = plot(
        large, ["error"], hue="method", col="activation", title="$J_K$", size=(5.5, 2.5), caption=False,
        labels={"error": "task error", "l2": r"decay $\lambda$", "leaky_relu": "leaky ReLU", "task": "task"},
    )  # fmt: skip
    assert figure.get_size_inches().tolist() == [5.5, 2.5]
    assert [text.get_text() for text in figure.texts] == ["$J_K$"]
    assert titles(figure) == ["relu", "leaky ReLU", "tanh"]
    assert legend(figure)[0] == r"decay $\lambda$ (n = 3)"
    assert figure.axes[0].get_ylabel() == "task error"
    assert figure.axes[0].get_xlabel() == "task"
    of_field = plot(large, ["error"], hue="strength", labels={"strength": r"$\lambda$"}, caption=False)
    assert legend(of_field)[1] == r"$\lambda$ 0.01 (n = 3)"


def test_members_and_bands_can_be_left_out(large):
    full = plot(large, ["error"], hue="method")
    bare = plot(large, ["error"], hue="method", members=False, band=False)
    assert full.axes[0].collections
    assert not bare.axes[0].collections
    assert "Line: mean over members. Least" in words(bare)


def test_bands_of_errors_stay_within_their_bounds(sweep):
    run = sweep({"activation": ("relu",)}, lambda row, task: 0.9 * (row["seed"] == 0), seeds=2)
    (axes,) = plot(run, ["error"]).axes
    corners = np.concatenate([path.vertices for one in axes.collections[1:] for path in one.get_paths()])
    assert 0 <= corners[:, 1].min() < corners[:, 1].max() <= 1


def test_bands_of_positive_metrics_on_logarithmic_axes_are_those_of_logarithms(sweep):
    errors = [1e-4, 1e-2, 0.9]
    run = sweep({"activation": ("relu",)}, lambda row, task: errors[row["seed"]], seeds=3)
    figure = plot(run, ["error"], log=["error"])
    logs = mean_interval(np.log(errors))
    (line,), (_, band) = means(figure.axes[0]), figure.axes[0].collections
    corners = band.get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose(line.get_ydata(), np.exp(logs.estimate))
    np.testing.assert_allclose([corners.min(), corners.max()], [np.exp(logs.low), 1.0])  # which an error ends at
    assert "Line: geometric mean over members;" in words(figure)
    linear = plot(run, ["error"])
    np.testing.assert_allclose(means(linear.axes[0])[0].get_ydata(), np.mean(errors))
    assert "Line: mean over members;" in words(linear)
    with_zero = sweep({"activation": ("relu",)}, lambda row, task: 0.2 * row["seed"], seeds=3)
    figure = plot(with_zero, ["error"], log=["error"])
    np.testing.assert_allclose(means(figure.axes[0])[0].get_ydata(), 0.2)
    assert "geometric" not in words(figure)


@pytest.fixture(scope="module")
def ranked(sweep):
    """Of each method, the strength 1 has the highest rank and accuracy, 0.0001 the lowest; errors are equal."""
    rank = {1.0: 30.0, 0.01: 20.0, 0.0001: 10.0}
    values = {name: lambda row: rank[row["strength"]] for name in ("hessian_srank", "accuracy")}
    return sweep({"method": METHODS, "strength": STRENGTHS}, lambda row, task: 0.5, more=values)


def test_the_best_is_lowest_or_highest_as_the_definition_says_or_as_it_is_given(ranked):
    def drawn(**options):
        figure = plot(ranked, ["hessian_srank"], hue="method", **options)
        return {line.get_ydata()[0] for line in means(figure.axes[0])}, words(figure)

    assert drawn(best="hessian_srank")[0] == {30.0}
    assert "Greatest mean Hessian stable rank, strength" in drawn(best="hessian_srank")[1]
    values, text = drawn(best="hessian_srank", best_is="lowest")
    assert values == {10.0}
    assert "Least mean Hessian stable rank, strength" in text
    assert drawn(best="accuracy", best_is="highest")[0] == {30.0}
    with pytest.raises(ConfigError, match="best_is must say whether the lowest or the highest accuracy is best: got n"):
        drawn(best="accuracy")
    with pytest.raises(ConfigError, match=r"best_is must be a known name: got 'high'\. Did you mean 'highest'"):
        drawn(best="error", best_is="high")


def best_of_one(row, task):
    return 0.1 + 0.1 * row["seed"]


def test_a_caption_has_four_lines_at_most_and_only_settings_that_are_not_the_default(sweep, large):
    usual = {"learning_rate": (1e-3,), "optimizer": ("adam",), "epochs": (200,)}
    run = sweep({"activation": ("relu",), "beta1": (0.8,), **usual}, lambda row, task: 0.5)
    assert "Settings: beta1 0.8, seeds 0 to 5; all others at their defaults." in words(plot(run, ["error"]))
    fields = {"method": METHODS, "strength": STRENGTHS, "learning_rate": (0.01, 1e-4), "activation": ACTIVATIONS}

    def mixed(row, task):  # another choice for every line
        return float(np.random.default_rng([*"".join(map(str, row.values())).encode()]).random())

    crowded = plot(sweep(fields, mixed), ["error"], size=(5, 5))
    assert crowded.texts[-1].get_text().count("\n") <= 3
    assert "Least mean error, strength/learning rate, on seeds 3, 4, 5 (not drawn), a choice for each line," in words(
        crowded
    )
    assert "Settings: seeds 0 to 2." in words(crowded)
    named = {f"beta{i}": (0.5 + i / 100,) for i in (1, 2)} | {"weight_decay": (0.25,), "momentum": (0.125,)}
    long = sweep(
        {"activation": ("relu",), **named, "optimizer_reset": ("never",), "head_reset": ("zero",)}, best_of_one
    )
    small = plot(long, ["error"], size=(2.4, 4)).texts[-1].get_text()
    assert small.count("\n") <= 3
    assert small.replace("\n", " ").endswith("More: config.json of the runs.")


def test_problems_are_never_chosen_among(sweep):
    run = sweep({"benchmark": ("mnist_shuffle", "mnist_permute"), "strength": (1.0, 0.1, 0.01, 0.001, 0.0001)},
                lambda row, task: 0.5)  # fmt: skip
    assert titles(plot(run, ["error"])) == ["mnist_permute", "mnist_shuffle"]
    with pytest.raises(
        ValueError, match=r"must be of one problem: got benchmark mnist_shuffle, mnist_permute\. Name be"
    ):
        plot(run, ["error"], hue="strength")


def test_runs_of_the_same_settings_and_seeds_are_not_pooled(large):
    figure = plot([large, large], ["error"], where={"activation": "relu", "strength": 1.0}, hue="method", style="run")
    assert len(means(figure.axes[0])) == 2 * len(METHODS)
    with pytest.raises(ValueError, match=r"got several runs of the same settings and seeds\. Name run as row"):
        plot([large, large], ["error"], hue="method")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hue": "metod"}, r"hue must be a field of the members: got 'metod'. Did you mean 'method'\?"),
        ({"row": "method", "col": "method"}, "row and col must go by different fields: got 'method'"),
        ({"where": {"strength": 0.2}}, "got strength 0.2. Known: 0.0001, 0.01, 1.0."),
        ({"where": {"strenght": 1}}, r"where must be a field .* got 'strenght'. Did you mean 'strength'\?"),
        ({"best": "eror", "hue": "method"}, r"best must be metrics of the run: got 'eror'. Did you mean 'error'\?"),
        ({"labels": {"reddo": "ReDo"}}, r"labels must name what is drawn: got 'reddo'. Did you mean 'redo'\?"),
        ({"style": "seed"}, "style has 4 kinds of lines: got 6 values of seed"),
        ({"size": (4, 1)}, "size must leave 0.8 inches for panels: got 4 x 1, of which the texts take"),
    ],
)
def test_wrong_options_are_errors_that_say_what_to_do(large, options, message):
    with pytest.raises(ValueError, match=message):
        plot(large, ["error"], **options)


def test_the_command_line_has_every_option(large, tmp_path, capsys):
    out = tmp_path / "a.png"
    options = ["--columns", "error", "--out", str(out), "--hue", "method", "--col", "activation", "--row", "strength"]
    options += [
        "--where",
        "strength=0.01,1",
        "seed=0,1,2",
        "--labels",
        "l2=weight decay",
        "--title",
        "",
        "--size",
        "7x5",
    ]
    options += ["--best", "error", "--log", "error", "--no-members", "--no-band", "--no-caption"]
    assert run_command(["plot", str(large.path), *options]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert run_command(["plot", str(large.path), "--size", "wide"]) == 2
    assert "--size must be WIDTHxHEIGHT in inches, such as 5.5x3: got 'wide'." in capsys.readouterr().err
