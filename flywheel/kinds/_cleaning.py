"""From a model's raw reply to its own words: thoughts, marks, talk and formatting are cut, and named.

What was cut is known by its place in the raw reply, so that the log-probs of what stays can be told from the others.
"""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from typing import Any

from flywheel.core.foreign import parsed_json
from flywheel.kinds import _fences as fences
from flywheel.kinds import _marks as marks
from flywheel.kinds import _talk as talk
from flywheel.kinds._cutting import Cutting, Span
from flywheel.kinds._markdown import cut_markdown
from flywheel.kinds._parsing import BrokenReply, Unusable

#: Keys under which a structure holds the one text that was asked for.
_TEXT_KEYS = (
    *("caption", "description", "text", "answer", "final_answer", "response", "summary", "output", "content", "result"),
    *("video_caption", "video_description", "detailed_caption", "short_caption", "reply", "sentence", "transcript"),
)
_BLANKS = re.compile(r"(?<=\s{4})\s+")
_QUOTES = {'"': '"', "“": "”", "«": "»", "„": "“", "「": "」", "『": "』", "‘": "’", "'": "'"}
_BROKEN = re.compile("\ufffd+")
_BROKEN_WORD = re.compile(r"(?<=[^\W\d_])\ufffd+(?=[^\W\d_])")
#: So many times is the beginning looked at again after something was cut there.
_MOST_TURNS = 8


class Thinking(Unusable):
    """A reply that never leaves its thoughts."""

    name = "thinking"


class ToolCall(Unusable):
    """A reply that calls a tool."""

    name = "tool call"


class Damaged(Unusable):
    """A reply of which words are broken by characters that were lost."""

    name = "broken characters"


@dataclass(frozen=True, kw_only=True)
class Cleaned:
    """What is left of a reply, the names of what was cut, and the spans of the raw reply that are left."""

    text: str
    cut: tuple[str, ...]
    kept: tuple[Span, ...]


def cleaned(raw: str) -> Cleaned:
    """A plain text's own words. Raises Unusable where there are none, BrokenReply for a structure without one text."""
    reply = Cutting(raw)
    _cut_marks(reply)
    for _ in range(_MOST_TURNS):
        before = reply.text
        _cut_talk(reply)
        _cut_around(reply)
        if (inner := _text_of_structure(reply)) is not None:
            return inner
        if reply.text == before:
            break
    cut_markdown(reply)
    _cut_quotes(reply)
    _cut_broken(reply)
    return Cleaned(text=reply.text, cut=tuple(reply.names), kept=reply.kept)


def cleaned_structure(raw: str) -> tuple[Any, Cleaned]:
    """The JSON value of a reply, with or without a fence and talk around it.

    Raises Unusable where there are only thoughts or a tool call, BrokenReply where there is no JSON value.
    """
    reply = Cutting(raw)
    _cut_marks(reply)
    problem: ValueError | None = None
    for candidate in _candidates(reply.text):
        start, end = candidate
        try:
            value = parsed_json(reply.text[start:end])
        except ValueError as error:
            problem = problem or error
            continue
        outside = (reply.text[:start] + reply.text[end:]).replace("`", " ").split()
        reply.cut("talk" if outside not in ([], ["json"], ["JSON"]) else "form", [(0, start), (end, len(reply.text))])
        return value, Cleaned(text=reply.text, cut=tuple(reply.names), kept=reply.kept)
    raise BrokenReply(f"the reply is not JSON ({problem})")


def without_marks(raw: str) -> str:
    """The reply with all marks cut and all words kept, thoughts too: for what is measured as it is."""
    reply = Cutting(raw)
    for pattern in (marks.THOUGHTS, marks.CHANNEL, marks.TURN_HEAD, marks.END_OF_TURN, marks.OTHER):
        reply.cut_all("marks", pattern, gap=True)
    cut_markdown(reply)
    return reply.text


def cleaned_words(text: str) -> str:
    """One text out of a structure, without thoughts, marks and formatting. Raises Unusable where no words are left."""
    reply = Cutting(text)
    _cut_marks(reply)
    cut_markdown(reply)
    _cut_broken(reply)
    return reply.text


