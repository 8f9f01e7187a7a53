"""The table of figures, the places that read it, and figures of other packages."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import polars as pl
import pytest

from flywheel.core.errors import UserError
from flywheel.core.types import Clip, Estimate, RoundReport
from flywheel.metrics.collapse import Rule
from flywheel.rounds import RoundContext, champion, figures, run_round
from flywheel.rounds import report as report_page
from flywheel.rounds.figures import GROUPS, TABLE, Figure, charts, figure_of, series, watch_rules, watch_words
from flywheel.rounds.plots import draw, svg, write_plots
from flywheel.rounds.publish import flatten, report_of
from flywheel.rounds.report import texts_of, write_report
from flywheel.rounds.watch import Alarm, alarms_of, rounds_without_promotion
from flywheel.store import Workspace
from flywheel.store._mlflow import _view
from tests.plugins import installed
from tests.rounds.test_rounds import context_of

Make = Callable[..., Workspace]


def estimate(value: float, half: float = 0.1) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half, n=9)


def reports() -> list[RoundReport]:
    """Three rounds with a figure of each kind, one that the table does not know, and one that could not be measured."""
    return [
        RoundReport(
            round=round,
            num_corrections=round,
            quantity={"tokens": 100.0 + round},
            quality={"anchor_token_f1": estimate(0.5), "new": estimate(round), "nothing": estimate(float("nan"))},
            watch={"vendi": estimate(0.4)},
            details={"gate": {"verdict": "promoted"}} if round else {},
        )
        for round in range(3)
    ]


def test_the_table_is_in_order() -> None:
    names = [figure.name for figure in TABLE]
    assert len(set(names)) == len(names)
    assert {figure.name.split("/")[0] for figure in TABLE if figure.headline} <= {*GROUPS, "num_corrections"}
    assert {f"watch/{name}" for name in watch_rules()} == {figure.name for figure in TABLE if figure.watch}
    assert all(figure.measure is None for figure in TABLE)


@pytest.mark.slow
def test_an_unknown_figure_is_an_error_nowhere(tmp_path: Path) -> None:
    rounds = reports()
    assert figure_of("quality/new") == Figure(name="quality/new", label="quality/new")
    assert figure_of("seconds/lunch").title == "wall time, s", "a pattern"
    assert figure_of("annotate/busy_share").good == "up", "the exact name goes before the pattern"
    flat = flatten(rounds[2])
    assert {k: v for k, v in flat.items() if "new" in k or "nothing" in k} == {
        "quality/new": 2.0,
        "quality/new_low": 1.9,
        "quality/new_high": 2.1,
    }
    assert flat["num_corrections"] == 2.0
    assert [round for round, _ in series(rounds)["quality/new"]] == [0, 1, 2]
    assert "quality/nothing" not in series(rounds)
    assert write_plots(rounds, tmp_path / "p" / "rounds.png").read_bytes()[:4] == b"\x89PNG"
    assert watch_words("new") == "new changed for the worse"


def test_a_new_figure_of_the_watch_needs_one_line_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured alone it gives no alarm; with a line it does, in the words that stand there or in plain ones."""
    rounds = [{"new": estimate(v, 0.01), "length": estimate(9.0, 0.01)} for v in (1.0, 1.0, 1.0, 1.0, 2.0)]
    assert alarms_of(rounds) == []
    row = Figure(name="watch/new", label="new", good="down", watch=figures.Watch(words="more of the new"))
    monkeypatch.setattr(figures, "TABLE", (*TABLE, row))
    assert watch_rules()["new"] == Rule(bad="more")
    (alarm,) = alarms_of(rounds)
    assert isinstance(alarm, Alarm)
    assert (alarm.figure, alarm.value, alarm.best) == ("new", 2.0, 1.0)
    assert alarm.reason == f"more of the new (new 2 after 1, {alarm.sigmas:.0f} sigma)"


def test_alarms_come_strongest_first() -> None:
    steps = ((1.0, 1.0), (1.0, 1.0), (1.0, 1.0), (1.0, 1.0), (0.5, 0.8))
    rounds = [{"vendi": estimate(b, 0.01), "distinct_1": estimate(a, 0.01)} for a, b in steps]
    assert [a.figure for a in alarms_of(rounds)] == ["distinct_1", "vendi"]


@pytest.mark.slow
def test_all_charts_show_the_same_figures() -> None:
    rounds = reports()
    sections = charts(series(rounds))
    assert {name: [f.name for f in section] for name, section in sections.items()} == {
        "Quality": ["quality/anchor_token_f1"],
        "Diversity": ["watch/vendi"],
        "Quantity and cost": ["quantity/tokens", "num_corrections"],
    }
    titles = [figure.title for section in sections.values() for figure in section]
    assert [axes.get_title() for axes in draw(rounds).axes] == titles
    picture = svg(rounds)
    assert all(f">{title}</text>" in picture for title in titles), "letters, no outlines"
    assert picture.startswith("<svg")
    assert "http" not in picture.replace("http://www.w3.org", "")
    assert picture == svg(rounds), "the same report, the same bytes"
    assert svg([RoundReport(round=0, num_corrections=0)]).count('<g id="axes_') == 1, "corrections alone"


