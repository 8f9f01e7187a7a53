"""What is on record of one video's texts, pass by pass, and what each pass asks next."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from annotators.asking import annotation_id
from annotators.tasks import Task
from flywheel.core.types import LEARN, Clip, content_id, form_of
from flywheel.curation.judge import shown
from flywheel.models.prompt import Evidence, Prompt
from flywheel.rounds.narration.edits import Edited, edited
from flywheel.rounds.narration.shots import Film
from flywheel.store import Workspace
from flywheel.store.parts import read_rows

#: Levels of narratives of narratives: each is shorter by a part at least.
MOST_LEVELS = 8
_COLUMNS = ["id", "clip_id", "generation_id", "text", "payload"]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A pass: its prompt, and what tells its model's replies from another's."""

    prompt: Prompt
    digest: str

    def about(self, *shown_texts: object) -> str:
        """What a reply is about: these texts, by this model and prompt."""
        return content_id(self.digest, *shown_texts)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A stretch of shots, by their numbers from 1, and its text; ``by`` are the ids of the texts that it is made of."""

    first: int
    last: int
    text: str
    by: tuple[str, ...]


class Telling:
    """One video's texts as they are on record now; what depends on a text that is not there is not there either."""

    def __init__(self, workspace: Workspace, film: Film, passes: Mapping[str, Asked], round: int, neighbours: int):
        """``passes`` by the kind of text."""
        self.film, self.passes = film, passes
        self._workspace, self._round, self._neighbours = workspace, round, neighbours

    def _written(self, kind: str, wanted: Mapping[str, tuple[str, str]]) -> dict[str, dict[str, Any]]:
        """The texts of a kind that are on record: rows by the keys of ``wanted``, which are clip and ``about``."""
        form = form_of(self.passes[kind].prompt.kind, LEARN)
        ids = {annotation_id(self._round, form, clip_id, about): key for key, (clip_id, about) in wanted.items()}
        rows = read_rows(self._workspace, "annotations", ids, _COLUMNS)
        return {ids[row["id"]]: row for row in rows.iter_rows(named=True)}

    # One text a shot.

    @cached_property
    def seen(self) -> dict[str, dict[str, Any]]:
        """What is seen, rows by clip."""
        return self._written("seen", {clip.id: (clip.id, "") for clip in self.film.shots})

    @cached_property
    def heard(self) -> dict[str, dict[str, Any]]:
        """What is heard, rows by clip."""
        return self._written("heard", {clip.id: (clip.id, "") for clip in self.film.shots})

    def _evidence(self, clip: Clip) -> Evidence:
        said = {kind: of[clip.id] for kind, of in (("seen", self.seen), ("heard", self.heard)) if clip.id in of}
        return Evidence(**{kind: shown(kind, row) for kind, row in said.items()})

    def _task(self, kind: str, clip: Clip, evidence: Evidence) -> Task:
        asked = self.passes[kind]
        prompt = asked.prompt.render(evidence)
        return Task(clip_id=clip.id, uri=clip.uri, prompt=prompt, about=asked.about(prompt))

    def tasks(self, kind: str) -> Iterator[Task]:
        """What a pass over shots asks: ``fused``, ``consistency`` or ``redundancy``."""
        for number, clip in enumerate(self.film.shots, 1):
            if kind == "fused" and (clip.id in self.seen or clip.id in self.heard):
                yield self._task(kind, clip, self._evidence(clip))
            elif kind == "consistency" and clip.id in self.fused:
                text = self.fused[clip.id]["text"]
                yield self._task(kind, clip, self._evidence(clip).model_copy(update={"text": text}))
            elif kind == "redundancy" and (earlier := self._earlier(number)) and self.checked[clip.id].text:
                listed = json.dumps(earlier, ensure_ascii=False)
                yield self._task(kind, clip, Evidence(text=self.checked[clip.id].text, earlier=listed))

    def _replies(self, kind: str) -> dict[str, dict[str, Any]]:
        return self._written(kind, {task.clip_id: (task.clip_id, task.about) for task in self.tasks(kind)})

    @cached_property
    def fused(self) -> dict[str, dict[str, Any]]:
        """What is seen and heard in one text, rows by clip."""
        return self._replies("fused")

    @cached_property
    def consistency(self) -> dict[str, dict[str, Any]]:
        """What was found wrong in these texts, rows by clip."""
        return self._replies("consistency")

    @cached_property
    def checked(self) -> dict[str, Edited]:
        """The texts without what was found wrong, by clip; empty of a shot without a text."""
        found = {}
        for clip in self.film.shots:
            text = self.fused[clip.id]["text"] if clip.id in self.fused else ""
            edits = _payload(self.consistency[clip.id])["edits"] if clip.id in self.consistency else ()
            found[clip.id] = edited(text, edits)
        return found

    def _earlier(self, number: int) -> list[dict[str, Any]]:
        """The texts of the shots before a shot that it is not to repeat."""
        first = max(1, number - self._neighbours)
        texts = ((n, self.checked[self.film.shots[n - 1].id].text) for n in range(first, number))
        return [{"shot": n, "text": text} for n, text in texts if text]

    @cached_property
    def redundancy(self) -> dict[str, dict[str, Any]]:
        """What was found repeated in these texts, rows by clip."""
        return self._replies("redundancy")

    @cached_property
    def unrepeated(self) -> dict[str, Edited]:
        """The texts without what earlier shots say, by clip; each edit of the log says ``of`` which shot."""
        found = {}
        for number, clip in enumerate(self.film.shots, 1):
            text = self.checked[clip.id].text
            repeats = _payload(self.redundancy[clip.id])["repeats"] if clip.id in self.redundancy else ()
            there = {row["shot"] for row in self._earlier(number)} if repeats else set()
            kept = edited(text, [repeat for repeat in repeats if repeat["of"] in there])
            strange = [
                {**repeat, "why": f"shot {repeat['of']} was not shown"}
                for repeat in repeats
                if repeat["of"] not in there
            ]
            found[clip.id] = replace(kept, refused=(*kept.refused, *strange))
        return found

    def same_as(self, clip: Clip) -> int | None:
        """The number of the earlier shot that a shot is merged into: all of its text is there."""
        kept = self.unrepeated[clip.id]
        return Counter(edit["of"] for edit in kept.log).most_common(1)[0][0] if kept.log and not kept.text else None

    # The whole.

    def rows(self) -> list[Part]:
        """What the narrative begins with: each shot's text, with the shots that were merged into it behind it."""
        parts = list[Part]()
        for number, clip in enumerate(self.film.shots, 1):
            text = self.unrepeated[clip.id].text
            if text:
                by = (self.fused[clip.id]["id"],)
                parts.append(Part(first=number, last=number, text=text, by=by))
            elif parts and self.same_as(clip) == parts[-1].first and parts[-1].last == number - 1:
                parts[-1] = replace(parts[-1], last=number)
        return parts

    def narrative_tasks(self, parts: Sequence[Part]) -> list[tuple[Task, list[Part]]]:
        """What is asked about these parts: all at once, or some by some where they are longer than what is shown."""
        prompt = self.passes["narrative"].prompt
        tasks = []
        for some in _lots(parts, prompt.max_hint_chars, self._row):
            listed = json.dumps([self._row(part) for part in some], ensure_ascii=False)
            tasks.append((self._task("narrative", self.film.shots[some[0].first - 1], Evidence(shots=listed)), some))
        return tasks

    def _row(self, part: Part) -> dict[str, Any]:
        start_s, end_s = self.times_s(part)
        times = f"{clock(start_s)} to {clock(end_s)}"
        return {"first": part.first, "last": part.last, "times": times, "text": part.text}

    def times_s(self, part: Part) -> tuple[float, float]:
        """When a part begins and ends, in seconds: with its first and last shot."""
        return self.film.shots[part.first - 1].start_s, self.film.shots[part.last - 1].end_s

    def levels(self) -> Iterator[tuple[list[tuple[Task, list[Part]]], list[Part] | str]]:
        """The levels of the narrative: what is asked, and the parts that it gave, or why there are none."""
        parts = self.rows()
        for _ in range(MOST_LEVELS if parts else 0):
            tasks = self.narrative_tasks(parts)
            told = self.told(tasks)
            yield tasks, told
            if isinstance(told, str) or len(tasks) == 1 or len(told) >= len(parts):
                return
            parts = told

    def told(self, tasks: Sequence[tuple[Task, list[Part]]]) -> list[Part] | str:
        """The parts that the replies to these tasks make; why there are none, where a reply is missing or strange."""
        replies = self._written("narrative", {task.about: (task.clip_id, task.about) for task, _ in tasks})
        parts = list[Part]()
        for task, some in tasks:
            if task.about not in replies:
                return "it was not told yet, or its telling failed (flywheel rejects)"
            row = replies[task.about]
            for part in _payload(row)["parts"]:
                if not some[0].first <= part["first"] <= part["last"] <= some[-1].last:
                    return f"its narrative names shots {part['first']} to {part['last']}, which were not shown so"
                parts.append(Part(first=part["first"], last=part["last"], text=part["text"], by=(row["id"],)))
        return parts

    def generations_of(self, tasks: Sequence[tuple[Task, list[Part]]]) -> list[str]:
        """The ids of the generations that the replies to these tasks are."""
        replies = self._written("narrative", {task.about: (task.clip_id, task.about) for task, _ in tasks})
        return [row["generation_id"] for row in replies.values()]


def _payload(row: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(row["payload"])
    return found


def _lots(parts: Iterable[Part], most_chars: int, row: Any) -> list[list[Part]]:
    """The parts in lots whose rows as JSON are no longer than is shown; one that is too long is a lot of its own."""
    lots, length = list[list[Part]](), 0
    for part in parts:
        size = len(json.dumps(row(part), ensure_ascii=False)) + 2
        if not lots or length + size > most_chars:
            lots.append([])
            length = 2
        lots[-1].append(part)
        length += size
    return lots


def clock(seconds: float) -> str:
    """A time as ``HH:MM:SS.mmm``."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"
