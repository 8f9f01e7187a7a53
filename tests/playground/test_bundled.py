"""The models that ship for the world with sound: what each makes of worlds that it was not trained on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from annotators import Request, Result, Sampling, build, prompt_file
from annotators.ear_canaries import ear_canaries
from annotators.hearing import Ears, prove_hearing
from flywheel import kinds
from flywheel.core.types import CRITERIA
from flywheel.kinds import read
from flywheel.models.inputs import ClipInput, InputBuilder
from flywheel.models.load import load_vlm, model_folder
from flywheel.models.prompt import Evidence, load_prompt
from flywheel.playground import av
from flywheel.playground.av.grammar import BASE
from flywheel.playground.av.kinds import KINDS
from flywheel.playground.av.payloads import heard_payload, seen_payload
from flywheel.playground.tiny import BUNDLED, bundled_model

HEARD, SEEN, JUDGE = (load_prompt(prompt_file(name, Path())) for name in ("heard", "seen", "judge"))
GREEDY = Sampling(max_new_tokens=160)
#: No other test and no training saw them.
FIRST_SEED = 83_000
THINGS = {BASE.things[kind.thing] for kind in KINDS.values()}


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_folder_is_small_and_holds_no_pickle(name: str) -> None:
    files = list(bundled_model(name).iterdir())
    assert {"model.safetensors", "training_record.json"} <= {file.name for file in files}
    assert all(file.stat().st_size <= 12 << 20 for file in files)
    assert not [file for file in files if file.suffix in (".pt", ".bin", ".pth", ".ckpt", ".pkl")]
    assert model_folder(name, Path()) == bundled_model(name)


def asked(questions: list[Request], name: str, inputs: tuple[str, ...]) -> dict[str, Result]:
    vlm = load_vlm(bundled_model(name), inputs=inputs)
    engine = build("transformers", vlm=vlm, builder=InputBuilder(vlm.processor), batch_size=16)
    return {result.key: result for result in engine.generate(questions, GREEDY)}


def sounds(timelines: list[av.Timeline]) -> list[Request]:
    clips = [
        ClipInput(key=f"c{n}", duration_s=av.DURATION_S, fps=25.0, sound=av.sound(timeline))
        for n, timeline in enumerate(timelines)
    ]
    return [Request(key=clip.key, clip=clip, prompt=HEARD.render(Evidence())) for clip in clips]


@pytest.mark.slow
def test_what_the_bundled_ears_hear() -> None:
    """Sounds of the playground's world, in the base dialect's words; silence is silence; and the proof of hearing."""
    timelines = [av.sample(FIRST_SEED + n, av.CORPUS) for n in range(24)]
    questions = sounds(timelines)
    vlm = load_vlm(bundled_model("bundled-ears"), inputs=("sound",))
    engine = build("transformers", vlm=vlm, builder=InputBuilder(vlm.processor), batch_size=24)
    replies = {r.key: read("heard", r.text, schema=HEARD.schema_text) for r in engine.generate(questions, GREEDY)}
    right = total = 0
    for n, timeline in enumerate(timelines):
        events = json.loads(replies[f"c{n}"].payload)["events"]
        for true, event in zip(heard_payload(timeline, "base")["events"], events, strict=False):
            right += event["text"].split(" ", 2)[2] == true["text"].split(" ", 2)[2]
        total += len(timeline.sounds)
    assert right / total >= 0.85
    muted = [replace(q, clip=replace(q.clip, sound=np.zeros_like(q.clip.sound))) for q in questions[:4] if q.clip]
    assert {read("heard", r.text).text for r in engine.generate(muted, GREEDY)} == {"Nothing is heard."}
    assert prove_hearing(engine, ear_canaries(questions[:6]), GREEDY).ears is Ears.HEARS


@pytest.mark.slow
def test_what_the_bundled_judge_scores() -> None:
    """Texts that belong together, of another theme, and of a source that is not seen: by contents and by visibility."""
    hint = {name: kinds.get(name).hint for name in ("seen", "heard")}
    questions, faults = [], ("", "mismatch", "off_screen")
    for n in range(12):
        timeline = av.sample(FIRST_SEED + n, av.CORPUS)
        fault = faults[n % 3]
        planted = av.plant(timeline, fault, np.random.default_rng(n)) if fault else timeline
        payloads = {"seen": seen_payload(planted, "base"), "heard": heard_payload(planted, "base")}
        evidence = Evidence(**{name: hint[name](payload) for name, payload in payloads.items()})  # type: ignore[misc]
        questions.append(Request(key=f"{fault}-{n}", clip=None, prompt=JUDGE.render(evidence)))
    scores = {}
    vlm = load_vlm(bundled_model("bundled-judge"), inputs=())
    engine = build("transformers", vlm=vlm, builder=InputBuilder(vlm.processor), batch_size=12)
    for result in engine.generate(questions, Sampling(max_new_tokens=320)):
        payload = json.loads(read("judgement", result.text, schema=JUDGE.schema_text).payload)
        scores[result.key] = {name: payload[name]["score"] for name in CRITERIA}
    of = {fault: [s for key, s in scores.items() if key.rpartition("-")[0] == fault] for fault in faults}
    assert np.mean([sum(s.values()) / 5 for s in of[""]]) >= 8
    assert np.mean([s["contextual"] for s in of["mismatch"]]) <= 2
    assert np.mean([s["visibility"] for s in of["off_screen"]]) <= 2
    assert np.mean([s["contextual"] for s in of["off_screen"]]) >= 8


@pytest.mark.slow
def test_what_the_bundled_eyes_see() -> None:
    """Pictures of the playground's world: the place, and the things that stand in it."""
    timelines = [av.sample(FIRST_SEED + n, av.CORPUS) for n in range(16)]
    times_s = tuple((i + 0.5) * av.DURATION_S / 24 for i in range(24))
    questions = []
    for n, timeline in enumerate(timelines):
        frames = av.frames(timeline, times_s, 192, 96)
        clip = ClipInput(key=f"c{n}", duration_s=av.DURATION_S, fps=25.0, frames_THWC=frames, times_s=times_s)
        questions.append(Request(key=clip.key, clip=clip, prompt=SEEN.render(Evidence())))
    replies = asked(questions, "bundled-eyes", ("frames",))
    scenes = things = total = 0
    for n, timeline in enumerate(timelines):
        reply = json.loads(replies[f"c{n}"].text)
        true = seen_payload(timeline, "base")
        scenes += reply["scene"] == true["scene"]
        named = {word for word in true["objects"].replace(",", "").split() if word in THINGS}
        things += len(named & set(reply["objects"].replace(",", "").split()))
        total += len(named)
    assert scenes / len(timelines) >= 0.9
    assert things / total >= 0.8
