"""What a server's answer says: the text of its message, its tokens with their log-probs, and how it ended."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from annotators.interface import Request, Result, failed

#: Ends that servers name, and ours.
_STOPPED = frozenset({"stop", "eos", "eos_token", "end_turn", "stop_sequence", "tool_calls", "function_call"})
_CUT_OFF = frozenset({"length", "max_tokens", "max_output_tokens", "model_length"})


#: What values of another form than they should have raise.
_OTHER_FORM = (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)


class NotAResult(Exception):
    """An answer that is none; its message says what is missing."""


class NoTokens(NotAResult):
    """An answer without token ids or log-probs, which this server may give to nobody."""


def result_of(request: Request, answer: Any, seconds: float) -> Result:
    """The result in an answer of ``/v1/chat/completions``. Raises NotAResult where it can't be read."""
    try:
        choice = answer["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        text = text_of(message)
        tokens_in = int((answer.get("usage") or {}).get("prompt_tokens") or 0)
    except _OTHER_FORM as error:
        raise NotAResult(f"an answer without {error}") from error
    if finish == "content_filter":
        return failed(request, "the server's filter kept the answer back (content_filter)")
    if not isinstance(finish, str) or finish not in _STOPPED | _CUT_OFF:
        raise NotAResult(f"its answer has no end (finish_reason {str(finish)[:80]})")
    token_ids, logprobs = _tokens(choice)
    return Result(
        key=request.key,
        text=text,
        token_ids=token_ids,
        logprobs=logprobs,
        tokens_in=tokens_in,
        finish="stop" if finish in _STOPPED else "length",
        seconds=seconds,
    )


def text_of(message: Mapping[str, Any]) -> str:
    """The words of a message as the model wrote them; thoughts that the server took apart stand in their marks."""
    content = message.get("content")
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict) and part.get("type") in ("text", "output_text")]
        content = "".join(str(part.get("text") or "") for part in parts)
    if content is None:
        content = message.get("refusal") or ""
    if not isinstance(content, str):
        raise TypeError("a message whose content is a text")
    if message.get("tool_calls") or message.get("function_call"):
        calls = message.get("tool_calls") or message["function_call"]
        content = f"{content}\n<tool_call>\n{json.dumps(calls, ensure_ascii=False)}\n</tool_call>"
    thoughts = message.get("reasoning_content") or message.get("reasoning")
    return f"<think>{thoughts}</think>\n\n{content}" if isinstance(thoughts, str) and thoughts.strip() else content


def _tokens(choice: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    try:
        ids, noted = choice.get("token_ids"), (choice.get("logprobs") or {}).get("content")
    except AttributeError as error:
        raise NotAResult(f"log-probs of another form ({error})") from error
    if ids is None or noted is None:
        missing = [what for what, there in (("token ids", ids), ("log-probs", noted)) if there is None]
        raise NoTokens(f"no {' and no '.join(missing)}")
    try:
        token_ids, logprobs = tuple(int(i) for i in ids), tuple(float(entry["logprob"]) for entry in noted)
    except _OTHER_FORM as error:
        raise NotAResult(f"an answer without {error}") from error
    if len(token_ids) != len(logprobs) or not all(map(math.isfinite, logprobs)):
        raise NotAResult(f"{len(logprobs)} log-probs, or such as are no numbers, for {len(token_ids)} tokens")
    return token_ids, logprobs
