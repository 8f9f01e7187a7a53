"""All rounds at a glance: each headline figure with intervals and verdicts, for the report and as PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flywheel.core.types import Estimate, RoundReport
from flywheel.rounds.figures import Figure as Row
from flywheel.rounds.figures import charts, series
from flywheel.rounds.verdict import gain_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 3
#: A chart's size, in inches.
_WIDTH, _HEIGHT = 4.0, 2.9
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
    has_gains, has_effort = _gains(None, reports), _effort(None, reports)
    lines = max(1, -(-(len(rows) + has_gains + has_effort) // _COLUMNS))
    figure = Figure(figsize=(_WIDTH * _COLUMNS, _HEIGHT * lines))
    FigureCanvasAgg(figure)
    # Margins in inches: matplotlib's own layouts, which measure every letter, take as long as the drawing.
    across, down = _WIDTH * _COLUMNS, _HEIGHT * lines
    figure.subplots_adjust(left=0.6 / across, right=1 - 0.15 / across, bottom=0.45 / down, top=1 - 0.35 / down)
    figure.subplots_adjust(wspace=0.22, hspace=0.42)
    if has_gains:
        _gains(figure.add_subplot(lines, _COLUMNS, 1), reports)
    for place, row in enumerate(rows, 1 + has_gains):
        _chart(figure.add_subplot(lines, _COLUMNS, place), row, points[row.name], verdicts)
    if has_effort:
        _effort(figure.add_subplot(lines, _COLUMNS, 1 + has_gains + len(rows)), reports)
    for verdict in [v for v in _COLOURS if rows and v in verdicts.values()]:
        figure.axes[0].plot([], [], "o", color=_COLOURS[verdict], label=verdict)
    if rows:
        # Without a ground of its own: the page may be dark.
        figure.axes[0].legend(fontsize=8, framealpha=0)
    return figure


def _gains(axes: Axes | None, reports: Sequence[RoundReport]) -> bool:
    """Each test's gain over the champion of then, with its interval, on a line at zero; whether there was a test."""
    gains = [(report, gain) for report in reports if (gain := gain_of(report)) is not None]
    if axes is not None:
        axes.axhline(0, color="#57606a", linewidth=1)
        for report, gain in gains:
            gate = report.details["gate"]
            below, above = max(0.0, gain.value - gain.low), max(0.0, gain.high - gain.value)
            colour = _COLOURS.get(gate["verdict"], _COLOURS["base"])
            axes.errorbar([report.round], [gain.value], yerr=[[below], [above]], fmt="o", color=colour, capsize=3)
            p_and_level = f"p {gate['p_better']:.2g}, level {gate['level']:.2g}"
            axes.annotate(
                p_and_level, (report.round, gain.high), (0, 3), textcoords="offset points", ha="center", fontsize=7
            )
        _dressed(axes, "gain over the champion, token F1 (anchors)")
        axes.margins(x=0.4, y=0.2)
    return bool(gains)


def _effort(axes: Axes | None, reports: Sequence[RoundReport]) -> bool:
    """Minutes that people spent on each round's texts; whether that is known of any round."""
    minutes = [(r.round, m) for r in reports if (m := minutes_of(r)) is not None]
    if axes is not None:
        axes.bar([round for round, _ in minutes], [m for _, m in minutes], color="#8c959f", width=0.5)
        _dressed(axes, "people's time, minutes a round")
    return bool(minutes)


def minutes_of(report: RoundReport) -> float | None:
    """Minutes that people spent on a round's texts; None where that is not on record, as of words from files."""
    seconds = sum(float(row["seconds"]) for row in report.details.get("review", {}).get("refiners", ()))
    return seconds / 60 if seconds else None


def _chart(axes: Axes, row: Row, points: Sequence[tuple[int, Estimate]], verdicts: Mapping[int, str]) -> None:
    axes.plot([r for r, _ in points], [p.value for _, p in points], color="#8c959f", linewidth=1)
    for verdict in dict.fromkeys(verdicts.values()):
        alike = [(r, p) for r, p in points if verdicts[r] == verdict]
        below = [max(0.0, p.value - p.low) for _, p in alike]
        above = [max(0.0, p.high - p.value) for _, p in alike]
        colour = _COLOURS.get(verdict, _COLOURS["base"])
        places, values = [r for r, _ in alike], [p.value for _, p in alike]
        axes.errorbar(places, values, yerr=[below, above], fmt="o", color=colour, capsize=3)
    _dressed(axes, row.title)


def _dressed(axes: Axes, title: str) -> None:
    """Title, the rounds as whole numbers, and a grid."""
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title.replace("$", r"\$"), fontsize=10, y=1.0)
    axes.set_xlabel("round", fontsize=9, labelpad=1)
    axes.tick_params(labelsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