def test_mlflows_page_fits_its_tag_with_every_chart() -> None:
    sections = {name: [f.name for f in rows] for name, rows in charts(figure.name for figure in TABLE).items()}
    assert len(_view("a wheel of a long name", sections)) < 5000


def test_a_report_is_typed_and_its_json_plain() -> None:
    report = reports()[1]
    plain = json.loads(json.dumps(report.to_json()))
    assert list(plain) == [
        "round",
        "num_corrections",
        "quantity",
        "diversity",
        "quality",
        "oracle",
        "stages_s",
        "details",
        "watch",
    ]
    assert plain["watch"]["vendi"] == {"value": 0.4, "low": pytest.approx(0.3), "high": 0.5, "n": 9}
    with_extra = RoundReport(round=1, num_corrections=0, extra={"x": estimate(1.0)})
    assert with_extra.to_json()["extra"]["x"]["n"] == 9


@pytest.mark.slow
def test_the_page_reads_the_texts_of_the_shown_clips_alone(
    make_workspace: Make, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = context_of(make_workspace, corpus)
    run_round(context)
    w = context.workspace
    shown = sorted(context.clips)[:3]
    everything = w.annotations().filter(pl.col("clip_id").is_in(shown))
    assert everything.height >= 6
    assert texts_of(w, shown).select(everything.columns).equals(everything), "all of them, in the order of writing"
    assert texts_of(w, ["gone"]).is_empty()
    rounds = [report_of(context, r) for r in (0, 1)]
    monkeypatch.setattr(type(w), "corrections", _must_not_be_read)
    monkeypatch.setattr(type(w), "annotations", _must_not_be_read)
    page = (write_report(context, rounds) / "report.html").read_text()
    test = next(c for c in sorted(context.split("test"), key=lambda c: c.id))
    texts = texts_of(w, [test.id])
    for row in texts.filter(pl.col("purpose") == "measure").iter_rows(named=True):
        said = re.findall(rf"<dt>{'M1' if row['round'] else 'base'}</dt><dd dir=auto>(.*?)</dd>", page)
        assert row["text"] in [re.sub("<del>.*?</del>|</?ins>", "", text) for text in said]
    assert "0 corrections. Champion: the base model." in " ".join(page.split())
    assert page.count("<svg") == 1


def _must_not_be_read(*_: object, **__: object) -> None:
    raise AssertionError("the whole table was read")


@pytest.mark.slow
def test_rejects_are_counted_and_the_first_named(make_workspace: Make) -> None:
    w = make_workspace()
    for i in range(60):
        w.add_rejected(round=0, stage="ingest", uri=f"/x/{i}.mp4", clip_id="", reason="bad" if i % 3 else "worse")
    view = report_page._rejected(w)
    assert list(view.counts) == [("ingest", "bad", 40), ("ingest", "worse", 20)]
    assert len(view.rows) == 50


@pytest.mark.slow
def test_rounds_without_promotion(make_workspace: Make, corpus: Path) -> None:
    context = context_of(make_workspace, corpus)
    for round, verdict in ((1, "promoted"), (2, "refused"), (3, "undecided")):
        context.workspace.set_stage(round, "gate", "done", {"verdict": verdict})
    assert [rounds_without_promotion(context, r) for r in (0, 1, 2, 3, 4)] == [0, 0, 1, 2, 0]


# Other packages' figures.

BREVITY = """
from flywheel.core.types import Estimate
from flywheel.rounds.figures import Figure

def measure(texts, clips):
    assert len(texts) == len(clips) and all(clip.split == "test" for clip in clips)
    counts = [len(text.split()) for text in texts]
    mean = sum(counts) / len(counts)
    return Estimate(value=mean, low=min(counts), high=max(counts), n=len(counts))

FIGURE = Figure(label="words per text", unit="words", good="down", headline="Quantity and cost", measure=measure)
"""


@pytest.fixture
def install(tmp_path: Path) -> Iterator[Callable[[str, str, str], Path]]:
    """Installs a package of one file with an entry point: (entry's name, module's name, source)."""
    with ExitStack() as packages:
        packages.callback(figures.plugins.cache_clear)

        def put(entry: str, module: str, source: str) -> Path:
            point = {f"flywheel.figures:{entry}": f"{module}:FIGURE"}
            site = packages.enter_context(installed(tmp_path, module, source, point))
            figures.plugins.cache_clear()
            return site

        yield put


@pytest.mark.slow
def test_another_packages_file_is_measured_recorded_and_shown(
    make_workspace: Make, corpus: Path, install: Callable[[str, str, str], Path]
) -> None:
    install("brevity", "brevity_of_texts", BREVITY)
    context = context_of(make_workspace, corpus)
    assert run_round(context)["state"] == "done"
    w = context.workspace
    test = set(w.clips("test")["id"])
    texts = [r["text"] for r in w.annotations(round=1, purpose="measure").to_dicts() if r["clip_id"] in test]
    mean = sum(len(t.split()) for t in texts) / len(texts)
    report = report_of(context, 1)
    assert report.extra["brevity"].value == pytest.approx(mean)
    assert w.stage(1, "evaluate")[1]["extra"]["brevity"]["n"] == len(texts)
    folder = w.report_folder(1)
    assert json.loads((folder / "report.json").read_text())["extra"]["brevity"]["value"] == pytest.approx(mean)
    assert {"extra/brevity", "extra/brevity_low", "extra/brevity_high"} <= set(flatten(report))
    page = (folder / "report.html").read_text()
    assert ">words per text, words</text>" in page, "charted"
    assert "<td>words per text, words <small>less is better</small><br><small>extra/brevity</small></td>" in page
    assert (folder / "rounds.png").exists()
    run_round(RoundContext(w))
    assert champion.compare(context, 1, 2)["figures"]["extra/brevity"][0]["value"] == pytest.approx(mean)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_another_packages_figure_reaches_mlflow(
    make_workspace: Make, corpus: Path, install: Callable[[str, str, str], Path]
) -> None:
    import mlflow

    install("brevity", "brevity_in_mlflow", BREVITY)
    context = context_of(make_workspace, corpus, "tracking.enabled=true")
    run_round(context)
    w = context.workspace
    client = mlflow.MlflowClient(f"sqlite:///{w.root / 'mlflow.db'}")
    logged = client.get_run(w.meta("mlflow_round_1")).data.metrics
    assert logged["extra/brevity"] == pytest.approx(report_of(context, 1).extra["brevity"].value)
    history = client.get_metric_history(w.meta("mlflow_parent"), "extra/brevity")
    assert [m.step for m in history] == [0, 1]


def test_a_figure_that_fails_costs_no_round(
    install: Callable[[str, str, str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    install(
        "brevity",
        "brevity_fails",
        BREVITY + "\ndef measure(texts, clips):\n    raise KeyError('at night')\n"
        "from dataclasses import replace\nFIGURE = replace(FIGURE, measure=measure)\n",
    )
    install(
        "count",
        "count_of_texts",
        BREVITY.replace("FIGURE = Figure(", "FIGURE = Figure(name='other', ").replace(
            "measure=measure", "measure=lambda texts, clips: len(texts)"
        ),
    )
    assert figures.extra(["a", "b"], clips(2)) == {"count": Estimate(value=2.0, low=2.0, high=2.0, n=2)}
    assert capsys.readouterr().err == ("figure 'brevity': not measured (KeyError: 'at night'). Fix its package.\n")
    assert figures.extra([], []) == {}
    assert figure_of("extra/count").label == "words per text", "called by its entry, whatever it calls itself"


def clips(count: int) -> Sequence[Clip]:
    return [
        Clip(
            id=str(i),
            uri="",
            content_hash="",
            start_s=0,
            end_s=1,
            fps=1,
            width=1,
            height=1,
            has_audio=False,
            transcript="",
            sounds="",
            split="test",
        )
        for i in range(count)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "import nowhere",
            "figure 'brevity': package 'broken_figure_0' .*can't be imported.*nowhere.*Fix or uninstall",
        ),
        ("FIGURE = 3", "figure 'brevity': its entry point names no Figure with a measure"),
        (BREVITY.replace(", measure=measure", ""), "names no Figure with a measure"),
    ],
)
def test_a_broken_package_is_one_line_before_a_round_begins(
    source: str,
    message: str,
    make_workspace: Make,
    corpus: Path,
    install: Callable[[str, str, str], Path],
    request: pytest.FixtureRequest,
) -> None:
    context = context_of(make_workspace, corpus)
    number = request.node.callspec.indices["source"]
    install("brevity", f"broken_figure_{number}", source)
    with pytest.raises(UserError, match=message) as raised:
        run_round(context)
    assert "\n" not in str(raised.value)
    assert context.workspace.annotations(round=1).is_empty()


def test_two_packages_with_one_figure_are_named(install: Callable[[str, str, str], Path]) -> None:
    install("brevity", "brevity_one", BREVITY)
    install("brevity", "brevity_two", BREVITY)
    with pytest.raises(UserError, match=r"'brevity_\w+' .* and .*'brevity_\w+' .* both bring one"):
        figures.plugins()
