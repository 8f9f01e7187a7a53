"""Curation as files beside the report, which MLflow shows: charts, and the clips of the page to look at and hear."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flywheel.rounds.curation_view import Bar, CuratedView

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_KEPT, _DROPPED = "#1a7f37", "#cf222e"
_COLUMNS = 4
#: A chart's size, in inches.
_WIDTH, _HEIGHT = 3.6, 2.7


def write_curation(view: CuratedView | None, folder: Path) -> None:
    """Write ``folder/curation/`` anew: ``charts.png`` and MP4s named by what became of them and their P(match).

    Without a view there is no such folder.
    """
    place = folder / "curation"
    # Whole: of a clip that was taken down nothing stays.
    shutil.rmtree(place, ignore_errors=True)
    if view is None:
        return
    place.mkdir(parents=True)
    draw(view).savefig(place / "charts.png", format="png", dpi=90)
    for words, some in view.examples.items():
        for one in some:
            if one.video:
                file = place / f"{words}-{one.score:.3f}-{one.clip.id[:8]}.mp4"
                file.write_bytes(base64.b64decode(one.video))


def draw(view: CuratedView) -> Figure:
    """Draw clips by P(match), predicted against observed, what thresholds cost, and clips by each criterion's score."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    charts = [_bars] * bool(view.bars) + [_reliability] * bool(view.reliability) + [_prices] * bool(view.thresholds)
    count = len(charts) + len(view.criteria)
    lines = max(1, -(-count // _COLUMNS))
    figure = Figure(figsize=(_WIDTH * _COLUMNS, _HEIGHT * lines))
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left=0.05, right=0.99, bottom=0.17 / lines, top=1 - 0.1 / lines, wspace=0.25, hspace=0.45)
    for place, chart in enumerate(charts, 1):
        chart(figure.add_subplot(lines, _COLUMNS, place), view)
    for place, (name, bars) in enumerate(view.criteria.items(), 1 + len(charts)):
        _stacked(figure.add_subplot(lines, _COLUMNS, place), bars, 1.0, f"judge: {name}")
    return figure


def _bars(axes: Axes, view: CuratedView) -> None:
    _stacked(axes, view.bars, 1 / len(view.bars), "clips by P(match)")
    axes.legend(fontsize=8)


def _stacked(axes: Axes, bars: Sequence[Bar], width: float, title: str) -> None:
    low = [bar.low for bar in bars]
    kept = [bar.kept for bar in bars]
    axes.bar(low, kept, width, align="edge", color=_KEPT, label="kept")
    axes.bar(low, [bar.dropped for bar in bars], width, bottom=kept, align="edge", color=_DROPPED, label="dropped")
    _dressed(axes, title)


def _reliability(axes: Axes, view: CuratedView) -> None:
    axes.plot([0, 1], [0, 1], color="#8c959f", linewidth=1)
    observed = [bin.observed for bin in view.reliability]
    values = [one.value for one in observed]
    errors = [[one.value - one.low for one in observed], [one.high - one.value for one in observed]]
    axes.errorbar([bin.predicted for bin in view.reliability], values, yerr=errors, fmt="o", capsize=3)
    _dressed(axes, "share of matches observed, by P(match)")


def _prices(axes: Axes, view: CuratedView) -> None:
    at = [row.at for row in view.thresholds]
    for words, colour, prices in (
        ("good clips lost", _DROPPED, [row.lost for row in view.thresholds]),
        ("bad clips kept", _KEPT, [row.kept_bad for row in view.thresholds]),
    ):
        axes.plot(at, [price.value for price in prices], color=colour, label=words)
        axes.fill_between(at, [p.low for p in prices], [p.high for p in prices], color=colour, alpha=0.15)
    axes.legend(fontsize=8)
    _dressed(axes, "kept from P(match)")


def _dressed(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.tick_params(labelsize=9)
    axes.grid(alpha=0.3)