def _cut_marks(reply: Cutting) -> None:
    reply.cut("", [match.span() for match in _BLANKS.finditer(reply.text)])
    _cut_channels(reply)
    _cut_thoughts(reply)
    if marks.TOOL_CALL.search(reply.text):
        raise ToolCall("the model called a tool instead of answering")
    reply.cut_all("marks", marks.PLACES)
    if (head := marks.TURN_HEAD.match(reply.text.lstrip())) is not None:
        reply.cut("marks", [(0, len(reply.text) - len(reply.text.lstrip()) + head.end())])
    for end in marks.END_OF_TURN.finditer(reply.text):
        if reply.text[: end.start()].strip():
            # What follows is another turn, which nobody asked for.
            reply.cut("marks", [(end.start(), len(reply.text))])
            break
    for pattern in (marks.TURN_HEAD, marks.END_OF_TURN, marks.OTHER):
        if pattern is not marks.OTHER or marks.AROUND.search(reply.text) is None:
            reply.cut_all("marks", pattern, gap=True)


def _cut_channels(reply: Cutting) -> None:
    channels = list(marks.CHANNEL.finditer(reply.text))
    if channels:
        final = [match for match in channels if match["name"].lower() == "final"]
        if not final:
            if marks.TOOL_CALL.search(reply.text):
                raise ToolCall("the model called a tool instead of answering")
            raise Thinking("the reply never leaves its thoughts (no final channel)")
        reply.cut("thoughts" if len(channels) > 1 else "marks", [(0, final[-1].end())])
    elif (bare := marks.BARE_CHANNELS.match(reply.text)) is not None:
        reply.cut("thoughts", [(0, bare.end())])
    elif marks.BARE_THOUGHTS.match(reply.text) or (marks.MONOLOGUE.match(reply.text) and "</" not in reply.text):
        raise Thinking("the reply never leaves its thoughts")


def _cut_thoughts(reply: Cutting) -> None:
    """Cut what stands between marks of thoughts, and all before an end that has no begin."""
    spans: list[Span] = []
    depth, began, last = 0, 0, -1
    for match in marks.THOUGHTS.finditer(reply.text):
        if match["open"] is not None:
            began = match.start() if depth == 0 else began
            depth += 1
        elif depth:
            depth -= 1
            if depth == 0:
                spans.append((began, match.end()))
        else:
            # Its begin stands in the prompt, as some templates have it.
            spans = [(0, match.end())]
        last = match.end()
    if depth and last >= 0:
        raise Thinking("the reply never leaves its thoughts; raise max_new_tokens, or let the model not think")
    reply.cut("thoughts", spans, gap=True)
    if spans and not reply.text.strip():
        raise Unusable("the model wrote nothing but its thoughts")


def _cut_talk(reply: Cutting) -> None:
    for pattern in (talk.FINAL, talk.REASONED, talk.LEADING, talk.HEADING):
        if (found := pattern.match(reply.text)) is not None:
            reply.cut("talk", [(0, found.end())])
    if (found := talk.TRAILING.search(reply.text)) is not None and reply.text[: found.start()].strip():
        reply.cut("talk", [found.span()])


def _cut_around(reply: Cutting) -> None:
    """Cut a fence or a pair of tags that stand around the answer."""
    if (inner := fences.around(reply.text)) is not None and "```" not in reply.text[slice(*inner)]:
        reply.cut("form", [(0, inner[0]), (inner[1], len(reply.text))])
    found = [tags for tags in marks.AROUND.finditer(reply.text) if tags[_group_of(tags)].strip()]
    answers = [tags for tags in found if (tags["tag"] or "answer").lower() in _ANSWERS]
    # Other tags around a part alone are formatting: the rest is the answer too.
    if answers or (found and found[0].start() == 0):
        tags = answers[-1] if answers else found[0]
        reply.keep("marks", tags, _group_of(tags))
    reply.cut_all("marks", marks.OTHER, gap=True)
    _cut_quotes(reply)


_ANSWERS = frozenset({"answer", "final_answer", "final", "response", "conclusion"})


