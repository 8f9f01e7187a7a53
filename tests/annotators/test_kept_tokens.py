"""The log-probs of a text from which something was cut are those of its own tokens."""

from __future__ import annotations

from typing import Any

import pytest

from annotators.kept_tokens import of_kept_text
from flywheel.core.types import Generation
from flywheel.kinds import read
from flywheel.models.load import load_processor
from flywheel.playground.tiny import bundled_model


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_processor(bundled_model()).tokenizer


def generation(text: str, ids: list[int], cheap: str, tokenizer: Any) -> Generation:
    """A generation whose tokens have a log-prob of -0.25 from the first of the words ``cheap`` on, of -4 before."""
    begin = len(tokenizer.encode(text[: text.index(cheap)].rstrip(), add_special_tokens=False))
    return Generation(
        id="g",
        clip_id="c",
        prompt="p",
        model="m",
        adapter="",
        sampling="",
        candidate=0,
        text=text,
        token_ids=tuple(ids),
        logprobs=(-4.0,) * begin + (-0.25,) * (len(ids) - begin),
        tokens_in=1,
        tokens_out=len(ids),
        seconds=0.0,
        finish="stop",
    )


def test_thoughts_and_talk_do_not_count(tokenizer: Any) -> None:
    kept = "A red ball rolls left."
    for raw in (f"<think>I see it.</think> {kept}", f"Sure! {kept}", f"<think>né 狗</think>{kept}"):
        made = generation(raw, tokenizer.encode(raw, add_special_tokens=False), kept, tokenizer)
        left = of_kept_text(made, read("caption", raw), lambda: tokenizer)
        assert tokenizer.decode(list(left.token_ids)).strip() == kept
        assert left.mean_logprob == -0.25
        assert made.mean_logprob < -0.5
        assert left.id == made.id
        assert left.text == raw


def test_a_reply_whose_server_took_its_thoughts_apart(tokenizer: Any) -> None:
    kept = "A red ball rolls left."
    whole = f"<think>I see it.</think>\n\n{kept}"
    made = generation(whole, tokenizer.encode(whole, add_special_tokens=False), kept, tokenizer)
    joined = f"<think>I see it.\n</think>\n{kept}"
    left = of_kept_text(Generation(**{**vars(made), "text": joined}), read("caption", joined), lambda: tokenizer)
    assert left.mean_logprob == -0.25


def test_what_can_not_be_told_apart_has_none(tokenizer: Any) -> None:
    raw = "Sure! A red ball rolls left."
    made = generation(raw, tokenizer.encode(raw, add_special_tokens=False), "A red", tokenizer)
    reply = read("caption", raw)
    assert of_kept_text(made, reply, lambda: None).mean_logprob == 0.0
    other = Generation(**{**vars(made), "token_ids": made.token_ids[::-1]})
    assert of_kept_text(other, reply, lambda: tokenizer).mean_logprob == 0.0


def test_where_nothing_is_cut_nothing_changes(tokenizer: Any) -> None:
    raw = "A red ball rolls left."
    made = generation(raw, tokenizer.encode(raw, add_special_tokens=False), "A red", tokenizer)
    assert of_kept_text(made, read("caption", raw), lambda: pytest.fail("asked")) is made
