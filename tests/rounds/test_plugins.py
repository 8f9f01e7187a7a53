"""What another package adds by one file: a stage with its place and its section, and an engine.
And those that are broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flywheel.core.errors import UserError
from flywheel.ingest import ingest
from flywheel.rounds import RoundContext, run_round
from flywheel.rounds.conductor import result_of
from flywheel.rounds.progress import current_stage, order_of
from flywheel.store import Workspace
from tests.plugins import installed

Make = Callable[..., Workspace]

SMALL = (
    "models.main.engine=fake",
    "pretrain.num_steps=0",
    "finetune.num_steps=0",
    "evaluate.agreement_pairs=0",
    "evaluate.resamples=100",
    "evaluate.diversity_tokens=20",
)
STAGE = """
from dataclasses import dataclass
from flywheel.core.config import Section
from flywheel.rounds import Stage

class Settings(Section):
    least: int = 1

@dataclass(frozen=True, kw_only=True)
class Curated:
    kept: int = 0

def run(context, round):
    from flywheel.rounds.stages import settings_of
    least = settings_of(context, "weigh").least
    return Curated(kept=sum(len(clip.transcript) >= least for clip in context.split("train")))

STAGE = Stage(run=run, result=Curated, figures=lambda r: {"weigh/kept": float(r.kept)}, settings=Settings)
"""
ENGINE = """
from annotators import Result

class Echo:
    def generate(self, requests, sampling):
        for request in requests:
            text = f"A clip of {len(request.clip.frames_THWC)} frames."
            yield Result(
                key=request.key, text=text, token_ids=(1,), logprobs=(-0.1,), tokens_in=1, finish="stop", seconds=0.0
            )

    def parts(self):
        return [self]

    def close(self):
        pass

def echo():
    return Echo()
