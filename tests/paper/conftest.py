import pytest
from fabricated import runs_of
from matplotlib.figure import Figure as Page

from fastplast.drawing import page
from fastplast.paper import draw_figure, figure_of


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Runs that were made up, shared by all tests."""
    return tmp_path_factory.mktemp("fabricated")


@pytest.fixture
def drawn(folder, monkeypatch):
    """Draws a figure without writing it, and returns the page, with `boxes` around what must not overlap."""

    def drawn(number, seeds=2, runs=None):
        pages = []

        def capture(page, *_, **__):
            page.draw_without_rendering()
            page.boxes = [axes.get_tightbbox() for axes in page.axes if axes.get_visible()]
            page.boxes += [part.get_window_extent() for part in (*page.legends, *page.texts)]
            pages.append(page)

        figure = figure_of(number)
        with monkeypatch.context() as patch:
            patch.setattr(Page, "savefig", capture)
            patch.setattr(page, "write_file", lambda path, content: None)
            draw_figure(figure, runs or runs_of(folder, figure, seeds), formats=("png",))
        return pages[0]

    return drawn
