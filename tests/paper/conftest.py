import pytest
from fabricated import run_of, runs_of
from matplotlib.figure import Figure as Page

from fastplast.drawing import page
from fastplast.paper import make
from fastplast.paper.make import draw_figure
from fastplast.paper.registry import adapt, figure_of
from fastplast.paper.uses import uses_of

STRENGTHS = [1.0, 0.1, 0.01, 0.001, 0.0001]


def draw_page(name, runs, scale=None, **changes):
    """Draws a figure without writing it, and returns the page, with `boxes` around what must not overlap."""
    pages, texts = [], []

    def capture(page, *_, **__):
        page.draw_without_rendering()
        page.boxes = [axes.get_tightbbox() for axes in page.axes if axes.get_visible()]
        around = [text for text in page.texts if text.get_gid() != "watermark"]
        page.boxes += [part.get_window_extent() for part in (*page.legends, *around)]
        pages.append(page)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Page, "savefig", capture)
        patch.setattr(page, "write_file", lambda path, content: None)
        patch.setattr(make, "write_file", lambda path, content: texts.append(content.decode()))
        draw_figure(adapt(figure_of(name), **changes), runs, formats=("png",))
    pages[0].text_beside = texts[0]
    return pages[0]


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Runs that were made up, shared by all tests."""
    return tmp_path_factory.mktemp("fabricated")


@pytest.fixture(scope="session")
def drawn(folder):
    """Draws a figure of made-up runs, or of those given."""

    def drawn(name, seeds=2, runs=None, **changes):
        return draw_page(name, runs or runs_of(folder, figure_of(name), seeds), **changes)

    return drawn


@pytest.fixture(scope="session")
def drawn_of_all(folder):
    """A figure of made-up runs with the members that it needs at the smallest scale, drawn once for all tests."""
    pages = {}

    def drawn(name):
        if name not in pages:
            uses = uses_of(figure_of(name), "smoke")
            more = {"strength": STRENGTHS} if name in (16, 17, 18) else {}
            pages[name] = draw_page(name, [run_of(folder, use, 2, **more) for use in uses])
        return pages[name]

    return drawn
