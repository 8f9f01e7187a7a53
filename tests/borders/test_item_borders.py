"""Whatever one item throws or holds, it is a reject of its own; what is not the item's passes."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from annotators import Request, Result, Sampling
from annotators.asking import _Job, _Pass
from annotators.engines import transformers
from annotators.engines._answers import NotAResult, result_of
from annotators.generations import kept_or_failed
from annotators.health import Unhealthy
from annotators.interface import failed
from annotators.tasks import Asking, Task
from annotators.writer import AskedModel, Writer
from flywheel import kinds
from flywheel.core.border import is_of_one_item, one_item, reason_of
from flywheel.core.config import Corpus, Model
from flywheel.core.errors import MediaError, UserError
from flywheel.core.types import Correction, Cue, Example
from flywheel.formats import corrections
from flywheel.formats import export as exports
from flywheel.formats.rows import CorrectionRow, ExportRow
from flywheel.formats.subtitles import parse_subtitles
from flywheel.ingest import outcomes
from flywheel.ingest.files import File
from flywheel.ingest.items import Item, Rules
from flywheel.ingest.sources import items
from flywheel.ingest.table import Table
from flywheel.kinds import BrokenReply, Reply, Unusable
from flywheel.models.inputs import ClipInput, InputBuilder
from flywheel.models.load import load_processor
from flywheel.models.loader import Loader
from flywheel.models.prompt import load_prompt
from flywheel.playground.tiny import bundled_model
from flywheel.rounds.names import prompt_file
from flywheel.store import Workspace
from human_refine.corrections import _read as corrected
from human_refine.corrections import _Rules, _Target
from tests.borders.anything import OF_THE_WHOLE, as_json, errors, numbers, texts, tried, values
from trainers.data import Collator, TrainingSet
from trainers.examples import text_lengths

Make = Callable[..., Workspace]
_CLIP = ClipInput(key="a", frames_THWC=np.zeros((2, 64, 64, 3), np.uint8), times_s=(0.0, 1.0), duration_s=2.0, fps=1.0)


@pytest.fixture(scope="module")
def builder() -> InputBuilder:
    return InputBuilder(load_processor(bundled_model(), {"frames"}))


def kept(reason: str) -> None:
    """A reason can be stored and printed: one line of characters."""
    assert reason
    assert reason.encode("utf-8").decode() == reason


def throw(error: BaseException) -> Any:
    raise error


def at_the_border(error: BaseException) -> None:
    with pytest.raises(MediaError) as caught, one_item():
        throw(error)
    assert isinstance(error, MediaError) or caught.value.__cause__ is error
    kept(reason_of(error))


@pytest.mark.parametrize("error", OF_THE_WHOLE, ids=repr)
def test_what_is_not_one_items_passes(error: BaseException) -> None:
    assert not is_of_one_item(error)
    with pytest.raises(type(error)), one_item():
        raise error


class _Throwing(File):
    """A file at which this is raised when it is hashed, probed or looked at."""

    def __init__(self, error: BaseException, where: str) -> None:
        super().__init__(Path("/v/a.mp4"))
        self._error, self._where = error, where

    def _once(self, name: str, read: Callable[[], Any]) -> Any:
        if name == self._where:
            raise self._error
        return "f" * 32 if name == "hash" else throw(MediaError("holds no video stream"))


def a_file_that_is_taken_in(error: BaseException, where: str, start: Any) -> None:
    item = Item(path=Path("/v/a.mp4"), start_s=start, end_s=start)
    question = outcomes.hashed(item, _Throwing(error, where), seconds=10)
    outcome = outcomes.outcome_of(question, Corpus())
    kept(outcome.problem.encode("utf-8", "backslashreplace").decode())


def a_row_of_a_table(tmp_path: Path, row: Any, name: str, split_key: str) -> None:
    table = Table(
        folder=Path("/v"), file=Path("/v/list.jsonl"), media_folder=tmp_path, rules=Rules(split_key=split_key)
    )
    for given in (row, {"video": name, "text": row, "start": row}, {name: row, "path": "a.mp4", "end_s": name}):
        found = table.of_row(given, "row 1")
        assert found
        assert all(item.problem or str(item.path).startswith("/") for item in found)


def a_file_of_rows(tmp_path: Path, content: bytes | str) -> None:
    file = tmp_path / "list.jsonl"
    file.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    for item in items(str(file), tmp_path / "media"):
        assert isinstance(item, Item)


def words_beside_a_video(content: bytes) -> None:
    for cue in parse_subtitles("00:00.000 --> 00:09.000\n" + content.decode("utf-8", "replace")):
        cue.text.encode("utf-8")


@pytest.fixture
def asking(make_workspace: Make) -> _Pass:
    workspace = make_workspace()
    model = AskedModel(folder=bundled_model(), settings=Model(engine="fake"))
    writer = Writer(model, Loader(), batch_size=4)
    prompt = load_prompt(prompt_file("caption", workspace.root))
    sampling = Asking(sampling=Sampling(max_new_tokens=8))
    return _Pass(workspace, writer, prompt, round=1, purpose="learn", asking=sampling)


def the_media_of_a_question(asking: _Pass, error: BaseException) -> None:
    tasks = [Task(clip_id="bad", prompt="?", media=lambda: throw(error)), Task(clip_id="good", prompt="?")]
    loaded = asking._load(tasks)
    assert isinstance(loaded["bad"], MediaError)
    assert loaded["good"] is None


def a_reply(asking: _Pass, text: str, token_ids: list[Any], logprobs: list[Any], keep: bool) -> None:
    given = failed(Request(key="k", clip=None, prompt=""), "")
    result = kept_or_failed(
        replace(given, text=text, token_ids=tuple(token_ids), logprobs=tuple(logprobs), finish="stop")
    )
    assert all(isinstance(token, int) and abs(token) < 2**31 for token in result.token_ids)
    result.text.encode("utf-8")
    asking._asking = replace(asking._asking, keep_unhealthy=keep)
    judged = asking._judge(_Job(task=Task(clip_id="a", prompt="?"), keys=("k",)), result)
    assert isinstance(judged, Reply | Unhealthy)
    str(judged if isinstance(judged, Unhealthy) else judged.text).encode("utf-8")


def a_kinds_reading(value: Any, text: str, name: str) -> None:
    key = kinds.get(name).schema_key
    schema = json.dumps({"type": "object", "required": [key], "properties": {key: {"multipleOf": 0.1}}}) if key else ""
    for reply in (text, as_json(value), as_json({key: value}), as_json({key: [{"text": value, "start_s": value}]})):
        with contextlib.suppress(Unusable):
            read = kinds.read(name, reply, schema=schema, duration_s=4.0)
            (read.text + read.payload).encode("utf-8")


def a_kind_of_another_package(error: BaseException) -> None:
    from flywheel.kinds import Kind
    from flywheel.kinds._reply import read_reply

    kind = Kind(name="theirs", read=lambda value, duration_s: throw(error))
    with pytest.raises((BrokenReply, MediaError)), one_item():
        read_reply(kind, "words", schema="", duration_s=math.inf)


class _Breaking(transformers._Engine):
    """A local engine whose model raises at one of its requests."""

    def __init__(self, error: BaseException) -> None:
        self._error, self._batch_size = error, 4

    def _batch(self, requests: Any, sampling: Sampling) -> list[Result]:
        if any(request.key == "2" for request in requests):
            raise self._error
        return [replace(failed(request, "words"), finish="stop") for request in requests]


def a_request_to_a_model(error: BaseException) -> None:
    requests = [Request(key=str(number), clip=None, prompt="?") for number in range(4)]
    results = {r.key: r for r in _Breaking(error).generate(requests, Sampling(max_new_tokens=8))}
    assert [results[str(number)].finish for number in range(4)] == ["stop", "stop", "error", "stop"]
    kept(results["2"].text)


def an_answer_of_a_server(answer: Any) -> None:
    request = Request(key="k", clip=None, prompt="?")
    choice = {
        "message": {"content": answer},
        "token_ids": answer,
        "logprobs": {"content": answer},
        "finish_reason": answer,
    }
    for body in (answer, {"choices": [choice], "usage": {"prompt_tokens": answer}}):
        with contextlib.suppress(NotAResult):
            kept_or_failed(result_of(request, body, 0.1))


_PROMPT = load_prompt(prompt_file("caption", Path()))


def collated(builder: InputBuilder, read: Callable[[str], ClipInput]) -> tuple[list[int], int]:
    """Rows that a batch of three holds, and how many were left out."""
    rows = [Example(clip_id=str(n), text=f"words {n}", prompt_texts={}, group="g") for n in range(3)]
    data = TrainingSet(examples=rows, input=read, prompt=_PROMPT, dropout={}, seed=0)
    collator = Collator(data, builder, {"g": 0}, None)
    batch = collator([0, 1, 2])
    assert len(batch["input_ids"]) == len(batch["row"])
    return batch["row"].tolist(), collator.reading.failed


def a_row_of_a_batch(builder: InputBuilder, error: BaseException) -> None:
    # About texts alone: pixels are many times the work.
    words = replace(_CLIP, frames_THWC=None, times_s=())
    assert collated(builder, lambda clip_id: throw(error) if clip_id == "1" else words) == ([0, 2], 1)


def test_a_text_that_a_tokenizer_does_not_take_has_no_length(builder: InputBuilder) -> None:
    rows = [Example(clip_id=text, text=text, prompt_texts={}, group="g") for text in ("one two", "\ud800", "one two")]
    assert text_lengths(rows, builder.tokenizer).tolist() == [3, 0, 3]


def test_pixels_that_a_processor_does_not_take(builder: InputBuilder) -> None:
    broken = replace(_CLIP, key="broken", frames_THWC=np.zeros((2, 0, 64, 3), np.uint8))
    assert collated(builder, lambda clip_id: broken if clip_id == "1" else _CLIP) == ([0, 2], 1)


_ENDINGS = (".csv", ".jsonl", ".json", ".vtt", ".srt", ".parquet")
_SHEETS = {
    ".csv": b"annotation_id,verdict,text,seconds\nt,edit,",
    ".jsonl": b'{"annotation_id": "t", "verdict": "edit", "text": "',
    ".json": b'[{"data": {"annotation_id": "t", "fps": 1, "start_s": 0, "model_text": ""}, "annotations": [',
    ".vtt": b"WEBVTT\n\nNOTE annotation t\n\n00:00.000 --> 00:01.000\n",
    ".srt": b"1\n00:00:00,000 --> 00:00:01,000\n",
    ".parquet": b"PAR1",
}


def a_file_of_corrections(tmp_path: Path, content: bytes, ending: str) -> None:
    target = _Target(clip_id="c", text="shown", payload="", kind="caption", duration_s=4.0)
    for given in (content, _SHEETS[ending] + content):
        file = tmp_path / f"t{ending}"
        file.write_bytes(given)
        with contextlib.suppress(UserError):
            for row in corrections.read_corrections(file):
                assert isinstance(corrected(row, {"t": target}, _Rules(max_chars=100)), Correction | str | None)


def a_correction(row: dict[str, Any], kind: str) -> None:
    target = _Target(clip_id="c", text="shown", payload="", kind=kind, duration_s=4.0)
    read = corrected(CorrectionRow(line=1, values=row), {"t": target}, _Rules(max_chars=100))
    if isinstance(read, Correction):
        (read.text + read.payload + read.refiner + read.reason).encode("utf-8")
        assert read.at <= datetime.now(UTC)
    else:
        assert read is None or isinstance(read, str)


def a_row_of_an_export(out: Path, error: BaseException, form: str, what: str, where: str) -> None:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    dropped: list[str] = []

    def film(path: Path) -> str:
        path.write_bytes(b"film")
        return ".mp4"

    class Broken(tuple[Cue, ...]):
        def __iter__(self) -> Iterator[Cue]:
            raise error

        def __bool__(self) -> bool:
            raise error

    good = [
        ExportRow(
            id=name,
            uri="/v/a.mp4",
            start_s=0.0,
            end_s=1.0,
            fps=25.0,
            split="train",
            text="words",
            source="model",
            round=1,
            annotation_id=name,
            cues=(),
            video=film,
        )
        for name in "ac"
    ]
    bad = replace(good[0], id="b", drop=dropped.append)
    if where == "video":
        bad = replace(bad, video=lambda path: throw(error))
    elif where == "cues":
        bad = replace(bad, cues=Broken())
    else:
        bad = replace(bad, text=f"{what}\ud800")
    exports.get(form).write(iter([good[0], bad, good[1]]), out)
    assert len(dropped) <= 1
    for reason in dropped:
        kept(reason)


@tried(
    error=errors,
    start=st.one_of(st.none(), numbers),
    what=st.sampled_from(["hash", "info", "transcript"]),
    form=st.sampled_from(exports.names()),
    where=st.sampled_from(["video", "cues", "text"]),
)
def test_whatever_an_item_throws(
    tmp_path: Path,
    asking: _Pass,
    builder: InputBuilder,
    error: BaseException,
    start: Any,
    what: str,
    form: str,
    where: str,
) -> None:
    at_the_border(error)
    a_file_that_is_taken_in(error, what, start)
    the_media_of_a_question(asking, error)
    a_kind_of_another_package(error)
    a_request_to_a_model(error)
    a_row_of_a_batch(builder, error)
    a_row_of_an_export(tmp_path / "out", error, form, what, where)


_ROW = st.fixed_dictionaries(
    {"annotation_id": st.just("t"), "verdict": st.sampled_from(["edit", "accept", "", "x"])},
    optional={name: st.one_of(values, texts) for name in ("text", "payload", "refiner", "reason", "seconds", "at")},
)


@tried(
    value=values,
    text=texts,
    number=numbers,
    row=_ROW,
    kind=st.sampled_from(["caption", "dense_caption", "qa", "tags"]),
    split_key=st.sampled_from(["file", "folder", "video", "text"]),
    keep=st.booleans(),
)
def test_whatever_an_item_holds(
    tmp_path: Path, asking: _Pass, value: Any, text: str, number: Any, row: Any, kind: str, split_key: str, keep: bool
) -> None:
    a_row_of_a_table(tmp_path, value, text, split_key)
    a_reply(asking, text, [1, number], [0.0, value], keep)
    a_reply(asking, as_json(value), [], [], keep)
    a_kinds_reading(value, text, kind)
    an_answer_of_a_server(value)
    a_correction(row, kind)


@tried(
    content=st.one_of(
        st.binary(max_size=80),
        texts.map(lambda text: text.encode("utf-8", "surrogatepass")),
        st.lists(values.map(as_json), max_size=3).map(lambda lines: "\n".join(lines).encode("utf-8", "surrogatepass")),
    ),
    ending=st.sampled_from(_ENDINGS),
)
def test_whatever_a_file_holds(tmp_path: Path, content: bytes, ending: str) -> None:
    a_file_of_rows(tmp_path, content)
    words_beside_a_video(content)
    a_file_of_corrections(tmp_path, content, ending)


#: The bundled model's marks around a question without a clip, and after its answer.
_TURNS = [1, 2, 1, 2]


@tried(foreign=texts)
def test_words_never_are_marks(builder: InputBuilder, foreign: str) -> None:
    encode, special = builder.tokenizer.encode, builder.tokenizer.added_tokens_decoder
    assert not [token for token in encode(builder.plain(foreign), add_special_tokens=False) if token in special]
    row = builder.row(None, foreign, foreign)
    assert [token for token in row.ids if token in special] == _TURNS
    assert builder.plain(builder.plain(foreign)) == builder.plain(foreign)
