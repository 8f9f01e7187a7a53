"""Datasets as others read them: LLaVA and messages files, Hugging Face folders, WebDataset tars, Label Studio, WebVTT, each with a card.

Writers stream their rows and put nothing of the day's time into what they write, so that the same data gives the same bytes.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flywheel.core.types import Cue
from flywheel.formats.label_studio import task
from flywheel.formats.subtitles import webvtt

#: Clips in a tar, and the most bytes of it.
_SHARD_CLIPS, _SHARD_BYTES = 1000, 1 << 30
_QUESTION = "Describe the video."


@dataclass(frozen=True, kw_only=True)
class ExportRow:
    """A clip with its text. ``uri`` is the file, of which the clip is ``start_s`` to ``end_s`` seconds; ``cues`` (from the clip's start) where the text has
    times; ``source`` is human, model or what came with the video; ``video`` writes the clip alone into a path and returns its ending, empty where it can't: the
    row is left out then."""

    id: str
    uri: str
    start_s: float
    end_s: float
    fps: float
    split: str
    text: str
    source: str
    round: int
    annotation_id: str
    cues: tuple[Cue, ...]
    video: Callable[[Path], str]

    def about(self) -> dict[str, Any]:
        return {
            "id": self.id, "text": self.text, "source": self.source, "round": self.round, "split": self.split, "uri": self.uri,
            "start_s": self.start_s, "end_s": self.end_s,
        }  # fmt: skip


def llava(rows: Iterable[ExportRow], out: Path) -> None:
    """``data.json``: LLaVA's list of conversations (ShareGPT's ``from`` and ``value``); videos as clips under ``videos/``."""
    (out / "videos").mkdir()
    with open(out / "data.json", "w", encoding="utf-8") as file:
        file.write("[")
        comma = ""
        for row in rows:
            video = _clip(row, out / "videos", "videos")
            if not video:
                continue
            said = [{"from": "human", "value": f"<video>\n{_QUESTION}"}, {"from": "gpt", "value": row.text}]
            file.write(f"{comma}\n" + _json({"id": row.id, "video": video, "conversations": said}))
            comma = ","
        file.write("\n]\n")


def messages(rows: Iterable[ExportRow], out: Path) -> None:
    """``train.jsonl``: a conversation a line as chat templates take it; the videos stay where they are, their span stands beside the path."""
    with open(out / "train.jsonl", "w", encoding="utf-8") as file:
        for row in rows:
            video = {
                "type": "video",
                "video": row.uri,
                "video_start": row.start_s,
                "video_end": row.end_s,
                "text": None,
            }
            asked = {"type": "text", "video": None, "video_start": None, "video_end": None, "text": _QUESTION}
            said = {"type": "text", "video": None, "video_start": None, "video_end": None, "text": row.text}
            talk = [{"role": "user", "content": [video, asked]}, {"role": "assistant", "content": [said]}]
            file.write(
                _json({"messages": talk, **{k: row.about()[k] for k in ("id", "source", "round", "split")}}) + "\n"
            )


def hf(rows: Iterable[ExportRow], out: Path) -> None:
    """A folder that ``load_dataset("videofolder", data_dir=…)`` reads: clips as files, and ``metadata.jsonl`` with their texts."""
    with open(out / "metadata.jsonl", "w", encoding="utf-8") as file:
        for row in rows:
            if name := _clip(row, out / "videos", "videos"):
                file.write(_json({"file_name": name, **row.about()}) + "\n")


def webdataset(rows: Iterable[ExportRow], out: Path) -> None:
    """``clips-000000.tar`` and on: of each clip the video, ``.txt`` with its text and ``.json`` with the rest, names and times fixed."""
    shard, inside, size = -1, _SHARD_CLIPS, 0
    tar: tarfile.TarFile | None = None
    work = out / ".clip"
    try:
        for row in rows:
            if inside >= _SHARD_CLIPS or size >= _SHARD_BYTES:
                if tar is not None:
                    tar.close()
                shard, inside, size = shard + 1, 0, 0
                tar = tarfile.open(out / f"clips-{shard:06d}.tar", "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115  (several, one after the other)
            assert tar is not None
            ending = row.video(work)
            if not ending:
                continue
            content = work.read_bytes()
            for name, part in ((ending, content), (".txt", row.text.encode()), (".json", _json(row.about()).encode())):
                info = tarfile.TarInfo(row.id + name)
                info.size = len(part)
                tar.addfile(info, io.BytesIO(part))
            inside, size = inside + 1, size + len(content)
    finally:
        if tar is not None:
            tar.close()
        work.unlink(missing_ok=True)


def label_studio(rows: Iterable[ExportRow], out: Path) -> None:
    """``tasks.json``: what people said as annotations, what models wrote as predictions; the labeling interface is ``flywheel.formats.label_studio.INTERFACE``."""
    with open(out / "tasks.json", "w", encoding="utf-8") as file:
        file.write("[")
        comma = ""
        for row in rows:
            made = task(
                annotation_id=row.annotation_id, video=row.uri, text=row.text, cues=row.cues, fps=row.fps, start_s=row.start_s,
                duration_s=row.end_s - row.start_s, model=f"round {row.round}",
            )  # fmt: skip
            if row.source == "human":
                made = {**made, "annotations": [{"result": made["predictions"][0]["result"]}], "predictions": []}
            file.write(f"{comma}\n" + _json(made))
            comma = ","
        file.write("\n]\n")


def subtitles(rows: Iterable[ExportRow], out: Path) -> None:
    """A ``.vtt`` file for each clip, times from the clip's start; a text without times is one cue over the whole clip."""
    for row in rows:
        cues = row.cues or (Cue(start_s=0.0, end_s=row.end_s - row.start_s, text=row.text),)
        (out / f"{row.id}.vtt").write_text(
            webvtt(list(cues), note=f"clip {row.id} of {row.uri} from {row.start_s:.3f} s"), encoding="utf-8"
        )


