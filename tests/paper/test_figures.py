import re

import numpy as np
import pytest
from fabricated import EPOCHS, TASKS, make_run, run_of, runs_of
from matplotlib.collections import LineCollection, PolyCollection

from fastplast.config import ConfigError
from fastplast.drawing.bands import limits
from fastplast.paper.make import draw_figure
from fastplast.paper.registry import FIGURES, adapt, figure_of
from fastplast.paper.studies import STUDIES, Use
from fastplast.paper.uses import uses_of
from fastplast.runs.archive import write_archive
from fastplast.runs.run import Run
from fastplast.stats import mean_interval, within_range

FOUR = ["relu", "leaky_relu", "tanh", "identity"]
METHODS = ["no regulariser", "weight decay (L2)", "regenerative", "wasserstein"]
ONE_RATE = {"learning_rate": 1e-3}


def bands(axes):
    return [c for c in axes.collections if isinstance(c, PolyCollection) and not isinstance(c, LineCollection)]


def legend(page):
    return [text.get_text().replace("\n", " ") for text in page.legends[0].get_texts()]


def words(page):
    return " ".join(text.get_text() for text in page.texts).replace("\n", " ")


def labels(page):
    return [axes.get_ylabel().replace("\n", " ") for axes in page.axes]


def check_layout(page):
    for i, box in enumerate(page.boxes):
        assert not any(box.overlaps(other) for other in page.boxes[:i])
        assert page.bbox.x0 <= box.x0 < box.x1 <= page.bbox.x1
        assert page.bbox.y0 <= box.y0 < box.y1 <= page.bbox.y1


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_comes_out(drawn_of_all, name):
    page = drawn_of_all(name)
    text = words(page)
    assert f"figure {name}  ·  " in text
    assert f"(section {figure_of(name).section})." in text
    assert re.search(r"\d members, seeds 0, 1 \(paper: \d+\), 6 tasks \(paper: \d+\) of 8 updates", text)
    assert all("n = 2 †" in label for label in legend(page)) or name == "consistency"
    assert all(axes.has_data() for axes in page.axes if axes.get_visible())
    check_layout(page)


@pytest.mark.parametrize("name", FIGURES)
def test_captions_have_four_lines_and_name_the_step_size(drawn_of_all, name):
    page = drawn_of_all(name)
    caption = page.texts[-1].get_text()
    assert len(caption.splitlines()) <= 4
    assert "tep size" in " ".join([*caption.split(), *legend(page)])  # lines may break between the two words
    beside = page.text_beside.replace("\n", " ")
    assert "Data: " in beside
    kept = caption.replace("\n", " ").partition(" More: ")[0]
    assert kept in beside
    if " More: " in caption.replace("\n", " "):
        assert caption.endswith(f"{figure_of(name).stem}.txt.")
    assert "†: fewer than 5" in kept or name == "consistency"


@pytest.mark.parametrize("name", FIGURES)
def test_what_is_drawn_is_possible(drawn_of_all, name):
    least = {"misclassified": 0, "cosine": -1, "directions": 0, "nats)": 0, "mean absolute": 0}
    most = {"misclassified": 1, "cosine": 1, "feature": 32, "nats)": np.log(32)}
    for axes in drawn_of_all(name).axes:
        if axes.get_visible() and axes.get_yscale() == "linear" and name != "consistency":
            parts = [path.vertices[:, 1] for one in axes.collections for path in one.get_paths()]
            parts += [line.get_ydata() for line in axes.lines if len(line.get_xdata()) > 2]
            values = np.concatenate(parts).astype(float)
            values = values[np.isfinite(values)]
            label = axes.get_ylabel()
            assert all(values.min() >= low - 1e-9 for unit, low in least.items() if unit in label)
            assert all(values.max() <= high + 1e-9 for unit, high in most.items() if unit in label)


@pytest.mark.parametrize("seeds", [3, 30])
def test_lines_are_means_with_bands_of_the_chosen_setting(folder, drawn, seeds):
    path = run_of(folder, Use("activations-mnist_shuffle", ONE_RATE), seeds, learning_rate=1e-3)
    page = drawn(1, runs=[path])
    axes = page.axes[0]
    assert legend(page) == [f"{name} (n = {seeds}{' †' * (seeds < 5)})" for name in FOUR]
    assert labels(page)[0] == "error at task end (misclassified fraction)"
    table = Run(path).metrics()
    table = table[(table["when"] == "end") & (table["activation"] == "relu")]
    values = table.pivot(index="member", columns="task", values="error").to_numpy()
    expected = within_range(mean_interval(values), 0, 1)
    lines = [line for line in axes.lines if len(line.get_xdata()) == TASKS]
    np.testing.assert_allclose(lines[0].get_ydata(), expected.estimate)
    assert len(bands(axes)) == 4
    corners = bands(axes)[0].get_paths()[0].vertices
    ends = corners[corners[:, 0] == 3, 1]
    np.testing.assert_allclose([ends.min(), ends.max()], [expected.low[3], expected.high[3]])
    low, high = axes.get_ylim()
    assert low < values.min() < values.max() < high
    check_layout(page)