def _group_of(tags: re.Match[str]) -> str:
    return next(name for name in ("inner", "box", "cohere", "apriel", "boxed") if tags[name] is not None)


def _cut_quotes(reply: Cutting) -> None:
    """Cut quotes that stand around the whole text."""
    text = reply.text
    start, end = len(text) - len(text.lstrip()), len(text.rstrip())
    if end - start < 3 or (closing := _QUOTES.get(text[start])) is None or text[end - 1] != closing:
        return
    inside = text[start + 1 : end - 1]
    if text[start] in inside or closing in inside or not inside.strip():
        return
    reply.cut("quotes", [(start, start + 1), (end - 1, end)])


def _cut_broken(reply: Cutting) -> None:
    """Cut characters that were lost on the way. Raises Damaged where words are broken by them."""
    if "\ufffd" not in reply.text:
        return
    lost = reply.text.count("\ufffd")
    if _BROKEN_WORD.search(reply.text) or lost > max(4, 0.05 * len(reply.text)):
        raise Damaged(f"{lost} characters of the reply were lost (\ufffd)")
    reply.cut_all("broken characters", _BROKEN)


def _text_of_structure(reply: Cutting) -> Cleaned | None:
    """The one text of a reply that is a structure; None where it is none. Raises BrokenReply for one without."""
    text = reply.text.strip()
    if not (text.startswith(("{", "[{", '["', "['", "[\n")) and text.endswith(("}", "]"))):
        if text.startswith(('{"', "{\n")):
            raise BrokenReply("the reply is a structure that was not ended, no text")
        return None
    try:
        value = parsed_json(text)
    except ValueError:
        try:
            value = ast.literal_eval(text) if len(text) < 20_000 else None
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            value = None
    if (value is None and text[0] == "[") or (isinstance(value, list) and not any(map(_holds_text, value))):
        # Such as a sound in brackets.
        return None
    if isinstance(value, dict) and _calls_a_tool({str(key) for key in value}):
        raise ToolCall("the model called a tool instead of answering")
    words = _only_text(value)
    if words is None:
        raise BrokenReply("the reply is a structure, no text")
    literal = json.dumps(words, ensure_ascii=False)[1:-1]
    if (start := reply.text.find(literal)) >= 0:
        reply.cut("form", [(0, start), (start + len(literal), len(reply.text))])
    elif "form" not in reply.names:
        reply.names.append("form")
    inner = cleaned(words)
    names = tuple(dict.fromkeys((*reply.names, *inner.cut)))
    return Cleaned(text=inner.text, cut=names, kept=reply.kept)


def _holds_text(value: Any) -> bool:
    return isinstance(value, str | dict)


def _calls_a_tool(keys: set[str]) -> bool:
    named = "name" in keys and keys & {"arguments", "parameters"}
    return bool(named or keys & {"tool_calls", "tool_call", "function_call", "function", "tool"})


def _only_text(value: Any) -> str | None:
    """The one text that a structure holds; None where it holds none, or several."""
    if isinstance(value, list):
        return _only_text(value[0]) if len(value) == 1 else None
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        return None
    by_key = {str(key).lower().replace(" ", "_").replace("-", "_"): v for key, v in value.items()}
    for key in _TEXT_KEYS:
        if isinstance(by_key.get(key), str):
            return str(by_key[key])
    return None


def _candidates(text: str) -> list[Span]:
    """Where the JSON value of a reply may stand: all of it, between fences, or between talk; the likeliest first."""
    out = [_stripped(text, 0, len(text))]
    if (fenced := fences.around(text)) is not None:
        out.append(_stripped(text, *fenced))
    inside = fences.of_json(text)
    if len(inside) == 1:
        out.append(_stripped(text, *inside[0]))
    first, last = text.find("{"), text.rfind("}")
    if 0 <= first < last and not set("[]{}") & set(text[:first] + text[last + 1 :]):
        out.append((first, last + 1))
    return out


def _stripped(text: str, start: int, end: int) -> Span:
    part = text[start:end]
    return start + len(part) - len(part.lstrip()), start + len(part.rstrip())