WRITERS: Mapping[str, Callable[[Iterable[ExportRow], Path], None]] = {
    "llava": llava, "messages": messages, "hf": hf, "webdataset": webdataset, "label-studio": label_studio, "webvtt": subtitles,
}  # fmt: skip

#: What a format's card says of how to load it.
LOADING = {
    "llava": 'json.load(open("data.json"))',
    "messages": 'datasets.load_dataset("json", data_files="train.jsonl")',
    "hf": 'datasets.load_dataset("videofolder", data_dir=".")',
    "webdataset": 'webdataset.WebDataset("clips-{000000..NNNNNN}.tar")',
    "label-studio": "import tasks.json; the labeling interface is flywheel.formats.label_studio.INTERFACE",
    "webvtt": "one subtitle file for each clip",
}


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a dataset's card says. ``rounds`` are rows of a table; ``model`` names weights, adapter and prompts by their hashes; ``counts`` are texts by
    source, ``left_out`` clips by reason."""

    name: str
    form: str
    round: int
    champion_since: str
    num_clips: int
    hours: float
    counts: Mapping[str, int]
    left_out: Mapping[str, int]
    model: Mapping[str, str]
    rounds: tuple[Mapping[str, Any], ...]
    licence: str
    num_refiners: int

    def text(self) -> str:
        human = self.counts.get("human", 0)
        share = human / self.num_clips if self.num_clips else 0.0
        heads = list(self.rounds[0]) if self.rounds else []
        table = [
            "| " + " | ".join(heads) + " |", "|" + "---|" * len(heads),
            *("| " + " | ".join(str(row[h]) for h in heads) + " |" for row in self.rounds),
        ]  # fmt: skip
        lines = [
            "---", f"license: {self.licence or 'other'}", "task_categories:", "- video-text-to-text", "tags:", "- video", "- captions", "- data-flywheel", "---",
            f"# {self.name}", "",
            f"{self.num_clips} clips, {self.hours:.2f} hours, each with one text. Written by a data flywheel; the texts are those of round {self.round}"
            + (f", champion since {self.champion_since}." if self.champion_since else "."),
            "", f"Load: `{LOADING[self.form]}`", "", "## Where the texts come from", "",
            *(f"- {source}: {count}" for source, count in sorted(self.counts.items())),
            f"- share given or confirmed by people: {share:.1%}, by {self.num_refiners} refiners", "",
            *(["Left out: " + ", ".join(f"{n} clips {why}" for why, n in sorted(self.left_out.items())) + ".", ""] if self.left_out else []),
            "## Model and prompt", "", *(f"- {what}: `{value}`" for what, value in self.model.items()), "",
            *(["## Rounds", "", *table, ""] if heads else []),
            "## Licence", "",
            (f"As the workspace says (corpus.licence): {self.licence}." if self.licence else "Not recorded (corpus.licence is empty): the videos' own licences hold."),
            "The texts of models may fall under the models' licences.", "",
            "## Limits", "",
            "Texts that no person confirmed are a model's: they can be wrong, and wrong in the same way many times. People saw a part of the clips, chosen half at random",
            "and half where the model doubted, so the human texts are not a random sample of the corpus. Figures above are measured on clips that are not in the train split.", "",
        ]  # fmt: skip
        return "\n".join(lines)


def describe(card: Card, out: Path) -> None:
    """``README.md`` for people, ``dataset.json`` for programs."""
    (out / "README.md").write_text(card.text(), encoding="utf-8")
    (out / "dataset.json").write_text(
        json.dumps(asdict(card), indent=1, sort_keys=True, default=str) + "\n", encoding="utf-8"
    )


def _clip(row: ExportRow, folder: Path, prefix: str) -> str:
    folder.mkdir(exist_ok=True)
    work = folder / ".clip"
    ending = row.video(work)
    if not ending:
        work.unlink(missing_ok=True)
        return ""
    work.replace(folder / f"{row.id}{ending}")
    return f"{prefix}/{row.id}{ending}"


def _json(values: Any) -> str:
    return json.dumps(values, ensure_ascii=False, sort_keys=True)