def test_two_members_have_no_band(folder, drawn):
    path = run_of(folder, Use("activations-mnist_shuffle", ONE_RATE), 2, learning_rate=1e-3)
    page = drawn(1, runs=[path])
    assert not any(bands(axes) for axes in page.axes)
    assert "†: fewer than 5 members, with a rough interval or none." in words(page)


@pytest.mark.parametrize(("seeds", "filled"), [(3, False), (5, True)])
def test_bands_of_few_members_are_dotted_edges_and_cover_nothing(folder, drawn, seeds, filled):
    path = run_of(folder, Use("activations-mnist_shuffle", ONE_RATE), seeds, learning_rate=1e-3)
    page = drawn(1, runs=[path])
    assert all((band.get_alpha() > 0.1) == filled for band in bands(page.axes[0]))
    assert sum(isinstance(one, LineCollection) for one in page.axes[0].collections) == (4 if filled else 8)


def test_step_sizes_are_chosen_on_seeds_that_are_not_drawn(drawn, folder):
    page = drawn(1, runs=[run_of(folder, Use("activations-mnist_shuffle"), 8)])
    assert legend(page) == [f"{name} (n = 5)" for name in FOUR]
    assert "Least mean error, step size, on seeds 5, 6, 7 (not drawn): relu 0.0" in words(page)


def test_too_few_seeds_choose_for_themselves_and_the_caption_says_so(drawn_of_all):
    assert "Least mean error, step size, on drawn seeds, being few (optimistic): relu 0.0" in words(drawn_of_all(1))


def test_all_lines_of_a_panel_have_the_seeds_that_chose_nothing(drawn, folder):
    runs = [run_of(folder, Use("activations-mnist_shuffle", ONE_RATE), 30, learning_rate=1e-3),
            run_of(folder, Use("regularisers-mnist_shuffle"), 5)]  # fmt: skip
    page = drawn(4, runs=runs)
    assert legend(page) == [f"{name} (n = 3 †)" for name in METHODS]
    assert "on seeds 3, 4 (not drawn)" in words(page)


def test_settings_of_few_seeds_are_no_candidates(drawn, folder):
    runs = [run_of(folder, Use("regularisers-mnist_shuffle"), 5, strength=1.0),
            run_of(folder, Use("regularisers-mnist_shuffle"), 2, strength=0.01),
            run_of(folder, Use("activations-mnist_shuffle", ONE_RATE), 5, learning_rate=1e-3)]  # fmt: skip
    page = drawn(4, runs=runs)
    assert legend(page) == [f"{name} (n = 5)" for name in METHODS]
    assert "Least mean error, strength, the only ones of enough seeds: relu: weight decay (L2) 1" in words(page)


def test_a_panel_of_strengths_has_one_reduction(drawn, folder):
    uses = [Use("regularisers-mnist_shuffle", {"reduction": ("mean", "sum")})]
    page = drawn(16, runs=[run_of(folder, uses[0], 5)])
    assert [sum(len(line.get_xdata()) == TASKS for line in axes.lines) for axes in page.axes] == [2] * 9
    assert "Least mean error, reduction, on seeds 3, 4 (not drawn): relu, weight decay (L2): " in words(page)


def test_colours_of_a_value_are_the_same_in_every_figure(drawn_of_all):
    def colours(name):
        axes = drawn_of_all(name).axes[0]
        return [line.get_color() for line in axes.lines if len(line.get_xdata()) == TASKS]

    assert colours(4) == colours(5) == colours("problems")
    assert len(set(colours(4))) == 4
    for name in (19, 20):
        assert len(set(colours(name))) == len(colours(name))


def test_points_are_members_and_tasks_with_a_line_and_the_sign_of_its_slope(drawn_of_all):
    for axes in drawn_of_all(7).axes:
        points = [line for line in axes.lines if line.get_marker() == "o"]
        assert [len(line.get_xdata()) for line in points] == [2 * TASKS] * 4
        signs = [text.get_text().strip("()") for text in axes.texts]
        assert len(signs) == 4
        assert set(signs) <= {"+", "−", "0", "·"}
    assert "Pearson's correlation [95% interval]: update norm" in drawn_of_all(7).text_beside.replace("\n", " ")


