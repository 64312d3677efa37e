import numpy as np
import pytest
from fabricated import TASKS, make_run, run_of, runs_of
from matplotlib.collections import LineCollection, PolyCollection

from fastplast.config import ConfigError
from fastplast.paper import FIGURES, STUDIES, Use, draw_figure, figure_of
from fastplast.runs.run import Run
from fastplast.stats import mean_interval

FOUR = ["relu", "leaky_relu", "tanh", "identity"]
METHODS = ["no method", "l2", "regenerative", "wasserstein"]
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


@pytest.mark.parametrize("number", FIGURES)
def test_every_figure_comes_out(drawn, number):
    page = drawn(number)
    text = words(page)
    assert f"figure {number}  ·  " in text
    assert f"(section {figure_of(number).section} of the paper)" in text
    assert "members in all, seeds 0, 1; 6 tasks of 8 updates." in text
    assert "Of the paper's it has 6 of " in text
    assert "n = 2" in " ".join(legend(page)) or "n = 4" in " ".join(legend(page))
    assert all(axes.has_data() for axes in page.axes if axes.get_visible())
    check_layout(page)


@pytest.mark.parametrize("seeds", [2, 30])
def test_lines_are_means_with_bands_of_the_chosen_setting(folder, drawn, seeds):
    path = run_of(folder, Use("activations-mnist_shuffle", ONE_RATE), seeds, learning_rate=1e-3)
    page = drawn(1, runs=[path])
    (axes,) = page.axes
    assert legend(page) == [f"{name} (n = {seeds})" for name in FOUR]
    assert labels(page) == ["error at task end (misclassified fraction)"]
    table = Run(path).metrics()
    table = table[(table["when"] == "end") & (table["activation"] == "relu")]
    values = table.pivot(index="member", columns="task", values="error").to_numpy()
    expected = mean_interval(values)
    lines = [line for line in axes.lines if len(line.get_xdata()) == TASKS]
    np.testing.assert_allclose(lines[0].get_ydata(), expected.estimate)
    assert len(bands(axes)) == 4
    corners = bands(axes)[0].get_paths()[0].vertices
    ends = corners[corners[:, 0] == 3, 1]
    np.testing.assert_allclose([ends.min(), ends.max()], [expected.low[3], expected.high[3]])
    low, high = axes.get_ylim()
    assert low < values.min() < values.max() < high
    check_layout(page)


@pytest.mark.parametrize(("seeds", "filled"), [(2, False), (5, True)])
def test_bands_of_few_members_are_dotted_edges_and_cover_nothing(folder, drawn, seeds, filled):
    path = run_of(folder, Use("activations-mnist_shuffle", ONE_RATE), seeds, learning_rate=1e-3)
    page = drawn(1, runs=[path])
    assert all((band.get_alpha() > 0.1) == filled for band in bands(page.axes[0]))
    assert sum(isinstance(one, LineCollection) for one in page.axes[0].collections) == (4 if filled else 8)


def test_step_sizes_are_chosen_on_seeds_that_are_not_drawn(drawn, folder):
    page = drawn(1, runs=[run_of(folder, Use("activations-mnist_shuffle"), 8)])
    assert legend(page) == [f"{name} (n = 5)" for name in FOUR]
    assert "chosen on seeds that are not drawn, are the settings (learning rate) relu 0.0" in words(page)


def test_too_few_seeds_choose_for_themselves_and_the_caption_says_so(drawn):
    assert "chosen on the seeds that are drawn, there being too few (optimistic)" in words(drawn(1))


def test_regularisers_have_a_panel_for_each_activation_and_reduction(drawn):
    page = drawn(4)
    titles = [axes.get_title() for axes in page.axes]
    assert titles == [f"{name}, reduction {way}" for name in ("relu", "tanh") for way in ("mean", "sum")]
    assert legend(page) == [f"{name} (n = 2)" for name in METHODS]
    assert [len(bands(axes)) for axes in page.axes] == [4] * 4
    colours = [line.get_color() for line in page.axes[0].lines if len(line.get_xdata()) == TASKS]
    again = [line.get_color() for line in drawn(8).axes[0].lines if len(line.get_xdata()) == TASKS]
    assert colours == again
    assert len(set(colours)) == 4


def test_sensitivity_has_the_level_without_a_method_in_every_panel(drawn):
    page = drawn(6)
    assert [axes.get_xscale() for axes in page.axes] == ["log"] * 4
    for axes in page.axes:
        assert [line.get_linestyle() for line in axes.lines].count("--") == 1
        assert len(bands(axes)) == 3
    assert legend(page)[:2] == ["no method (n = 2)", "l2 (n = 2 at each strength)"]


