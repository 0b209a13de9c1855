"""No legend covers data: it stands beside the axes of every figure."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from orchestrator.report.data import Margins, report_data
from orchestrator.report.draw import Curve, draw_curve, name_axes, new_figure
from orchestrator.report.figures import FIGURES, draw_gap


def assert_beside(figure):
    """Assert that every legend is inside the figure and outside all axes, and return their number."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [axis.get_window_extent() for axis in figure.axes]
    legends = [axis.get_legend() for axis in figure.axes if axis.get_legend() is not None]
    for legend in legends:
        box = legend.get_window_extent()
        assert not any(box.shrunk(0.99, 0.99).overlaps(other) for other in boxes)
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width
        assert box.y1 <= figure.bbox.height
    return len(legends)


def test_no_legend_of_a_run_covers_data(run):
    drawn = {name: draw(report_data(run)) for name, _, _, draw in FIGURES}
    assert {name for name, figure in drawn.items() if figure and assert_beside(figure)} >= {
        "accuracy", "scenarios", "gap", "density",
    }  # fmt: skip


@pytest.mark.parametrize("ks", [[10], [5, 10], [5, 10, 50, 100, 500, 1000, 2500]])
def test_the_legend_of_the_gap_covers_none_of_its_bars(run, ks):
    margins = {k: Margins(values=np.linspace(-1, 3 + k, 500, dtype=np.float32), share_wrong=0.25) for k in ks}
    assert assert_beside(draw_gap(replace(report_data(run), margins=margins))) == 1


@pytest.mark.parametrize("num_panels", [1, 2, 3, 5])
@pytest.mark.parametrize("num_curves", [1, 3, 7])
def test_no_legend_of_panels_covers_data(num_panels, num_curves):
    figure, axes = new_figure(num_panels)
    for axis in axes:
        for number in range(num_curves):
            draw_curve(axis, Curve(name=f"curve of setting {number}", values={1: [0], 2: [1, 2]}), number)
        name_axes(axis, "x", "y", legend=True, title="one of several panels")
    assert assert_beside(figure) == num_panels
