"""Frames and prompts into tensors, in one place for training, scoring and generation.

Shape suffixes: B clips, S tokens, T frames, H and W pixels.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flywheel.core.errors import UserError, first_line
from flywheel.core.patience import within
from flywheel.core.timing import frame_index, uniform_times
from flywheel.core.types import Clip
from flywheel.models.kept import Entry, KeptPixels
from flywheel.models.marks import Marks

IGNORED = -100
#: Sample rate at which models hear.
SOUND_RATE_HZ = 16_000
#: A published chat template writes a conversation in a millisecond.
_TEMPLATE_S = 20.0


@dataclass(frozen=True, kw_only=True)
class ClipInput:
    """A clip as a model gets it: frames, sound, both, or neither for a question about text alone.

    ``frames_THWC`` is uint8 RGB, with the times (seconds from the clip's start) of each; ``sound`` float32 mono samples
    in [-1, 1] at :data:`SOUND_RATE_HZ`. ``duration_s`` in seconds, ``fps`` the video's mean rate.
    """

    key: str
    duration_s: float
    fps: float
    frames_THWC: NDArray[np.uint8] | None = None
    times_s: tuple[float, ...] = ()
    sound: NDArray[np.float32] | None = None

    def metadata(self) -> dict[str, Any]:
        """The facts that transformers' and vLLM's video processors want of frames that are already chosen.

        Raises ValueError for an input without frames.
        """
        if self.frames_THWC is None:
            raise ValueError(f"{self.key}: has no frames")
        total = max(len(self.times_s), frame_index(self.duration_s, self.fps))
        return {
            "fps": self.fps,
            "duration": self.duration_s,
            "total_num_frames": total,
            "frames_indices": [min(frame_index(t, self.fps), total - 1) for t in self.times_s],
            "width": int(self.frames_THWC.shape[2]),
            "height": int(self.frames_THWC.shape[1]),
        }


@dataclass(frozen=True, kw_only=True)
class InputRow:
    """One row of a batch: token ids, of which ``num_prompt`` are the prompt's and the rest the target's, and pixels."""

    ids: list[int]
    num_prompt: int
    tensors: dict[str, Any]


def clip_input(
    clip: Clip,
    frames_THWC: NDArray[np.uint8] | None = None,
    times_s: Sequence[float] = (),
    sound: NDArray[np.float32] | None = None,
) -> ClipInput:
    """The clip's frames at these times (seconds of the file) and its sound, as a model's input.

    A single frame is shown twice, as models want pairs.
    """
    relative = tuple(t - clip.start_s for t in times_s)
    if frames_THWC is not None and len(relative) == 1:
        frames_THWC, relative = np.repeat(frames_THWC, 2, axis=0), relative * 2
    return ClipInput(
        key=clip.id,
        duration_s=clip.duration_s,
        fps=clip.fps,
        frames_THWC=frames_THWC,
        times_s=relative,
        sound=sound,
    )


def clip_times(clip: Clip, count: int, sampling: str, fps: float) -> list[float]:
    """Times (seconds of the file) at which frames of a clip are taken."""
    if sampling == "fps":
        count = min(count, max(1, round(clip.duration_s * fps)))
    return uniform_times(clip.start_s, clip.end_s, count)


class InputBuilder:
    """Builds a processor's inputs. Pixels are processed once per clip and kept, since a trainer shows them many times.

    The kept path tokenizes text around a span of video tokens that the processor gave for this clip alone. It is used
    only where it was seen to equal the processor's own result on the first clip; else every batch takes the full path.
    """

    def __init__(self, processor: Any, *, keep_bytes: int = 2 << 30) -> None:
        """``keep_bytes`` is the most that kept pixels may take."""
        self.processor = processor
        # A text model's processor is its tokenizer.
        self.tokenizer = getattr(processor, "tokenizer", processor)
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self._kept = KeptPixels(keep_bytes)
        self._marks = Marks.of(processor)
        self._thread, self._others = threading.get_ident(), threading.local()
        self._video_token = getattr(processor, "video_token", None) or "<video>"
        self._video_token_id = self.tokenizer.convert_tokens_to_ids(self._video_token)
        self._fast: bool | None = None

    def of_thread(self) -> InputBuilder:
        """This builder in the thread that made it; in another one that thread's own, with the same kept pixels.

        A tokenizer can't be called from two threads at once.
        """
        if threading.get_ident() == self._thread:
            return self
        builder: InputBuilder | None = getattr(self._others, "builder", None)
        if builder is None:
            builder = copy.copy(self)
            builder.processor = copy.deepcopy(self.processor)
            builder.tokenizer = getattr(builder.processor, "tokenizer", builder.processor)
            self._others.builder = builder
        return builder

    def plain(self, text: str) -> str:
        """Text from outside as the model gets it: nothing within it is a mark of the model's (:class:`Marks`)."""
        return self._marks.plain(text)

    def chat(
        self, prompt: str, *, frames: bool = True, sound: bool = False, earlier: Sequence[tuple[str, str]] = ()
    ) -> str:
        """The conversation up to where the model begins to write, with places for the media that go along.

        ``earlier`` are turns (question, answer) before the prompt; the media stand in the first. All of it holds words
        of transcripts and of models: it is taken as :meth:`plain` text.
        """
        messages = self._messages(prompt, [{"type": "video"}] * frames + [{"type": "audio"}] * sound, earlier)
        from jinja2 import TemplateError

        def rendered() -> str:
            return str(self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

        try:
            return within(_TEMPLATE_S, rendered)
        except TimeoutError as error:
            raise UserError(
                f"the model's chat template can't be used (it takes longer than {_TEMPLATE_S:g} s). Take another model."
            ) from error
        except (TemplateError, RecursionError, OverflowError, MemoryError) as error:
            # Its sandbox refuses what reaches for Python itself, and lets loops run within loops.
            raise UserError(f"the model's chat template can't be used ({first_line(error)}).") from error

    def _messages(
        self, prompt: str, media: list[dict[str, str]], earlier: Sequence[tuple[str, str]]
    ) -> list[dict[str, Any]]:
        """Turns of user and assistant, the last one the prompt."""
        messages: list[dict[str, Any]] = []
        for question, answer in (*earlier, (prompt, None)):
            shown = [] if messages else media
            messages.append({"role": "user", "content": self._content(question, shown)})
            if answer is not None:
                messages.append({"role": "assistant", "content": self._content(answer, [])})
        return messages

    def _content(self, text: str, media: list[dict[str, str]]) -> Any:
        if not hasattr(self.processor, "tokenizer"):
            # A text model's template takes plain text.
            return self.plain(text)
        return [*media, {"type": "text", "text": self.plain(text)}]

    def chat_for(self, clip: ClipInput | None, prompt: str, earlier: Sequence[tuple[str, str]] = ()) -> str:
        """The conversation about this input, after ``earlier`` turns; None is a question about text alone.

        Raises ValueError for a sound that is longer than the model's processor takes: it would cut it without a word.
        """
        self._check_length(clip)
        frames = clip is not None and clip.frames_THWC is not None
        sound = clip is not None and clip.sound is not None
        return self.chat(prompt, frames=frames, sound=sound, earlier=earlier)

    def _check_length(self, clip: ClipInput | None) -> None:
        most = getattr(getattr(self.processor, "feature_extractor", None), "n_samples", None)
        defaults = getattr(getattr(self.processor, "valid_processor_kwargs", None), "_defaults", {})
        if defaults.get("audio_kwargs", {}).get("truncation") is False:
            # It takes long sound in parts.
            return
        if clip is not None and clip.sound is not None and most is not None and len(clip.sound) > most:
            raise ValueError(
                f"{len(clip.sound) / SOUND_RATE_HZ:.1f} s of sound are more than the {most / SOUND_RATE_HZ:.1f} s that "
                "the model hears at a time; take in shorter clips, or choose another model"
            )

    def ending(self) -> str:
        """What follows the model's words: its end mark."""
        return str(self.tokenizer.eos_token)

    def build(
        self, clips: Sequence[ClipInput | None], prompts: Sequence[str], targets: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Tensors for B clips: ``input_ids`` (B, S) and the rest;
        with ``targets`` also ``labels`` (B, S), -100 elsewhere.

        Padded left for generation (no targets), right for training. The inputs of a batch are of one form. Prompts and
        targets are taken as :meth:`plain` text.
        """
        given = targets if targets is not None else [None] * len(prompts)
        return self.batch([self.row(*row) for row in zip(clips, prompts, given, strict=True)])

    def row(
        self,
        clip: ClipInput | None,
        prompt: str,
        target: str | None = None,
        earlier: Sequence[tuple[str, str]] = (),
    ) -> InputRow:
        """One clip's part of a batch, by itself: what it raises is of this clip. ``earlier`` as :meth:`chat` has it."""
        return self._with_target(self._row(clip, self.chat_for(clip, prompt, earlier)), target)

    def _with_target(self, prompted: Entry, target: str | None) -> InputRow:
        ids, tensors = prompted
        if target is None:
            return InputRow(ids=list(ids), num_prompt=len(ids), tensors=tensors)
        words = self.tokenizer.encode(self.plain(target), add_special_tokens=False)
        return InputRow(ids=[*ids, *words, self.tokenizer.eos_token_id], num_prompt=len(ids), tensors=tensors)

    def kept_row(self, key: str, prompt: str, target: str, earlier: Sequence[tuple[str, str]] = ()) -> InputRow | None:
        """:meth:`row` of a clip of frames alone, by its key, without reading it; None where its pixels are not kept."""
        if not self._fast or (entry := self._kept.get(key)) is None:
            return None
        return self._with_target(self._around(entry, self.chat(prompt, earlier=earlier)), target)

    def batch(self, rows: Sequence[InputRow]) -> dict[str, Any]:
        """Rows as one batch, as :meth:`build` gives it; all with a target, or none."""
        import torch

        ids = [row.ids for row in rows]
        left = all(row.num_prompt == len(row.ids) for row in rows)
        length = max(len(row) for row in ids)

        def padded(values: list[list[int]], fill: int) -> Any:
            return torch.tensor(
                [[fill] * (length - len(v)) + v if left else v + [fill] * (length - len(v)) for v in values]
            )

        out: dict[str, Any] = {
            "input_ids": padded(ids, self.tokenizer.pad_token_id),
            "attention_mask": padded([[1] * len(row) for row in ids], 0),
        }
        if not left:
            labels = [[IGNORED] * row.num_prompt + row.ids[row.num_prompt :] for row in rows]
            out["labels"] = padded(labels, IGNORED)
        for name in rows[0].tensors:
            out[name] = joined([row.tensors[name] for row in rows])
        if "mm_token_type_ids" in getattr(self.processor, "model_input_names", ()):
            out["mm_token_type_ids"] = 2 * (out["input_ids"] == self._video_token_id).int()
        return out

    def _row(self, clip: ClipInput | None, chat: str) -> Entry:
        if clip is None or clip.frames_THWC is None or clip.sound is not None:
            # Sound lies between the video and the text in ways that differ from model to model.
            return self._full(clip, chat)
        if self._fast is None:
            self._fast = self._agrees(clip, chat)
        return self._around_video(clip, chat) if self._fast else self._full(clip, chat)

    def _around_video(self, clip: ClipInput, chat: str) -> Entry:
        return self._around(self._video(clip), chat)

    def _around(self, entry: Entry, chat: str) -> Entry:
        span, tensors = entry
        before, after = chat.split(self._video_token)
        encode = self.tokenizer.encode
        return encode(before, add_special_tokens=False) + span + encode(after, add_special_tokens=False), tensors

    def _video(self, clip: ClipInput) -> Entry:
        entry = self._kept.get(clip.key)
        if entry is None:
            entry = self._full(clip, self._video_token)
            self._kept.put(clip.key, entry)
        return entry

    def _full(self, clip: ClipInput | None, text: str) -> Entry:
        if self.processor is self.tokenizer:
            return self.tokenizer.encode(text, add_special_tokens=False), {}
        media: dict[str, Any] = {}
        if clip is not None and clip.frames_THWC is not None:
            media |= {"videos": [clip.frames_THWC], "video_metadata": [clip.metadata()], "do_sample_frames": False}
        if clip is not None and clip.sound is not None:
            media |= {"audio": [clip.sound], "sampling_rate": SOUND_RATE_HZ}
        out = self.processor(text=[text], return_tensors="pt", **media)
        ids = out.pop("input_ids")[0].tolist()
        text_only = ("attention_mask", "mm_token_type_ids", "token_type_ids")
        return ids, {k: v for k, v in out.items() if k not in text_only and hasattr(v, "numel")}

    def _agrees(self, clip: ClipInput, chat: str) -> bool:
        if chat.count(self._video_token) != 1:
            return False
        return self._around_video(clip, chat)[0] == self._full(clip, chat)[0]


def joined(tensors: list[Any]) -> Any:
    """Along the first axis; where other axes differ (videos of unequal length) zero-padded at their end."""
    import torch

    shapes = {tuple(t.shape[1:]) for t in tensors}
    if len(shapes) > 1:
        most = [max(sizes) for sizes in zip(*shapes, strict=True)]
        grown = []
        for tensor in tensors:
            room = tensor.new_zeros((tensor.shape[0], *most))
            room[tuple(slice(0, n) for n in tensor.shape)] = tensor
            grown.append(room)
        tensors = grown
    return torch.cat(tensors, dim=0)