"""


def filled(make_workspace: Make, corpus: Path, *overrides: str) -> Workspace:
    w = make_workspace(*SMALL, *overrides)
    with w.lock():
        if w.clips().is_empty():
            ingest(w, [str(corpus / "corpus")])
    return w


@pytest.mark.slow
def test_a_stage_is_a_file_its_name_and_a_section(make_workspace: Make, corpus: Path, tmp_path: Path) -> None:
    order = "rounds.stages=[annotate, weigh, review, pretrain, finetune, evaluate, gate]"
    with installed(tmp_path, "acme_curation", STAGE, {"flywheel.stages:weigh": "acme_curation:STAGE"}):
        context = RoundContext(filled(make_workspace, corpus, order, "weigh.least=1"))
        w = context.workspace
        assert run_round(context, until="weigh")["state"] == "stopped"
        assert current_stage(context.workspace, 1) == "review"
        assert run_round(context)["state"] == "done"
        kept = sum(bool(clip.transcript) for clip in context.split("train"))
        assert w.stage(1, "weigh") == ("done", {"kept": kept})
        assert result_of(w, 1, "weigh").kept == kept
        assert order_of(context.workspace, 1)[1] == "weigh"
        with pytest.raises(UserError, match=r"weigh\.leest: extra inputs are not permitted"):
            run_round(RoundContext(filled(make_workspace, corpus, order, "weigh.leest=1")))


@pytest.mark.slow
def test_a_stage_of_later_is_not_pending_behind_an_old_round(
    make_workspace: Make, corpus: Path, tmp_path: Path
) -> None:
    """A round keeps the order that it began with; the next one has the new stage."""
    context = RoundContext(filled(make_workspace, corpus))
    run_round(context, until="review")
    order = "rounds.stages=[annotate, weigh, review, pretrain, finetune, evaluate, gate]"
    with installed(tmp_path, "acme_curation", STAGE, {"flywheel.stages:weigh": "acme_curation:STAGE"}):
        context = RoundContext(filled(make_workspace, corpus, order))
        assert current_stage(context.workspace, 1) == "pretrain"
        assert run_round(context)["state"] == "done"
        assert context.workspace.stage(1, "weigh")[0] == "pending"
        run_round(context, until="weigh")
        assert context.workspace.stage(2, "weigh")[0] == "done"


@pytest.mark.slow
def test_an_engine_is_a_file(make_workspace: Make, corpus: Path, tmp_path: Path) -> None:
    with installed(tmp_path, "acme_echo", ENGINE, {"flywheel.annotators.engines:echo": "acme_echo:echo"}):
        context = RoundContext(filled(make_workspace, corpus, "models.main.engine=echo"))
        assert run_round(context)["state"] == "done"
        assert set(context.workspace.annotations(round=1, kind="caption")["text"]) == {"A clip of 8 frames."}
        options = ("models.main.engine=echo", "models.main.options.loud=true", "annotate.max_new_tokens=9")
        bad = filled(make_workspace, corpus, *options)
        context = RoundContext(bad)
        with bad.lock(), pytest.raises(UserError, match=r"models\.main\.options\.loud: engine 'echo' takes no such"):
            context.ask(context.split("train"), by=0, round=7)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["models.main.engine=echoo"], r"models\.main\.engine: engine 'echoo': unknown"),
        (["models.judge.engine=fake"], r"models\.judge: no prompt in annotate\.prompt or annotate\.also asks for it"),
        (["annotate.hints=[weather]"], r"annotate\.hints: 'weather' is unknown\. There are transcript"),
        (["annotate.select=best"], r"annotate\.select: 'best' is unknown\. There are logprob, mbr"),
        (["review.order=[luck]"], r"review\.order: .*'luck'"),
        (["rounds.stages=[annotate, kurate, evaluate, gate]"], r"stage 'kurate': unknown"),
    ],
)
def test_names_that_there_are_not(make_workspace: Make, corpus: Path, overrides: list[str], message: str) -> None:
    w = filled(make_workspace, corpus)
    with pytest.raises(UserError, match=message):
        RoundContext(Workspace.open(w.root, [*SMALL, "tracking.enabled=false", *overrides]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import sys; sys.exit(7)", r"package 'acme_echo' .* can't be imported \(SystemExit: 7\)"),
        ("echo = 3", r"package 'acme_echo' .* brings no function but a int"),
    ],
)
def test_a_broken_engine_is_one_line_before_a_round_begins(
    make_workspace: Make, corpus: Path, tmp_path: Path, source: str, message: str
) -> None:
    with installed(tmp_path, "acme_echo", source, {"flywheel.annotators.engines:echo": "acme_echo:echo"}):
        context = RoundContext(filled(make_workspace, corpus, "models.main.engine=echo"))
        with pytest.raises(UserError, match=message):
            run_round(context)
        assert context.workspace.rounds() == []


@pytest.mark.slow
def test_a_prompt_that_its_model_cannot_take_is_one_line_before_a_round_begins(
    make_workspace: Make, corpus: Path, tmp_path: Path
) -> None:
    prompt = tmp_path / "heard.yaml"
    prompt.write_text(
        "{name: heard, version: 1, kind: tags, hints: {}, instruction: Say what is heard., inputs: [sound]}"
    )
    context = RoundContext(
        filled(make_workspace, corpus, "models.main.engine=transformers", f"annotate.also=[{prompt}]")
    )
    with pytest.raises(UserError, match=r"prompt 'heard' \(models.main\): .* takes no audio"):
        run_round(context)
    assert context.workspace.rounds() == []


@pytest.mark.slow
def test_broken_and_contradicting_plugins(make_workspace: Make, corpus: Path, tmp_path: Path) -> None:
    point = {"flywheel.annotators.engines:echo": "acme_echo:echo"}
    with installed(tmp_path, "acme_echo", "import not_there", point):
        context = RoundContext(filled(make_workspace, corpus, "models.main.engine=echo"))
        with context.workspace.lock(), pytest.raises(UserError, match=r"package 'acme_echo' .* can't be imported"):
            run_round(context)
        with (
            installed(tmp_path, "other_echo", ENGINE, {"flywheel.annotators.engines:echo": "other_echo:echo"}),
            pytest.raises(UserError, match=r"'echo': package '.*' .* and package '.*' .* both bring one"),
        ):
            RoundContext(filled(make_workspace, corpus, "models.main.engine=echo"))
    with (
        installed(tmp_path, "acme_fake", ENGINE, {"flywheel.annotators.engines:fake": "acme_fake:echo"}),
        pytest.raises(UserError, match=r"'fake': this package and package 'acme_fake'"),
    ):
        RoundContext(filled(make_workspace, corpus))