def test_explanations_are_dots_with_a_line_for_each_activation(drawn):
    page = drawn(2)
    above, below = page.axes[:6], page.axes[6:]
    assert all(sum(line.get_marker() == "o" for line in axes.lines) == 4 for axes in above)
    signs = [text.get_text().strip("()") for text in above[0].texts]
    assert len(signs) == 4
    assert set(signs) <= {"+", "−", "0", "·"}
    assert all(len(bands(axes)) == 4 for axes in below)
    assert "Stable ranks of layer fc2." in words(page)
    assert "update norm, mean absolute displacement (per parameter and task); " in words(page)
    assert "n = 4 above, 2 below" in legend(page)[0]


def test_scores_have_a_row_for_every_explanation_and_the_activations_that_agree(drawn):
    left, middle, right = drawn(9, 30).axes
    assert all(sum(line.get_marker() == "o" for line in axes.lines) == 28 for axes in (left, middle))
    assert [text.get_text() for text in left.get_yticklabels()][-1] == "Hessian stable rank"
    counts = [text.get_text() for text in right.texts]
    assert len(counts) == 14  # over tasks and over members
    assert all(text.endswith("/4") for text in counts)


def test_start_and_end_share_their_axis(drawn):
    page = drawn(7)
    assert [axes.get_ylim() for axes in page.axes[::2]] == [axes.get_ylim() for axes in page.axes[1::2]]


def test_means_on_a_logarithmic_axis_are_geometric(drawn):
    page = drawn(24)
    assert [axes.get_yscale() for axes in page.axes] == ["log", "log"]
    assert "Line: geometric mean over members" in words(page)
    corners = np.concatenate([band.get_paths()[0].vertices[:, 1] for band in bands(page.axes[0])])
    assert (corners > 0).all()


def test_members_that_diverged_are_marked_and_left_out(drawn, folder):
    use = Use("activations-mnist_shuffle", ONE_RATE)
    page = drawn(1, runs=[make_run(folder / "diverged", [use], 4, learning_rate=1e-3, diverge=(0,))])
    assert legend(page)[0] == "relu (n = 4, 1 diverged ×)"
    assert "×: a member diverged" in words(page)


def test_results_of_another_problem_may_be_drawn(drawn, folder):
    page = drawn(2, runs=runs_of(folder, figure_of(14)))
    assert "mnist_permute" in words(page)
    assert "it lacks benchmark mnist_shuffle" in words(page)


def test_runs_that_overlap_are_read_once(drawn, folder):
    use = Use("activations-mnist_shuffle", ONE_RATE)
    runs = [run_of(folder, use, 2, learning_rate=1e-3), make_run(folder / "again", [use], 3, learning_rate=1e-3)]
    assert legend(drawn(1, runs=runs))[0] == "relu (n = 3)"


def test_captions_say_what_is_lacking(drawn, folder):
    use = Use("activations-mnist_shuffle", {"activation": ("relu", "tanh")})
    text = words(drawn(3, runs=[run_of(folder, use, 2, learning_rate=1e-3)]))
    assert "2 of 30 seeds of a setting" in text
    assert "it lacks activation leaky_relu, identity, learning rate 0.01, 0.0001" in text


@pytest.mark.parametrize(
    ("number", "options", "message"),
    [
        (3, {"leave_out": ["hessian_srank"]}, r"figure 3 needs hessian_srank at task start: .*--srank both"),
        (12, {"leave_out": ["hessian_srank@end"]}, r"needs hessian_srank at task end: .* only at task start\."),
        (2, {"leave_out": ["displacement_l1"]}, r"figure 2 needs displacement_l1 at task end: .* have no value"),
        (9, {"leave_out": ["hessian_srank"]}, r"figure 9 needs hessian_srank: the results have no value of it"),
        (4, {"activation": "identity"}, r"figure 4 needs members with activation relu, tanh: .* has identity\."),
        (6, {"activation": "relu"}, r"figure 6 needs members with a method and strengths: .* only none\."),
    ],
)  # fmt: skip
def test_results_without_what_a_figure_needs_are_refused(tmp_path, number, options, message):
    path = make_run(tmp_path / "run", [Use("activations-mnist_shuffle")], 2, tasks=2, **options)
    with pytest.raises(ValueError, match=message):
        draw_figure(figure_of(number), [path], formats=("png",))
    assert not (path / "figures").exists()


def test_what_is_no_figure_or_no_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"figure must be 1 to 27: got 28. `fastplast figure --list` lists them."):
        figure_of(28)
    with pytest.raises(FileNotFoundError, match="path must be a run directory"):
        draw_figure(figure_of(1), [tmp_path])
    with pytest.raises(ValueError, match=r"--from must name at least one run or sweep: got none"):
        draw_figure(figure_of(1), [])
    with pytest.raises(ValueError, match="formats must be known names: got 'gif'"):
        draw_figure(figure_of(1), [tmp_path], formats=("gif",))


def test_the_registry_is_whole():
    assert list(FIGURES) == list(range(1, 28))
    for figure in FIGURES.values():
        assert all(use.study in STUDIES for use in (*figure.uses, *figure.alternative))
        assert figure.shows[0].isalnum()
