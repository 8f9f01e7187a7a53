"""Videos told in words: lies and repeats are taken out with a record, and nothing is asked twice after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flywheel.core.types import Annotation, content_id
from flywheel.playground.av.payloads import heard_payload, seen_payload
from flywheel.playground.timeline import _scene, long_video
from flywheel.rejects import open_rejects, retried
from flywheel.rounds import RoundContext
from flywheel.rounds.narration import Narrated, films_of, narrate
from flywheel.rounds.narration.edits import edited, replayed
from flywheel.store import Workspace
from flywheel.store.view import clip_of
from tests.plugins import Command, installed

Make = Callable[..., Workspace]
#: Shots of a film, and those that show what the shot before them shows.
SHOTS, DOUBLED = 16, (3, 8, 9, 14)
#: Things of the playground as its describers call them; one that a shot does not show is a lie about it.
THINGS = ("beacon", "pot", "dial", "mallet", "blower", "motor", "sphere", "gong", "flare", "glider")
#: The rules of the bundled narrator, lying once in each text where LIE is set, its replies noted in a file; it ends its
#: process by SIGKILL when it was asked KILL times.
ENGINE = f"""
    import json, os, signal
    from dataclasses import replace
    from pathlib import Path
    from annotators.engines.grammar import grammar

    class Engine:
        def generate(self, requests, sampling):
            for request in requests:
                log = Path(os.environ["ASKED"])
                asked = log.read_text().split() if log.exists() else []
                if len(asked) == int(os.environ.get("KILL", -1)):
                    os.kill(os.getpid(), signal.SIGKILL)
                result = next(iter(grammar().generate([request], sampling)))
                reply = json.loads(result.text)
                if "sentences" in reply and os.environ.get("LIE"):
                    lie = next(thing for thing in {THINGS!r} if thing not in request.prompt)
                    place = len(asked) % (len(reply["sentences"]) + 1)
                    reply["sentences"].insert(place, {{"text": f"a large {{lie}} is there.", "by": "seen"}})
                log.write_text(" ".join([*asked, request.key]))
                yield replace(result, text="I would rather not." if os.environ.get("MUTE") else json.dumps(reply))

        def parts(self):
            return [self]

        def close(self):
            pass

    def noted(**_):
        return Engine()

    noted.needs_model = False
"""
POINTS = {"flywheel.annotators.engines:noted": "noted_rules:noted"}
SETTINGS = (
    "models.eyes.engine=fake",
    "models.ears.engine=fake",
    "models.narrator.engine=noted",
)


def filmed(workspace: Workspace, seed: int, *, gap: bool = False) -> list[str]:
    """A video of SHOTS shots, some doubled, as clips with what eyes and ears say of each; returns their ids."""
    one = clip_of(workspace.clips("train").row(0, named=True))
    video = long_video(seed, 0, SHOTS // 4)
    clips, texts = [], list[Annotation]()
    for number, shot in enumerate(video.shots):
        shown = number
        while shown in DOUBLED:
            shown -= 1
        scene = _scene(video.seed, shown, video.shots[shown])
        clip_id, late = f"film{seed}-{number:02}", 0.5 if gap and number > 1 else 0.0
        spans = {"start_s": shot.start_s + late, "end_s": shot.end_s + late}
        clips.append(replace(one, id=clip_id, content_hash=f"film{seed}", uri=f"film{seed}.mp4", **spans))
        for kind, payload in (("seen", seen_payload(scene, "base")), ("heard", heard_payload(scene, "base"))):
            text = " ".join(event["text"] for event in payload["events"]) or "Nothing."
            names: dict[str, Any] = {"clip_id": clip_id, "generation_id": "", "source": "model", "mean_logprob": -1.0}
            key = content_id(1, kind, clip_id)
            texts.append(Annotation(id=key, round=1, kind=kind, text=text, payload=json.dumps(payload), **names))
    workspace.add_clips(clips)
    workspace.add_annotations(texts, 1)
    return [clip.id for clip in clips]


@pytest.fixture
def telling(ingested: Workspace, make_workspace: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Tells the videos of the workspace whose clips are named."""
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))

    def tell(named: list[str], *overrides: str, retry_failed: bool = False) -> Narrated:
        context = RoundContext(make_workspace(*SETTINGS, *overrides))
        films, _ = films_of(context.to_curate(), named)
        with context.workspace.lock():
            return narrate(context, films, 1, retry_failed=retry_failed)

    with installed(tmp_path, "noted_rules", ENGINE, POINTS):
        yield tell


