"""The report: one self-contained HTML page and the same figures as JSON, beside the resolved config."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from flywheel.core.errors import MediaError
from flywheel.core.types import CAPTION, MEASURE
from flywheel.media.frames import thumbnail
from flywheel.rounds.context import RoundContext
from flywheel.rounds.plots import measures

_NUM_CLIPS = 12

_STYLE = """
:root{color-scheme:light dark;--fg:#1b1f24;--bg:#fff;--dim:#5a6472;--line:#d5dae1;--accent:#0b62c4}
@media(prefers-color-scheme:dark){:root{--fg:#e6e9ee;--bg:#14171b;--dim:#9aa5b3;--line:#343b45;--accent:#6cb2ff}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--fg);background:var(--bg);max-width:70rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}small,.dim{color:var(--dim)}.plots{display:flex;flex-wrap:wrap;gap:1rem}
figure{margin:0;border:1px solid var(--line);border-radius:6px;padding:.6rem}figcaption{color:var(--dim)}img{border-radius:4px;max-width:100%}
article{border-top:1px solid var(--line);padding:1rem 0;display:grid;grid-template-columns:minmax(16rem,22rem) 1fr;gap:1rem}
@media(max-width:45rem){article{grid-template-columns:1fr}}dl{margin:0;display:grid;grid-template-columns:max-content 1fr;gap:.2rem .8rem}dt{color:var(--dim)}dd{margin:0}
"""


def write_report(context: RoundContext, rounds: Sequence[Mapping[str, Any]], round: int) -> Path:
    """Write ``report.html``, ``report.json`` and ``config.yaml`` into the round's report folder; returns the folder."""
    folder = context.workspace.report_folder(round)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "report.json", json.dumps(rounds[-1] if rounds else {}, indent=2, default=str))
    _write(folder / "config.yaml", yaml.safe_dump(context.config.model_dump(mode="json"), sort_keys=False))
    _write(folder / "report.html", _page(context, rounds, round))
    return folder


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _page(context: RoundContext, rounds: Sequence[Mapping[str, Any]], round: int) -> str:
    name = html.escape(context.workspace.root.name)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{name}: round {round}</title><style>{_STYLE}</style><h1>{name}: round {round}</h1>"
        f"{_summary(context)}<h2>Over the rounds</h2>{_plots(rounds)}{_figures_table(rounds)}"
        f"<h2>Clips</h2>{_clips(context)}<h2>Rejected</h2>{_rejected(context)}<h2>Time</h2>{_times(rounds)}</html>\n"
    )


def _summary(context: RoundContext) -> str:
    clips = context.workspace.clips()
    hours = float((clips["end_s"] - clips["start_s"]).sum()) / 3600
    splits = ", ".join(f"{n} {s}" for s, n in clips.group_by("split").len().sort("split").iter_rows())
    champion = context.workspace.champion()
    return (
        f"<p>{clips.height} clips ({splits}), {hours:.2f} h. {context.workspace.corrections().height} corrections. "
        f"Champion: {'the base model' if champion == 0 else f'round {champion}'}.</p>"
    )


def _plots(rounds: Sequence[Mapping[str, Any]]) -> str:
    wanted = (
        "oracle/slot_f1",
        "quality/anchor_token_f1",
        "quality/agreement",
        "diversity/distinct_1",
        "diversity/distinct_3",
        "quantity/tokens",
        "watch/vendi",
        "watch/self_bleu",
    )
    found = measures(rounds)
    return "<div class=plots>" + "".join(_plot(n, found[n]) for n in wanted if n in found) + "</div>"


def _plot(name: str, points: Sequence[tuple[int, Mapping[str, float]]]) -> str:
    width, height, left, bottom = 250, 130, 44, 20
    low = min(p["low"] for _, p in points)
    high = max(p["high"] for _, p in points)
    room = (high - low) * 0.1 or abs(high) * 0.1 or 1.0
    low, high = low - room, high + room
    last = max(r for r, _ in points) or 1

    def x(round: int) -> float:
        return left + 10 + (width - left - 20) * round / last

    def y(value: float) -> float:
        return (height - bottom) - (height - bottom - 6) * (value - low) / (high - low)

    line = " ".join(f"{x(r):.1f},{y(p['value']):.1f}" for r, p in points)
    marks = "".join(
        f"<line x1={x(r):.1f} x2={x(r):.1f} y1={y(p['low']):.1f} y2={y(p['high']):.1f} stroke='var(--accent)' stroke-opacity=.5 stroke-width=3 />"
        f"<circle cx={x(r):.1f} cy={y(p['value']):.1f} r=3.5 fill='var(--accent)'><title>round {r}: {p['value']:.3f} [{p['low']:.3f}, {p['high']:.3f}]</title></circle>"
        f"<text x={x(r):.1f} y={height - 5} font-size=11 text-anchor=middle fill='var(--dim)'>{r}</text>"
        for r, p in points
    )
    scale = "".join(
        f"<text x={left - 4} y={y(v) + 4:.1f} font-size=11 text-anchor=end fill='var(--dim)'>{_short(v)}</text>"
        for v in (low + room, high - room)
    )
    return (
        f"<figure><svg width={width} height={height} role=img aria-label='{html.escape(name)} over rounds'>{scale}"
        f"<polyline points='{line}' fill=none stroke='var(--accent)' />{marks}</svg><figcaption>{html.escape(name)}</figcaption></figure>"
    )


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _figures_table(rounds: Sequence[Mapping[str, Any]]) -> str:
    head = "".join(f"<th class=n>{'base' if s['round'] == 0 else 'round ' + str(s['round'])}</th>" for s in rounds)
    rows = []
    for name, points in measures(rounds).items():
        found = dict(points)
        cells = "".join(f"<td class=n>{_cell(found.get(s['round']))}</td>" for s in rounds)
        rows.append(f"<tr><td>{html.escape(name)}</td>{cells}</tr>")
    verdicts = "".join(f"<td>{html.escape(s['details'].get('gate', {}).get('reason', ''))}</td>" for s in rounds)
    counts = "".join(f"<td class=n>{s['num_corrections']}</td>" for s in rounds)
    return f"<table><tr><th>figure</th>{head}</tr>{''.join(rows)}<tr><td>corrections</td>{counts}</tr><tr><td>gate</td>{verdicts}</tr></table>"


def _cell(estimate: Mapping[str, float] | None) -> str:
    if estimate is None:
        return ""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    return f"{value:.4g}" if low == high else f"{value:.3f}<br><small>{low:.3f} to {high:.3f}</small>"


def _clips(context: RoundContext) -> str:
    """Twelve clips, the same in every report: test clips first, since their texts are what is measured."""
    clips = sorted(context.clips.values(), key=lambda c: (c.split != "test", c.id))[:_NUM_CLIPS]
    ids = [c.id for c in clips]
    said = context.workspace.annotations().filter(pl.col("clip_id").is_in(ids)).sort("round")
    parts = []
    for clip in clips:
        rows = [
            ("transcript", clip.transcript or "(none)"),
            ("sounds", clip.sounds or ("(silence)" if clip.has_audio else "(no sound)")),
        ]
        for row in said.filter(pl.col("clip_id") == clip.id).iter_rows(named=True):
            if row["purpose"] == MEASURE or (row["kind"] == CAPTION and row["source"] == "model"):
                who = (
                    "base"
                    if row["round"] == 0
                    else f"M{row['round']}"
                    if row["purpose"] == MEASURE
                    else f"for round {row['round']}"
                )
                rows.append((who, row["text"]))
        words = "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in rows)
        title = (
            f"{html.escape(Path(clip.uri).name)} <small>{clip.start_s:.1f} to {clip.end_s:.1f} s, {clip.split}</small>"
        )
        parts.append(f"<article><div>{_picture(context, clip.id)}<br>{title}</div><dl>{words}</dl></article>")
    return "".join(parts)


def _picture(context: RoundContext, clip_id: str) -> str:
    from PIL import Image

    try:
        strip = thumbnail(context.picture(clip_id).frames_THWC)
    except MediaError as error:
        return f"<p class=dim>no picture: {html.escape(str(error))}</p>"
    buffer = io.BytesIO()
    Image.fromarray(strip).save(buffer, "JPEG", quality=80)
    return f"<img alt='first, middle and last frame' src='data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}'>"


def _rejected(context: RoundContext) -> str:
    rejected = context.workspace.rejected(open_only=True)
    if rejected.is_empty():
        return "<p>Nothing.</p>"
    counts = rejected.group_by("stage", "reason").len().sort("len", descending=True)
    head = "".join(
        f"<tr><td>{html.escape(s)}</td><td>{html.escape(r)}</td><td class=n>{n}</td></tr>"
        for s, r, n in counts.iter_rows()
    )
    rows = "".join(
        f"<tr><td>{html.escape(r['stage'])}</td><td>{html.escape(r['reason'])}</td><td>{html.escape(Path(r['uri']).name)}</td></tr>"
        for r in rejected.head(50).iter_rows(named=True)
    )
    return f"<table><tr><th>stage</th><th>reason</th><th class=n>rows</th></tr>{head}</table><table><tr><th>stage</th><th>reason</th><th>file</th></tr>{rows}</table>"


def _times(rounds: Sequence[Mapping[str, Any]]) -> str:
    stages = list(dict.fromkeys(stage for said in rounds for stage in said["stages_s"]))
    head = "".join(f"<th class=n>round {said['round']}</th>" for said in rounds)
    rows = "".join(
        f"<tr><td>{stage}</td>"
        + "".join(f"<td class=n>{said['stages_s'].get(stage, 0):.1f} s</td>" for said in rounds)
        + "</tr>"
        for stage in stages
    )
    return f"<table><tr><th>stage</th>{head}</tr>{rows}</table>"