def test_regression_lines_are_least_squares(drawn, folder):
    path = run_of(folder, Use("activations-mnist_shuffle", ONE_RATE), 30, learning_rate=1e-3)
    axes = drawn(7, runs=[path]).axes[0]
    points, line = axes.lines[0], axes.lines[1]
    fit = np.polyfit(points.get_xdata(), points.get_ydata(), 1)
    np.testing.assert_allclose(line.get_ydata(), np.polyval(fit, line.get_xdata()))


def test_scores_have_a_row_for_every_explanation_and_the_activations_that_agree(drawn):
    left, middle, right = drawn("consistency", 30).axes
    rows = len(left.get_yticklabels())
    assert rows >= 7
    assert all(sum(line.get_marker() == "o" for line in axes.lines) == 4 * rows for axes in (left, middle))
    assert [text.get_text() for text in left.get_yticklabels()][-1] == "Hessian stable rank"
    counts = [text.get_text() for text in right.texts]
    assert len(counts) == 2 * rows  # over tasks and over members
    assert all(text.endswith("/4") for text in counts)


def test_start_against_end_has_the_line_of_equals(drawn_of_all):
    (axes,) = drawn_of_all("start-end").axes
    assert axes.get_xlabel().startswith("Hessian stable rank at task start")
    assert any(line.get_color() == "0.6" for line in axes.lines)


def test_means_on_a_logarithmic_axis_are_geometric(drawn):
    page = drawn("sharpness", 8)
    assert [axes.get_yscale() for axes in page.axes] == ["log", "log"]
    assert "Line: geometric mean over members" in words(page)
    corners = np.concatenate([band.get_paths()[0].vertices[:, 1] for band in bands(page.axes[0])])
    assert (corners > 0).all()


def test_curves_within_tasks_are_over_the_updates_of_all_before(drawn_of_all):
    (axes,) = drawn_of_all(25).axes
    curve = next(line for line in axes.lines if len(line.get_xdata()) > 2)
    np.testing.assert_allclose(curve.get_xdata(), 8 / EPOCHS * np.arange(1, TASKS * EPOCHS + 1))


def test_errors_that_are_all_zero_do_not_look_like_an_effect(drawn, folder):
    path = run_of(folder, Use("activations-mnist_permute", ONE_RATE), 5, learning_rate=1e-3)
    table = Run(path).metrics()
    assert table["error"].max() > 0.5
    low, high = limits([(np.zeros(3), np.zeros(3), np.zeros(3))], False, (0, 1))
    assert low < 0 < 0.2 < high < 0.25


def test_a_panel_ends_where_fewer_than_half_of_its_lines_go_on(drawn, folder):
    use = Use("activations-mnist_shuffle", {**ONE_RATE, "activation": ("relu", "leaky_relu", "tanh")})
    runs = [run_of(folder, use, 5, learning_rate=1e-3, tasks=3)]
    runs += [run_of(folder, Use("activations-mnist_shuffle", {**ONE_RATE, "activation": "identity"}), 5, tasks=6)]
    axes = drawn(1, runs=runs).axes[0]
    assert axes.get_xlim()[1] < 3


def test_members_that_diverged_are_marked_and_left_out(drawn, folder):
    use = Use("activations-mnist_shuffle", ONE_RATE)
    page = drawn(1, runs=[make_run(folder / "diverged", [use], 4, learning_rate=1e-3, diverge=(0,))])
    assert legend(page)[0] == "relu (n = 4 †, 1 diverged ×)"
    assert "×: a member diverged" in words(page)


def test_what_the_text_leaves_open_can_be_chosen(drawn, folder):
    runs = runs_of(folder, figure_of(13)) + runs_of(folder, figure_of(14))
    page = drawn(13, runs=runs, where={"benchmark": ["mnist_permute"]})
    assert "figure 13  ·  mnist_permute" in words(page)
    page = drawn(26, x="error")
    assert [axes.get_xlabel()[:17] for axes in page.axes] == ["error at task end"] * 2
    page = drawn(1, metrics={"displacement_l1": "update_l1_mean"})
    assert "mean size of updates at task end (absolute, per parameter)" in labels(page)
    runs = runs_of(folder, figure_of(4))
    where = {"method": ["none", "l2", "regenerative", "wasserstein"], "activation": ["relu"]}
    assert legend(drawn(13, runs=runs, where=where, lines="method")) == [f"{name} (n = 2 †)" for name in METHODS]


