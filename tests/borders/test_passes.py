"""A pass, and a rerun, among items that throw anything: the others are written, each failure is one row, none is tried
for ever."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from annotators import Request, Result, Sampling
from annotators.asking import ask, ask_together
from annotators.interface import failed
from annotators.tasks import Asking, Task
from annotators.writer import AskedModel, Writer
from flywheel.core.config import Model
from flywheel.models.inputs import ClipInput, InputBuilder
from flywheel.models.load import load_processor
from flywheel.models.loader import Loader
from flywheel.models.prompt import load_prompt
from flywheel.playground.tiny import bundled_model
from flywheel.rounds import RoundContext
from flywheel.rounds.names import prompt_file
from flywheel.store import Workspace
from flywheel.store.claims import Claims
from tests.borders.anything import OF_ONE_ITEM, OF_THE_WHOLE

#: Replies that a server or a package can give, and whether they are a text that is kept.
_REPLIES: list[tuple[dict[str, Any], bool]] = [
    ({"text": "A ball \ud83d rolls."}, True),
    ({"text": "<|im_end|> rolls."}, True),
    ({"text": "A ball.\x00\u202e"}, True),
    ({"text": "\u3164\u115f"}, False),
    ({"text": "A ball.", "token_ids": (2**40,)}, False),
    ({"text": "A ball.", "token_ids": ("x",)}, False),
    ({"text": "A ball.", "logprobs": (None,)}, False),
    ({"text": "A ball.", "tokens_in": None}, False),
    ({"text": None}, False),
]


class _Odd:
    """An engine that says what is asked of it by number."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Result]:
        for request in requests:
            self.asked.append(request.key)
            given = _REPLIES[int(request.prompt)][0] if request.prompt.isdigit() else {"text": "A ball rolls."}
            yield replace(failed(request, ""), finish="stop", **given)

    def parts(self) -> list[_Odd]:
        return [self]

    def close(self) -> None: ...


def thrower(error: Any) -> Callable[[], Any]:
    def throw() -> Any:
        if isinstance(error, type):
            raise error("a\ud800\n")
        raise error

    return throw


@pytest.mark.slow
def test_a_pass_among_items_that_throw_anything(make_workspace: Callable[..., Workspace]) -> None:
    workspace = make_workspace("corpus.most_unreadable=1")
    writer = Writer(AskedModel(folder=bundled_model(), settings=Model(engine="fake")), Loader(), batch_size=4)
    engine = _Odd()
    writer._engine = engine
    throwing = [Task(clip_id=f"throws-{kind.__name__}", prompt="?", media=thrower(kind)) for kind in OF_ONE_ITEM]
    replying = [Task(clip_id=f"says-{number}", prompt=str(number)) for number in range(len(_REPLIES))]
    good = [Task(clip_id=f"good-{number}", prompt="?") for number in range(4)]
    tasks = [task for group in (good[:2], throwing, replying, good[2:]) for task in group]
    prompt = load_prompt(prompt_file("caption", workspace.root))
    asking = Asking(sampling=Sampling(max_new_tokens=8), max_tries=1, batch_size=4)

    def run() -> int:
        with workspace.lock():
            return ask(workspace, iter(tasks), writer, prompt, round=1, asking=asking).rejected

    kept = {*(task.clip_id for task in good), *(f"says-{n}" for n, (_, is_kept) in enumerate(_REPLIES) if is_kept)}
    assert run() == len(tasks) - len(kept)
    assert set(workspace.annotations(round=1)["clip_id"]) == kept
    rejected = workspace.rejected(round=1)
    assert set(rejected["clip_id"]) == {task.clip_id for task in tasks} - kept
    assert all(rejected["reason"])
    before = len(engine.asked)
    assert run() == 0
    assert len(engine.asked) == before
    assert workspace.rejected(round=1).height == rejected.height


@pytest.mark.parametrize("error", OF_THE_WHOLE[2:], ids=repr)
def test_what_is_the_wholes_ends_a_pass_and_keeps_what_is_done(
    make_workspace: Callable[..., Workspace], error: BaseException
) -> None:
    workspace = make_workspace()
    writer = Writer(AskedModel(folder=bundled_model(), settings=Model(engine="fake")), Loader(), batch_size=4)
    writer._engine = _Odd()
    tasks = [Task(clip_id=f"good-{number}", prompt="?") for number in range(20)]
    tasks.append(Task(clip_id="ends", prompt="?", media=thrower(error)))
    prompt = load_prompt(prompt_file("caption", workspace.root))
    asking = Asking(sampling=Sampling(max_new_tokens=8), batch_size=4, decoders=1)
    with workspace.lock(), pytest.raises(type(error)):
        ask(workspace, iter(tasks), writer, prompt, round=1, asking=asking)
    assert workspace.annotations(round=1).height >= 8
    assert workspace.rejected(round=1).height == 0


def test_a_wait_for_other_processes_is_no_time_of_the_engine(make_workspace: Callable[..., Workspace]) -> None:
    workspace = make_workspace()
    other, mine = (Claims(workspace, "1:caption", 8, size=4, lease_s=lease_s) for lease_s in (0.5, 60.0))
    assert other._take(1), "the second part is another's until its lease has run out"
    writer = Writer(AskedModel(folder=bundled_model(), settings=Model(engine="fake")), Loader(), batch_size=4)
    prompt = load_prompt(prompt_file("caption", workspace.root))
    tasks = [Task(clip_id=f"good-{number}", prompt="?") for number in range(8)]
    asking = Asking(sampling=Sampling(max_new_tokens=8), batch_size=4)
    with writer, workspace.lock():
        made = ask_together(workspace, lambda part: tasks[part], mine, writer, prompt, round=1, asking=asking)
    assert made.written == 8
    assert made.engine_s < 0.25
    assert made.busy_share < 0.5


def test_a_clip_that_a_processor_does_not_take_is_left_out_of_what_is_measured(
    make_workspace: Callable[..., Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = RoundContext(make_workspace())
    frames = {"good": np.zeros((2, 64, 64, 3), np.uint8), "flat": np.zeros((2, 0, 64, 3), np.uint8)}
    about = {"duration_s": 2.0, "fps": 1.0, "times_s": (0.0, 1.0)}
    monkeypatch.setattr(context, "input", lambda name: ClipInput(key=name, frames_THWC=frames[name], **about))
    builder = InputBuilder(load_processor(bundled_model(), {"frames"}))
    assert [clip.key for clip in context.readable(["flat", "good", "flat"], builder)] == ["good"]
