"""Every figure of the paper has the panels, axes and lines that the paper's text and captions give it.

The table is written from them, not from the package: rows of panels, of each panel the beginning of its vertical axis,
the horizontal axis, and the lines.
"""

import pytest

FOUR = ("relu", "leaky_relu", "tanh", "identity")
CURVED = FOUR[:3]
METHODS = ("no regulariser", "weight decay (L2)", "regenerative", "wasserstein")
STEPS = ("step size 0.0001", "step size 0.001", "step size 0.01")
STRENGTHS = tuple(f"strength {one}" for one in ("0.0001", "0.001", "0.01", "0.1", "1"))
WITH = ("relu + weight decay (L2)", "relu + regenerative", "relu + wasserstein")
CHANGED = ("crelu", "relu + layer norm", "relu + dropout 0.5", "relu + last-layer reset")
ERROR, RANK, END_RANK = "error at task end", "Hessian stable rank at task start", "Hessian stable rank at task end"
UPDATE, DISTANCE = "update norm at task end", "distance from init at task end"
OVERLAP, END_OVERLAP = ("gradient-Hessian overlap at task " + when for when in ("start", "end"))
FEATURES, SHARPNESS = "feature stable rank", "Hessian sharpness at task start"
EARLIER = [UPDATE, FEATURES, "activation entropy", "weight norm", "weight stable rank"]
TASK = "task (from 0)"
NAMES = {"mnist_shuffle": "label-shuffled MNIST", "mnist_permute": "observation-permuted MNIST",
         "cifar_shuffle": "label-shuffled CIFAR-10"}  # fmt: skip


def square(metrics, wide, lines, x=TASK):
    """Rows of panels side by side, which have the same lines."""
    return [metrics[i : i + wide] for i in range(0, len(metrics), wide)], x, lines


def columns(metrics, titles, lines):
    """A row for each metric, a titled column for each value; only the first column is labelled."""
    return [[metric] + [""] * (len(titles) - 1) for metric in metrics], TASK, lines, titles


BY_ACTIVATION = columns([ERROR, RANK, DISTANCE], CURVED, METHODS)
TOP_SPACE = square([UPDATE, RANK, END_RANK, OVERLAP, END_OVERLAP], 5, STEPS)
ONLINE = square(["online error", "error at task start", ERROR], 3, FOUR)
BY_STRENGTH = ([[ERROR, "", ""]] * 3, TASK, STRENGTHS,
               [f"{name}, {method}" for name in CURVED for method in METHODS[1:]])  # fmt: skip
PAIRS = "class_pairs of cifar10"

TABLE = {
    1: ("mnist_shuffle", square([ERROR, *EARLIER], 3, FOUR)),
    2: ("3 benchmarks", columns([ERROR, RANK], list(NAMES.values()), FOUR)),
    3: ("mnist_shuffle", square([ERROR, UPDATE, END_OVERLAP, END_RANK], 4, STEPS)),
    4: ("mnist_shuffle", BY_ACTIVATION),
    5: ("mnist_permute", BY_ACTIVATION),
    6: ("cifar_shuffle", columns([ERROR, RANK, DISTANCE], CURVED, (METHODS[0], *METHODS[2:]))),
    7: ("mnist_shuffle", square([*EARLIER, RANK], 3, FOUR, ERROR)),
    8: ("mnist_shuffle", columns([ERROR, RANK], CURVED, tuple(f"epochs {one}" for one in (1, 2, 4)))),
    9: ("mnist_shuffle", TOP_SPACE),
    10: ("mnist_permute", TOP_SPACE),
    11: ("cifar_shuffle", TOP_SPACE),
    12: ("cifar_shuffle", BY_ACTIVATION),
    13: ("mnist_shuffle", ONLINE),
    14: ("mnist_permute", ONLINE),
    15: ("cifar_shuffle", ONLINE),
    16: ("mnist_shuffle", BY_STRENGTH),
    17: ("mnist_permute", BY_STRENGTH),
    18: ("cifar_shuffle", BY_STRENGTH),
    19: (PAIRS, square([ERROR, RANK], 2, ("relu", *WITH, "identity"))),
    20: (PAIRS, square([ERROR, RANK], 2, ("relu", *CHANGED, "relu + wasserstein"))),
    21: (PAIRS, square([RANK], 1, (*FOUR, *WITH), ERROR)),
    22: (PAIRS, square([RANK], 1, ("relu", *CHANGED), ERROR)),
    23: (PAIRS, square([SHARPNESS], 1, ("relu", *WITH, "identity"), ERROR)),
    24: (PAIRS, square([SHARPNESS], 1, (*FOUR, *CHANGED), ERROR)),
    25: (PAIRS, square(["online error of an epoch"], 1, ("relu", *WITH[1:], "identity"), "update")),
    26: ("mnist_shuffle", square([ERROR, RANK, FEATURES], 3, (*FOUR, *WITH))),
    27: ("mnist_shuffle  ·  mlp13", square([ERROR, RANK], 2, ("relu", "identity", *WITH[1:]))),
}


def one_line(text):
    return text.replace("\n", " ")


@pytest.mark.parametrize("number", TABLE)
def test_panels_axes_and_lines_are_the_papers(drawn_of_all, number):
    page = drawn_of_all(number)
    problem, (rows, x, lines, *titles) = TABLE[number]
    assert f"figure {number}  ·  {problem}" in page.texts[0].get_text()
    shown = [axes for axes in page.axes if axes.get_visible()]
    assert len(shown) == sum(map(len, rows))
    for axes in shown:
        place = axes.get_subplotspec()
        assert place.get_geometry()[:2] == (len(rows), len(rows[0]))
        row, column = place.rowspan.start, place.colspan.start
        label = one_line(axes.get_ylabel())
        assert label.startswith(rows[row][column]), label
        assert bool(label) == bool(rows[row][column])
        if not titles or row == len(rows) - 1:
            assert one_line(axes.get_xlabel()).startswith(x)
        curves = [line for line in axes.lines if len(line.get_xdata()) > 2 and line.get_linestyle() != "None"]
        assert len(curves) == len(lines)
        if x != ERROR:
            assert len(axes.get_yticklabels()) > 1
    legend = [one_line(text.get_text()).partition(" (n =")[0] for text in page.legends[0].get_texts()]
    assert sorted(legend) == sorted(lines)
    assert [axes.get_title() for axes in shown if axes.get_title()] == list(*titles)


def test_the_list_of_figures_is_the_papers(drawn_of_all):
    assert list(TABLE) == list(range(1, 28))
