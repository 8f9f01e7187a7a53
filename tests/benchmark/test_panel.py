"""Certificates by models: each way is shown really, nothing is asked twice, and what a model needs decides."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from annotators.interface import Sampling
from annotators.writer import AskedModel
from flywheel.benchmark.certified import FolderCertified, certify_by_models
from flywheel.benchmark.panel import HowAsked, _with_sound
from flywheel.benchmark.videos import Shown, Videos
from flywheel.cli.benchmark import _refuse_equal
from flywheel.core.config import Model
from flywheel.core.config.sections import Corpus
from flywheel.core.errors import BorderError, MediaError, UserError
from flywheel.models.inputs import ClipInput
from flywheel.models.loader import Loader
from flywheel.store.cache import FrameCache
from tests.plugins import Command, Plugin

#: Finds the option "right" where it is really shown what the question says that it needs, else takes the first; its
#: log has a line for each question with what was shown.
_ENGINE = """
    import hashlib
    import re
    from pathlib import Path

    from annotators.interface import Result
    from flywheel.core.errors import BorderError, MediaError

    class Engine:
        def __init__(self, log, most=10**9, contrary=False):
            self.log, self.most, self.contrary = Path(log), most, contrary

        def generate(self, requests, sampling):
            for request in requests:
                clip, text = request.clip, request.prompt
                frames = clip is not None and clip.frames_THWC is not None
                sound = clip.sound if clip is not None else None
                heard = "" if sound is None else hashlib.sha256(sound.tobytes()).hexdigest()[:12]
                known = dict(token_ids=(1,), logprobs=(0.0,), tokens_in=1 + bool(heard), finish="stop", seconds=0.0)
                if text.startswith("Describe"):
                    yield Result(key=request.key, text=f"{heard or 'a picture'} {heard}", **known)
                    continue
                lines = self.log.read_text().splitlines() if self.log.exists() else []
                if len(lines) >= self.most:
                    raise BorderError("the server is away")
                question = re.search(r"^needs (\\w+)", text, re.M)[1]
                words = " ".join(text.split("needs")[0].split())
                with self.log.open("a") as out:
                    out.write("|".join([question, str(frames), heard, words]) + "\\n")
                has = {"picture": frames, "sound": heard, "both": frames and heard, "text": True, "nothing": False,
                       "failing": frames and heard,
                       "words": "What is said" in text}
                letter = re.search(r"^([A-J])\\. right", text, re.M)[1]
                if question == "failing" and words:
                    yield Result(key=request.key, text="the words are too long", **{**known, "finish": "error"})
                    continue
                if self.contrary:
                    letter = "AB".replace(letter, "")
                yield Result(key=request.key, text=letter if has[question] else "A", **known)

        def parts(self):
            return [self]

        def close(self):
            pass

    def perceiving(log, most=10**9):
        return Engine(log, most)

    def contrary(log):
        return Engine(log, contrary=True)

    perceiving.needs_model = contrary.needs_model = False
