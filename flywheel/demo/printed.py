"""The demo's result as people read it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def table(summary: Mapping[str, Any]) -> str:
    """The demo's result as a table, and in words where a round did not improve."""
    lines = [
        f"{'':14} {'slot F1':>22} {'change (95 %)':>26} {'distinct-1':>11} {'distinct-3':>11} {'corrections':>12}",
        _line("true captions", summary["truth"], "", ""),
        _line("transcripts", summary["transcripts"], "", ""),
        _line("base model", summary["base"], "", ""),
    ]
    for said in summary["rounds"]:
        change = said["change"]
        text = f"{change['value']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}]"
        lines.append(_line(f"round {said['round']}", said, text, str(said["num_corrections"])))
    if "ceiling" in summary:
        lines.append(_line("ceiling", summary["ceiling"], "", ""))
    for said in summary["rounds"]:
        if said["change"]["low"] <= 0:
            word = "is significantly worse than" if said["change"]["high"] < 0 else "is not significantly better than"
            lines.append(f"Round {said['round']} {word} the one before.")
        if said["gate"].get("verdict", "promoted") != "promoted":
            lines.append(f"Round {said['round']} was not promoted: {said['gate']['reason']}.")
    lines.append(f"{summary['wall_s']:.0f} s, {summary['peak_rss_gib']:.1f} GiB")
    return "\n".join(lines)


def _line(name: str, figures: Mapping[str, Any], change: str, corrections: str) -> str:
    found = figures.get("oracle", {}).get("slot_f1")
    f1 = f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]" if found else "1.000"
    varied = figures["diversity"]
    distinct_1, distinct_3 = varied["distinct_1"]["value"], varied["distinct_3"]["value"]
    return f"{name:14} {f1:>22} {change:>26} {distinct_1:>11.3f} {distinct_3:>11.3f} {corrections:>12}"


def verdict(summary: Mapping[str, Any]) -> str:
    """One sentence: what came of the rounds, against the base model and the best that could be had."""
    base, last = summary["base"], summary["rounds"][-1]
    gain, right = last["gain"], f"{_f1(last):.0%} of the facts right"
    people = sum(said["num_corrections"] for said in summary["rounds"])
    interval = f"95 % interval of the gain {gain['low']:+.1%} to {gain['high']:+.1%}"
    if gain["low"] <= 0:
        return f"After {_rounds(summary)} the model has {right}, the base model {_f1(base):.0%}: no gain ({interval})."
    best = f"; trained on the truth it would have {_f1(summary['ceiling']):.0%}" if "ceiling" in summary else ""
    return (
        f"After {_rounds(summary)} and {people} corrected texts the model has {right}, "
        f"where the base model had {_f1(base):.0%} ({interval}){best}."
    )


def where(summary: Mapping[str, Any], out: Path, folder: Path, token: str) -> list[str]:
    """Where to look on: report, review page (by the token of an invitation) and MLflow, with the command of each.

    ``out`` is what a command names the workspace by, ``folder`` where it lies on this host.
    """
    last, config = len(summary["rounds"]), f"--config {shlex.quote(str(out))}"
    report = (folder / "reports" / f"round={last:03d}" / "report.html").absolute().as_uri()
    return [
        f"Report:       {report}",
        f"Review page:  http://127.0.0.1:8470/invite/{token} (after: flywheel review {config})",
        f"MLflow:       http://127.0.0.1:5000 (after: flywheel dashboard {config})",
    ]


def _f1(figures: Mapping[str, Any]) -> float:
    return float(figures["oracle"]["slot_f1"]["value"])


def _rounds(summary: Mapping[str, Any]) -> str:
    count = len(summary["rounds"])
    return f"{count} rounds" if count != 1 else "1 round"
