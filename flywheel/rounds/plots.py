"""All rounds at a glance, as a picture: what MLflow's own charts have no room for, intervals and verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flywheel.core.types import EstimateRecord

#: Figure -> the name of its axis, with its unit.
_WANTED: Mapping[str, str] = {
    "oracle/slot_f1": "slot F1, test clips (oracle)",
    "quality/anchor_token_f1": "token F1 with people, anchors",
    "quality/agreement": "video-text agreement, nats per token",
    "diversity/distinct_3": "distinct-3",
    "watch/vendi": "Vendi score, per text",
    "quantity/tokens": "tokens, test clips",
}
_COLOURS: Mapping[str, str] = {"promoted": "#1a7f37", "refused": "#cf222e", "undecided": "#9a6700", "base": "#57606a"}


def measures(rounds: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, EstimateRecord]]]:
    """``quality/token_f1`` -> [(round, estimate)], for what has a value; a plain number is its own interval."""
    series: dict[str, list[tuple[int, EstimateRecord]]] = {}
    for said in rounds:
        for group in ("oracle", "quality", "diversity", "quantity", "watch"):
            for name, value in said.get(group, {}).items():
                estimate = value if isinstance(value, Mapping) else {"value": value, "low": value, "high": value}
                if estimate["value"] == estimate["value"]:
                    series.setdefault(f"{group}/{name}", []).append((said["round"], estimate))
    return series


def write_plots(rounds: Sequence[Mapping[str, Any]], out: Path) -> Path:
    """Each figure over the rounds with its 95 % interval, the points coloured by the gate's verdict, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    found = {name: points for name, points in measures(rounds).items() if name in _WANTED}
    verdicts = {s["round"]: s["details"].get("gate", {}).get("verdict", "base") for s in rounds}
    columns = 3
    lines = max(1, -(-len(found) // columns))
    figure = Figure(figsize=(4 * columns, 2.9 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    for place, name in enumerate(n for n in _WANTED if n in found):
        axes = figure.add_subplot(lines, columns, place + 1)
        points = found[name]
        axes.plot([r for r, _ in points], [p["value"] for _, p in points], color="#8c959f", linewidth=1)
        for round, point in points:
            colour = _COLOURS.get(verdicts[round], _COLOURS["base"])
            around = [[max(0.0, point["value"] - point["low"])], [max(0.0, point["high"] - point["value"])]]
            axes.errorbar([round], [point["value"]], yerr=around, fmt="o", color=colour, capsize=3)
        axes.set_title(_WANTED[name], fontsize=10)
        axes.set_xlabel("round", fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    for verdict in [v for v in _COLOURS if v in verdicts.values()]:
        figure.axes[0].plot([], [], "o", color=_COLOURS[verdict], label=verdict)
    if figure.axes:
        figure.axes[0].legend(fontsize=8)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_suffix(".tmp")
    figure.savefig(temporary, format="png", dpi=110)
    temporary.replace(out)
    return out