"""
_NEEDS = ("both", "picture", "sound", "text", "words", "nothing", "both")


@pytest.fixture
def bench(corpus: Path, tmp_path: Path, plugin: Plugin) -> Path:
    """Questions about two videos that each say what they need, the last one the same as the first; and an engine."""
    plugin("flywheel.annotators.engines", "perceiving = perceiving_engine:perceiving", _ENGINE)
    plugin("flywheel.annotators.engines", "contrary = contrary_engine:contrary", _ENGINE, package="contrary")
    folder = tmp_path / "bench"
    (folder / "videos").mkdir(parents=True)
    for number in range(2):
        shutil.copy(corpus / "corpus" / f"clip-{number:05d}.mp4", folder / "videos" / f"v{number}.mp4")
    (folder / "videos" / "v0.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nGood morning.\n")
    base = {"options": ["wrong", "right"], "answer": "B", "needs": ["frames", "sound"]}
    rows = [{"id": f"q{n}", "video": "v0.mp4", "question": f"needs {what}"} for n, what in enumerate(_NEEDS)]
    rows += [{"id": "far", "video": "v1.mp4", "question": "needs both"}]
    rows += [{"id": "gone", "video": "v2.mp4", "question": "needs both"}]
    (folder / "items.jsonl").write_text("".join(json.dumps({**base, **row}) + "\n" for row in rows))
    return folder


def _model(folder: Path, engine: str = "perceiving", **options: Any) -> AskedModel:
    settings = Model(engine=engine, options={"log": str(folder / "log"), **options})
    return AskedModel(role=engine, name=engine, folder=folder, settings=settings)


def _certified(bench: Path, *models: AskedModel, verifier: AskedModel | None = None) -> FolderCertified:
    how = HowAsked(
        videos=Videos(bench / "videos"),
        shown=Shown(
            inputs=frozenset({"frames", "sound"}),
            corpus=Corpus(frames=2),
            cache=FrameCache(bench.parent / "cache", 1 << 30),
        ),
        sampling=Sampling(max_new_tokens=8),
        turns=3,
    )
    return certify_by_models(bench, "flywheel", models, verifier, how, Loader(), bench.parent / "records")


@pytest.mark.slow
def test_models_are_shown_each_way_really_and_items_that_need_both_are_kept(bench: Path) -> None:
    found = _certified(bench, _model(bench))
    certificates = {c["item"]: c for c in map(json.loads, (bench / "certificates-by-models.jsonl").open())}
    # Of two options in six orders, chance and two errors are .91: a way is above it with all six right.
    assert {name: certificate["reason"] for name, certificate in certificates.items()} == {
        "q0": "",
        "q1": "answered with picture alone",
        "q2": "answered with sound alone",
        "q3": "answered with text alone and picture alone and sound alone and transcript alone",
        "q4": "answered with transcript alone",
        "q5": "not answered with both",
        "q6": "asks what q0 asks",
        "far": "",
        "gone": "not asked with text and picture and sound and both",
    }
    assert [json.loads(line)["id"] for line in (bench / "certified-by-models.jsonl").open()] == ["q0", "far"]
    assert set(certificates["q0"]["shares"]) == {
        *("text", "picture", "sound", "transcript", "captions", "swapped", "both")
    }
    assert "transcript" not in certificates["far"]["shares"], "there are no words beside its video"
    assert (found.solved.n, found.agree, found.twins.n) == (9, None, 0)
    assert [(reject.place, "v2.mp4" in reject.reason) for reject in found.rejected] == [("gone", True)]
    asked = [line.split("|") for line in (bench / "log").read_text().splitlines()]
    both = Counter((frames, heard, words) for what, frames, heard, words in asked if what == "both" and not words)
    whole = {heard for frames, heard, _ in both if frames == "False" and heard}
    assert len(whole) == 2, "each video's own sound, alone"
    exchanged = {heard for _, heard, _ in both if heard} - whole
    assert len(exchanged) == 2, "the other's, cut or with silence behind it"
    assert both["False", "", ""] == 2, "with words alone, in two orders; the same for both videos, and asked once"
    assert both["True", "", ""] == 4
    assert {both[frames, heard, ""] for frames, heard in [("True", h) for h in whole | exchanged]} == {2}
    captioned = [words for what, *_, words in asked if what == "both" and words.startswith("What is seen")]
    assert len(captioned) == 4
    assert captioned[0] != captioned[-1]


def test_another_sound_is_as_long_as_the_own() -> None:
    def sounding(*samples: float) -> ClipInput:
        return ClipInput(key="x", duration_s=1.0, fps=1.0, sound=np.array(samples, dtype=np.float32))

    for other, heard in (([1, 2], [1, 2, 0]), ([1, 2, 3, 4], [1, 2, 3])):
        assert _with_sound(sounding(7, 8, 9), sounding(*other)).sound.tolist() == heard  # type: ignore[union-attr]
    with pytest.raises(MediaError, match="no sound"):
        _with_sound(sounding(1), ClipInput(key="y", duration_s=1.0, fps=1.0))


def test_what_cant_be_asked_is_not_certified(bench: Path) -> None:
    row = json.loads((bench / "items.jsonl").read_text().splitlines()[0])
    rows = [{**row, "question": "needs failing"}, {**row, "id": "pipe", "video": "v1.mp4"}]
    rows += [{**row, "id": "garbled", "video": "v2.mp4"}]
    shutil.copy(bench / "videos" / "v0.mp4", bench / "videos" / "v2.mp4")
    (bench / "videos" / "v2.srt").write_text("these are no subtitles")
    (bench / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    os.mkfifo(bench / "videos" / "v1.srt")
    found = _certified(bench, _model(bench))
    # Where words can't be put to it, or lie beside its video and can't be read, they may be enough to answer it.
    assert (found.kept.value, set(found.reasons)) == (
        0.0,
        {"could not be asked with transcript", "not asked with text and picture and sound and both"},
    )
    assert {reject.place: reject.reason for reject in found.rejected} == {
        "pipe": "v1.srt beside it is no regular file",
        "garbled": "v2.srt beside it: holds no subtitles that can be read",
        "q0": "the words are too long",
    }


def test_one_model_under_two_names_is_refused(bench: Path) -> None:
    one, other = _model(bench), _model(bench, "contrary")
    _refuse_equal({"--model a": one, "--verify b": other})
    with pytest.raises(UserError, match="--model a, --judge c: are one model"):
        _refuse_equal({"--model a": one, "--verify b": other, "--judge c": one})


@pytest.mark.slow
def test_a_stopped_certification_asks_only_the_rest(bench: Path) -> None:
    with pytest.raises(BorderError, match="away"):
        _certified(bench, _model(bench, most=20))
    _certified(bench, _model(bench))
    log = (bench / "log").read_text().splitlines()
    assert len(log) > 20
    _certified(bench, _model(bench))
    assert (bench / "log").read_text().splitlines() == log
    (bench / "log").unlink()
    shutil.rmtree(bench.parent / "records")
    _certified(bench, _model(bench))
    assert Counter((bench / "log").read_text().splitlines()) == Counter(log), "one that was never stopped asks as much"


@pytest.mark.slow
def test_a_key_that_another_model_finds_wrong_is_not_kept(bench: Path) -> None:
    found = _certified(bench, _model(bench), verifier=_model(bench, "contrary"))
    assert (found.kept.value, found.reasons["another model finds its key wrong"]) == (0.0, 2)
    # In a panel one who chooses the wrong option everywhere takes nothing from the other's answers.
    found = _certified(bench, _model(bench, "contrary"), _model(bench))
    assert found.kept.value == pytest.approx(2 / 9)
    assert [found.by_model[name]["both"].value for name in ("perceiving", "contrary")] == [0.875, 0.125]


@pytest.mark.slow
def test_what_cant_certify_is_said_at_once(
    bench: Path,
    ingested: Any,
    commandline: Command,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ingested.root)
    for arguments, words in (
        ((bench, "--verify", "main"), "--verify needs --model"),
        ((bench / "items.jsonl",), "is no folder. Name one, or models by --model"),
        ((bench, "--model", "main", "--verify", "main"), "a model is named twice"),
        ((bench, "--model", "main", "--by", "guess"), "--by guess: need generation or likelihood"),
    ):
        assert commandline("benchmark", "certify", *arguments) == 2, words
        assert words in capsys.readouterr().err
    judged = ("run", bench, "--format", "flywheel", "--videos", bench / "videos", "--judge", "main")
    assert commandline("benchmark", *judged) == 2
    assert "--model main, --judge main: are one model" in capsys.readouterr().err