def test_results_of_several_networks_and_sizes_show_those_of_the_paper(drawn, folder):
    use = Use("activations-mnist_shuffle", ONE_RATE)
    usual = run_of(folder, use, 2, examples=1280, epochs=200, learning_rate=1e-3)
    other = run_of(folder, use, 3, network="mlp13", widths=[8] * 12, learning_rate=1e-3)
    assert "  ·  mlp  ·  " in words(drawn(1, runs=[usual, other]))


def test_runs_that_overlap_are_read_once(drawn, folder):
    use = Use("activations-mnist_shuffle", ONE_RATE)
    runs = [run_of(folder, use, 2, learning_rate=1e-3), make_run(folder / "again", [use], 3, learning_rate=1e-3)]
    assert legend(drawn(1, runs=runs))[0] == "relu (n = 3 †)"


def test_titles_count_what_is_drawn_and_not_what_was_read(drawn, folder):
    regularised = Use("regularisers-mnist_permute", {"activation": "relu"})
    plain = Use("activations-mnist_permute", {"activation": ("relu", "leaky_relu", "tanh")})
    page = drawn("5", runs=[run_of(folder, use) for use in (regularised, plain)])
    shown = [axes.get_title() for axes in page.axes if axes.get_title()]
    assert page.texts[0].get_text().endswith(f"mlp  ·  {', '.join(sorted(shown))}")


def test_captions_say_what_is_lacking(drawn, folder):
    use = Use("activations-mnist_shuffle", {"activation": ("relu", "tanh")})
    text = drawn(2, runs=[run_of(folder, use, 2, learning_rate=1e-3)]).text_beside.replace("\n", " ")
    assert "seeds 0, 1 (paper: 30)" in text
    assert "Not in these results: observation-permuted MNIST; label-shuffled CIFAR-10; leaky_relu, identity of " in text


@pytest.mark.parametrize(
    ("number", "options", "message"),
    [
        (2, {"leave_out": ["hessian_srank"]}, r"figure 2 needs hessian_srank at task start: .*--srank both"),
        (9, {"leave_out": ["hessian_srank@end"]}, r"needs hessian_srank at task end: .* only at task start\."),
        (1, {"leave_out": ["displacement_l1"]}, r"figure 1 needs displacement_l1: .* have no value"),
        ("consistency", {"leave_out": ["hessian_srank"]}, r"figure consistency needs hessian_srank: the results"),
        (4, {"activation": "identity"}, r"figure 4 needs members with activation relu, .* has identity\."),
        (16, {"activation": "relu"}, r"figure 16 needs members with method l2, .* has none\."),
        (13, {"benchmark": "mnist_permute"}, r"figure 13 needs members with benchmark mnist_shuffle: .*mnist_permute"),
    ],
)  # fmt: skip
def test_results_without_what_a_figure_needs_are_refused(tmp_path, number, options, message):
    path = make_run(tmp_path / "run", [Use("activations-mnist_shuffle")], 2, tasks=2, **options)
    with pytest.raises(ValueError, match=message):
        draw_figure(figure_of(number), [path], formats=("png",))
    assert not (path / "figures").exists()


def test_what_is_no_figure_or_no_run_is_refused(tmp_path):
    with pytest.raises(
        ConfigError, match=r"figure must be 1 to 27 or a name: got 28. `fastplast figure --list` lists them."
    ):
        figure_of(28)
    with pytest.raises(FileNotFoundError, match="path must be a run directory"):
        draw_figure(figure_of(1), [tmp_path])
    with pytest.raises(ValueError, match=r"--from must name at least one run or sweep: got none"):
        draw_figure(figure_of(1), [])
    with pytest.raises(ValueError, match="formats must be known names: got 'gif'"):
        draw_figure(figure_of(1), [tmp_path], formats=("gif",))


def test_files_hold_no_curves_within_tasks(folder, tmp_path):
    runs = runs_of(folder, figure_of(25))
    write_archive(Run(runs[0]), tmp_path / "pairs.parquet")
    with pytest.raises(ValueError, match="figure 25 needs curves within tasks, which files of results do not hold"):
        draw_figure(figure_of(25), [tmp_path / "pairs.parquet"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": {"loss": "error"}}, "--metric must name one of figure 1: got loss"),
        ({"lines": "method"}, "--lines, --x and --metric change panels of metrics: figure consistency has none"),
    ],
)
def test_choices_that_a_figure_does_not_have_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        adapt(figure_of("consistency" if "lines" in changes else 1), **changes)


def test_the_registry_is_whole():
    assert [name for name in FIGURES if isinstance(name, int)] == list(range(1, 28))
    for name, figure in FIGURES.items():
        assert figure.name == name
        assert all(use.study in STUDIES for use in uses_of(figure, "paper"))
        assert figure.shows[0].isalnum()
