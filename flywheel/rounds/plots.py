"""All rounds at a glance: each headline figure with intervals and verdicts, for the report and as PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flywheel.core.types import Estimate, RoundReport
from flywheel.rounds.figures import Figure as Row
from flywheel.rounds.figures import charts, series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 3
_COLOURS: Mapping[str, str] = {"promoted": "#1a7f37", "refused": "#cf222e", "undecided": "#9a6700", "base": "#57606a"}


def write_plots(reports: Sequence[RoundReport], out: Path) -> Path:
    """Write the charts as PNG; returns the path."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_suffix(".tmp")
    draw(reports).savefig(temporary, format="png", dpi=110)
    temporary.replace(out)
    return out


def svg(reports: Sequence[RoundReport]) -> str:
    """Return the charts as an SVG element that names no other file; empty where nothing was measured."""
    import matplotlib

    figure = draw(reports)
    if not figure.axes:
        return ""
    out = io.StringIO()
    # Letters stay letters: a tenth of the size, and the page's style may colour them.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "flywheel"}):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    text = out.getvalue()
    # Without the XML declaration and document type, which are for files.
    return text[text.index("<svg") :]


def draw(reports: Sequence[RoundReport]) -> Figure:
    """Draw each headline figure with its 95 % interval, the points coloured by the gate's verdict."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    points = series(reports)
    rows = [row for section in charts(points).values() for row in section]
    verdicts = {report.round: report.details.get("gate", {}).get("verdict", "base") for report in reports}
    lines = max(1, -(-len(rows) // _COLUMNS))
    figure = Figure(figsize=(4 * _COLUMNS, 2.9 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    for place, row in enumerate(rows, 1):
        _chart(figure.add_subplot(lines, _COLUMNS, place), row, points[row.name], verdicts)
    for verdict in [v for v in _COLOURS if rows and v in verdicts.values()]:
        figure.axes[0].plot([], [], "o", color=_COLOURS[verdict], label=verdict)
    if rows:
        figure.axes[0].legend(fontsize=8)
    return figure


def _chart(axes: Axes, row: Row, points: Sequence[tuple[int, Estimate]], verdicts: Mapping[int, str]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.plot([r for r, _ in points], [p.value for _, p in points], color="#8c959f", linewidth=1)
    for round, point in points:
        colour = _COLOURS.get(verdicts[round], _COLOURS["base"])
        interval = [[max(0.0, point.value - point.low)], [max(0.0, point.high - point.value)]]
        axes.errorbar([round], [point.value], yerr=interval, fmt="o", color=colour, capsize=3)
    axes.set_title(row.title, fontsize=10)
    axes.set_xlabel("round", fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
