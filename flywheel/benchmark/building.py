"""Questions that need sound and picture, made of what is known of rendered videos: five a video, each with its twin's.

Two ask without times, two name a part of the video, one asks when (the make-up of AVBench, arXiv 2411.16213). All four
options of a question are things, sounds or shots of the video, so that none is odd; the keys' places are balanced.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from flywheel.benchmark.items import LETTERS, length_of
from flywheel.benchmark.programs import Program, answer, traced
from flywheel.core.errors import UserError
from flywheel.core.files import written_whole
from flywheel.core.foreign import parsed_json
from flywheel.playground.av.kinds import KINDS
from flywheel.playground.timeline import PER_BLOCK, LongVideo, write_timelines

ITEMS, MANIFEST = "items.jsonl", "manifest.json"
#: The videos and their questions are made here.
LICENCE = "Apache-2.0"
_SOUNDS = {
    "beep": "a beep",
    "hiss": "a hiss",
    "tick": "a tick",
    "knock": "a knock",
    "hum": "a hum",
    "rumble": "a rumble",
    "bounce": "a thump",
    "bell": "a chime",
    "rise": "a rising tone",
    "fall": "a falling tone",
}


#: A type, a question and its program; and the same with the values of its options.
_Asked = tuple[str, str, Program]
_Question = tuple[str, str, Program, list[Any]]


def read_rows(source: Path) -> list[dict[str, Any]]:
    """The rows of a built benchmark's folder, or file, with their programs. Raises UserError where there are none."""
    file = source / ITEMS if source.is_dir() else source
    try:
        return [parsed_json(line) for line in file.read_bytes().splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: can't be read ({error}). Build it with 'flywheel benchmark build'.") from error


def build(folder: Path, *, seed: int, num_videos: int, num_blocks: int | Sequence[int]) -> dict[str, Any]:
    """Render videos into a folder and write their questions beside them; returns the manifest.

    ``items.jsonl`` has an item a line (format ``flywheel``), ``manifest.json`` the seed, the licence and the counts.
    Raises UserError as :func:`flywheel.playground.timeline.write_timelines` does.
    """
    videos = write_timelines(folder, seed=seed, num_videos=num_videos, num_blocks=num_blocks)
    rows = list(questions(videos, seed))
    manifest = {
        "seed": seed,
        "videos": len(videos),
        "items": len(rows),
        "types": {name: sum(row["type"] == name for row in rows) for name in sorted({row["type"] for row in rows})},
        "duration_s": max(video.duration_s for video in videos),
        "lengths": dict(Counter(length_of(video.duration_s) for video in videos)),
        "licence": LICENCE,
    }
    with written_whole(folder / ITEMS) as part:
        part.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with written_whole(folder / MANIFEST) as part:
        part.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return manifest


def questions(videos: Iterable[LongVideo], seed: int) -> Iterator[dict[str, Any]]:
    """Yield five questions about each video, as rows of the format ``flywheel``.

    A twin's are those of its video, word for word and option for option; what is right is another option.
    """
    rng = np.random.default_rng([seed, 32_416_187])
    places, asked = _balanced(rng), dict[str, list[_Question]]()
    for video in videos:
        if video.twin not in asked:
            asked[video.name] = [_with_options(part, video, rng, next(places)) for part in _asked(video, rng)]
        for number, question in enumerate(asked.get(video.name) or asked.pop(video.twin), 1):
            yield _row(video, number, question)


def _balanced(rng: np.random.Generator) -> Iterator[int]:
    """Places of keys: each block of four has every place once."""
    while True:
        yield from (int(place) for place in rng.permutation(PER_BLOCK))


def _asked(video: LongVideo, rng: np.random.Generator) -> Iterator[_Asked]:
    """Yield (type, question, program) of the five questions about a video."""
    shots, count = video.shots, len(video.shots)
    things = [str(kind) for kind in rng.permutation(sorted({shot.seen for shot in shots}))]
    sounds = [str(kind) for kind in rng.permutation(sorted({shot.heard for shot in shots}))]
    whole: dict[str, Any] = {"first": 0, "end": count}
    yield (
        "av",
        f"What is seen while {_SOUNDS[sounds[0]]} is heard for the first time?",
        Program(by="heard", kind=sounds[0], nth=0, say="seen", **whole),
    )
    yield (
        "av",
        f"What is heard while {named_thing(things[0])} is seen for the second time?",
        Program(by="seen", kind=things[0], nth=1, say="heard", **whole),
    )
    for by, kind, say in (("heard", sounds[1], "seen"), ("seen", things[1], "heard")):
        first = PER_BLOCK * int(rng.integers(count // PER_BLOCK))
        part: dict[str, Any] = {"first": first, "end": first + PER_BLOCK}
        span = f"From {clock(shots[first].start_s)} to {clock(shots[first + PER_BLOCK - 1].end_s)}"
        named = _SOUNDS[kind] if by == "heard" else named_thing(kind)
        yield (
            "av_temporal_given",
            f"{span}, what is {say} while {named} is {by}?",
            Program(by=by, kind=kind, nth=0, say=say, **part),
        )
    yield (
        "av_temporal_ground",
        f"Something is seen while {_SOUNDS[sounds[2]]} is heard for the first time. When is it seen again?",
        Program(by="heard", kind=sounds[2], nth=0, say="when", again=True, **whole),
    )


def _with_options(asked: _Asked, video: LongVideo, rng: np.random.Generator, place: int) -> _Question:
    """A question with its options in an order in which the right one has this place."""
    kind, question, program = asked
    seen, heard = tracks(video)
    right = answer(program, seen, heard)
    values: list[Any] = list(range(PER_BLOCK, 2 * PER_BLOCK))
    if program.say != "when":
        values = sorted(set(seen if program.say == "seen" else heard))
    others = [values[int(n)] for n in rng.permutation(len(values)) if values[int(n)] != right]
    others.insert(place, right)
    return kind, question, program, others


def _row(video: LongVideo, number: int, asked: _Question) -> dict[str, Any]:
    kind, question, program, values = asked
    facts = traced(program, *tracks(video))
    right = values.index(answer(program, *tracks(video)))
    return {
        "id": f"{video.name}:{number}",
        "video": f"{video.name}.mp4",
        "question": question,
        "options": [_said(value, program.say, video) for value in values],
        "answer": LETTERS[right],
        "type": kind,
        "needs": sorted(program.needs),
        "duration_s": video.duration_s,
        "facts": [asdict(fact) for fact in facts or ()],
        "program": asdict(program),
        "values": values,
        "twin": f"{video.twin}:{number}",
        "licence": LICENCE,
    }


def tracks(video: LongVideo) -> tuple[list[str], list[str]]:
    """What is seen and what is heard in each shot of a video, as kinds."""
    return [shot.seen for shot in video.shots], [shot.heard for shot in video.shots]


def _said(value: Any, say: str, video: LongVideo) -> str:
    if say == "when":
        shot = video.shots[value]
        return f"{clock(shot.start_s)} to {clock(shot.end_s)}"
    return named_thing(value) if say == "seen" else _SOUNDS[value]


def named_sound(kind: str) -> str:
    """What a sound is called, with its article."""
    return _SOUNDS[kind]


def named_thing(kind: str) -> str:
    """What a thing is called, with its article."""
    name = KINDS[kind].thing
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def clock(seconds: float) -> str:
    """A time as ``HH:MM:SS.mmm``."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"
