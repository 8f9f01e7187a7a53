"""The log-probs of a text from which something was cut are those of its own tokens."""

from __future__ import annotations

import itertools
import random
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, normalizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from annotators.kept_tokens import _edges, of_kept_text
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


def with_words() -> Any:
    """A tokenizer of the other family: spaces begin words, bytes stand in for unknown characters, marks are tidied."""
    words = ["<s>", *(f"<0x{byte:02X}>" for byte in range(256)), *"▁abnst.,'!é"]
    model = BPE(vocab={word: number for number, word in enumerate(words)}, merges=[], byte_fallback=True)
    plain = Tokenizer(model)
    plain.normalizer = normalizers.Replace(" ", "▁")
    plain.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=plain, bos_token="<s>", clean_up_tokenization_spaces=True)


def texts(tokenizer: Any, rng: random.Random) -> list[list[int]]:
    """Tokens of random texts with characters of one to four bytes."""
    parts = [*"ab .,'nt", " n't", " 's", " a. ", "é", "狗 ", "😀 ", "👩‍", "Жb", "ع\n", "\ufffd "]
    return [tokenizer.encode("".join(rng.choices(parts, k=60)), add_special_tokens=False) for _ in range(8)]


def nonsense(tokenizer: Any, rng: random.Random) -> list[list[int]]:
    """Random tokens, those that are no whole characters, one of these for ever, and marks among others."""
    some = [rng.choices(range(len(tokenizer)), k=40) for _ in range(4)]
    broken = [i for i in range(len(tokenizer)) if "\ufffd" in tokenizer.decode([i])]
    some += [rng.choices(broken, k=60) for _ in range(4)] + [rng.choices(broken, k=1) * 50 for _ in range(3)]
    marks = tokenizer.all_special_ids
    return [*some, [i for part in zip(some[0], rng.choices(marks, k=40), strict=True) for i in part]]


@pytest.mark.parametrize("family", ["bytes", "words"])
def test_where_tokens_end_is_what_all_beginnings_say(tokenizer: Any, family: str) -> None:
    one, rng = tokenizer if family == "bytes" else with_words(), random.Random(f"{family} 1")
    for ids in texts(one, rng) + (nonsense(one, rng) if family == "bytes" else []):
        beginnings = one.batch_decode([ids[:count] for count in range(len(ids) + 1)], skip_special_tokens=True)
        # Where bytes stand in for characters, half a one breaks those before it too, until it is whole.
        wanted = itertools.accumulate((len(text.rstrip("\ufffd")) for text in beginnings), max)
        assert _edges(ids, one) == list(wanted)


def test_where_tokens_end_is_seen_in_linear_time(tokenizer: Any) -> None:
    decoded: list[int] = []

    def decode(ids: list[int], **options: Any) -> str:
        decoded.append(len(ids))
        return str(tokenizer.decode(ids, **options))

    counting = SimpleNamespace(all_special_ids=tokenizer.all_special_ids, decode=decode)
    stray = next(i for i in range(len(tokenizer)) if tokenizer.decode([i]) == "\ufffd")
    for ids in (tokenizer.encode("A 狗 runs left. 😀 " * 60, add_special_tokens=False), [stray] * 600):
        decoded.clear()
        _edges(ids, counting)
        assert sum(decoded) < 60 * len(ids)