def filmed_ids(workspace: Workspace) -> list[str]:
    """The clips of films, in the order of time."""
    return sorted(i for i in workspace.clips()["id"] if i.startswith("film"))


@pytest.mark.slow
def test_lies_and_repeats_go_and_what_is_true_and_new_stays(
    ingested: Workspace, telling: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """audio_visual.md §3.8: >= 90 % of planted lies and doubled shots out, <= 5 % of true facts, others kept."""
    monkeypatch.setenv("LIE", "1")
    films = telling([filmed(ingested, seed)[0] for seed in (3, 4)]).films
    lies = true = taken = 0
    for film in films:
        assert [shot["number"] for shot in film["shots"]] == list(range(1, SHOTS + 1))
        assert film["missing"] == []
        for shot in film["shots"]:
            fused, log = shot["fused"], shot["consistency"]["edits"]
            false = [edit["quote"] for edit in log if "is there" in edit["quote"]]
            lies += len(false)
            true += len(fused["sentences"]) - 1
            taken += len(log) - len(false)
            for edit in log:
                assert fused["text"][edit["start"] : edit["end"]] == edit["quote"]
                assert edit["reason"].startswith("nobody saw or heard seen.")
            checked = replayed(fused["text"], log)
            if shot["redundancy"]:
                assert replayed(checked, shot["redundancy"]["edits"]) == shot["text"], "the log gives the text anew"
        merged = {shot["number"] - 1 for shot in film["shots"] if shot["same_as"] is not None}
        assert merged == set(DOUBLED)
        assert all(shot["text"] for n, shot in enumerate(film["shots"]) if n not in DOUBLED)
        parts = film["narrative"]
        assert [(p["first"], p["last"]) for p in parts][2:4] == [(3, 4), (5, 5)], (
            "a doubled shot is told with its first"
        )
        bounds = {shot["start_s"] for shot in film["shots"]} | {film["duration_s"]}
        assert all({part["start_s"], part["end_s"]} <= bounds for part in parts), "times are shots' own"
        assert (parts[0]["start"], parts[-1]["last"]) == ("00:00:00.000", SHOTS)
        assert {text["model"] for text in film["by"].values()} == {"noted"}
    assert lies >= 0.9 * len(films) * SHOTS
    assert taken <= 0.05 * true


@pytest.mark.slow
def test_a_killed_telling_goes_on_and_asks_nothing_twice(ingested: Workspace, telling: Any, tmp_path: Path) -> None:
    named = filmed(ingested, 5)[:1]
    settings = [word for override in SETTINGS for word in ("--set", override)]
    command = [sys.executable, "-m", "flywheel.cli", "narrate", named[0], "--config", str(ingested.root), *settings]
    command += ["--set", "annotate.commit_rows=1"]
    site = str(tmp_path / "site-noted_rules")
    paths = os.pathsep.join([site, str(Path(__file__).parents[2])])
    environment = {**os.environ, "KILL": "25", "PYTHONPATH": paths}
    ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert len((tmp_path / "asked").read_text().split()) == 25, "fused, and in the midst of the check"
    made = telling(named)
    asked = (tmp_path / "asked").read_text().split()
    assert len(asked) == len(set(asked)) == SHOTS + SHOTS + (SHOTS - 1) + 1
    assert made.generated == {"heard": 0, "seen": 0, "fused": 0, "consistency": 7, "redundancy": 15, "narrative": 1}
    assert telling(named).films == made.films
    assert (tmp_path / "asked").read_text().split() == asked
    # A shot that is taken down is in no account of the others.
    ingested.takedowns.remove_records([filmed_ids(ingested)[9]])
    kinds = ingested.records.of_clips("annotations", filmed_ids(ingested), ["kind"])["kind"]
    left = dict(kinds.value_counts().iter_rows())
    assert left == {"seen": SHOTS - 1, "heard": SHOTS - 1, "fused": SHOTS - 1, "consistency": SHOTS - 1}
    assert ingested.records.of_clips("generations", filmed_ids(ingested), ["id"]).height == 2 * (SHOTS - 1)


@pytest.mark.slow
def test_what_was_rejected_is_asked_again_when_somebody_says_so(
    ingested: Workspace, telling: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = filmed(ingested, 8)[:1]
    monkeypatch.setenv("MUTE", "1")
    assert telling(named).rejected["fused"] == SHOTS
    monkeypatch.delenv("MUTE")
    assert telling(named).generated["fused"] == 0, "as long as nobody says so"
    left = retried(ingested, open_rejects(ingested, "annotate"))
    assert (left.tried, left.left) == (
        0,
        ["narrate: texts of long videos are asked for again by 'flywheel narrate --retry-failed'"],
    )
    made = telling(named, retry_failed=True)
    assert (made.generated["fused"], made.rejected["fused"]) == (SHOTS, 0)
    assert made.films[0]["narrative"]
    assert ingested.rejected(open_only=True).is_empty()


@pytest.mark.slow
def test_a_long_video_is_told_in_pieces_and_these_once_more(ingested: Workspace, telling: Any, tmp_path: Path) -> None:
    """Where all shots are more than a prompt shows; a file says so of its own prompt."""
    from annotators import prompt_file

    text = prompt_file("narrative", tmp_path).read_text().replace("max_hint_chars: 24000", "max_hint_chars: 1000")
    (tmp_path / "short.yaml").write_text(text)
    named = filmed(ingested, 6)[:1]
    prompts = f"narrate.prompts=[seen, heard, fused, consistency, redundancy, {tmp_path / 'short.yaml'}]"
    made = telling(named, prompts)
    assert made.generated["narrative"] > 2
    assert made.films[0]["narrative"][-1]["last"] == SHOTS


@pytest.mark.slow
def test_a_video_with_a_gap_is_left_out_and_says_so(
    ingested: Workspace, make_workspace: Make, commandline: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    filmed(ingested, 7, gap=True)
    films, left_out = films_of(RoundContext(make_workspace(*SETTINGS[:2])).to_curate())
    assert left_out == {
        "film7.mp4": "its clips have a gap at 6.4 s; corpus.split_by: scene cuts it into shots without gaps"
    }
    assert len(films) == 6, "the rest is told"


def test_edits_quote_what_they_change_and_the_rest_is_refused() -> None:
    text = "A dog barks. A dog  runs, and a cat sits; then it rains."
    asked = [
        {"quote": "a dog", "instead": "A fox"},
        {"quote": "A dog runs", "instead": ""},
        {"quote": "a cat sits", "instead": ""},
        {"quote": "a bird", "instead": ""},
        {"quote": "barks. A", "instead": "x"},
        {"quote": " ", "instead": "x"},
    ]
    found = edited(text, asked)
    assert found.text == "A fox barks. and; then it rains."
    assert [edit["quote"] for edit in found.log] == ["a dog", "A dog runs", "a cat sits"]
    assert [edit["quote"] for edit in found.refused] == ["a bird", "barks. A", " "]
    assert replayed(text, found.log) == found.text
    assert edited(text, []).text == text
    assert edited("A hundred red cars, e.g. a van... go.", [{"quote": "red", "instead": "blue"}]).text == (
        "A hundred blue cars, e.g. a van... go."
    ), "whole words, and nothing that nobody quoted"
    assert edited("A dog barks.", [{"quote": "A dog barks", "instead": ""}]).text == ""
