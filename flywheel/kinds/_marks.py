"""Marks that models and their templates leave in a reply: of thoughts, of tool calls, of turns and of media.

Each family of models has its own; what they are is taken from their published chat templates.
"""

from __future__ import annotations

import re

#: Names of the tags between which models think (Qwen, DeepSeek, GLM, Kimi, Seed, EXAONE, LLaVA-CoT and others).
_THINKING = (
    r"(?:seed:)?(?:think|thinking|thought|thoughts|reasoning|reason|reflection|analysis|scratchpad"
    r"|cot_budget_reflect)"
)
_LEFT, _RIGHT = r"(?:<|&lt;|◁)", r"(?:>|&gt;|▷)"
_OPENING = "|".join(
    (
        rf"{_LEFT}\s*{_THINKING}(?:\s[^<>\n]{{0,80}})?{_RIGHT}",
        rf"\[\s*{_THINKING}\s*\]",
        r"<\|\s*(?:begin_of_(?:thought|think|thinking)|start_thinking|thinking_start|think)\s*\|>",
        r"<\|channel>thought\b",
        r"<unused94>(?:thought)?",
    )
)
_CLOSING = "|".join(
    (
        rf"{_LEFT}\s*/\s*{_THINKING}\s*{_RIGHT}",
        rf"\[\s*/\s*{_THINKING}\s*\]",
        r"<\|\s*(?:end_of_(?:thought|think|thinking)|end_thinking|thinking_end|/think)\s*\|>",
        r"<channel\|>",
        r"<unused95>",
    )
)
#: Begin or end of thoughts: group ``open`` is there where it is a begin.
THOUGHTS = re.compile(rf"(?P<open>{_OPENING})|(?:{_CLOSING})", re.I)

#: A channel's begin (OpenAI's harmony form): group ``name`` is the channel.
CHANNEL = re.compile(r"<\|channel\|>\s*(?P<name>\w+)[^<]{0,80}(?:<\|constrain\|>[^<]{0,40})?<\|message\|>", re.I)
#: The same where special tokens were left out on the way: thoughts, and the end of them.
BARE_CHANNELS = re.compile(r"\A\s*(?:analysis|commentary)(?=[^\s\w]|[A-Z0-9]).*?assistant\s*final(?=\S)", re.S)
BARE_THOUGHTS = re.compile(r"\A\s*(?:analysis|commentary)(?=[A-Z])")
#: A monologue about the task, without any mark.
MONOLOGUE = re.compile(
    r"\A\W*(?:okay|ok|alright|so|hmm+|well|first|got it|let'?s see|let me think|we need to|i need to)\b"
    r"[^\n]{0,160}\bthe user(?:'s)? (?:wants|want|asks|asked|is asking|needs|request|provided|would like)",
    re.I,
)

TOOL_CALL = re.compile(
    "|".join(
        (
            r"<\s*/?\s*(?:tool_?calls?|function_?calls?|tool_?use|invoke|tool_?code|minimax:tool_call|execute\w*)\b",
            r"<\s*function\s*=",
            r"<[|｜][^|｜<>]{0,40}(?:tool|function|action|plugin|python_tag|call)[^|｜<>]{0,40}[|｜]>",
            r"\[\s*/?\s*(?:tool_calls?|available_tools|tool_results)\s*\]",
            r"\A\s*functools\s*\[",
            r"```\s*(?:tool_code|tool_call|tool_outputs?)\b",
            r"^\s*Action\s*:.*\n\s*Action Input\s*:",
            r"<\|channel\|>\s*\w+\s+to\s*=",
            r"\bto=functions\.\w+",
            r"\A\s*\[\s*[A-Za-z_]\w*\(\s*\w+\s*=.*\)\s*\]\s*\Z",
        )
    ),
    re.I | re.M,
)

#: Ends of a turn: what follows is nobody's answer to the question.
END_OF_TURN = re.compile(
    r"<\|(?:im_end|eot_id|eom_id|end|return|endoftext|end_of_text|eos|end_of_turn|user|im_user|end_of_sentence)\|>"
    r"|<(?:end_of_turn|turn\||eos|end_of_utterance)>|</s>|<turn\|>|\[eos\]|\[/?INST\]\s*\Z"
    r"|<[|｜](?:end[▁_ ]of[▁_ ]sentence|User)[|｜]>|<\|END_OF_TURN_TOKEN\|>|<\|eot\|>",
    re.I,
)
#: The head of a turn, with its role.
TURN_HEAD = re.compile(
    r"<\|im_start\|>\s*\w*\s*\n?|<start_of_turn>\s*\w*\s*\n?|<\|turn>\s*\w*\s*\n?"
    r"|<\|start_header_id\|>\s*\w*\s*<\|end_header_id\|>\s*"
    r"|<\|start\|>\s*(?:assistant|user|system)?|<\|(?:header_start)\|>\s*\w*\s*<\|header_end\|>\s*"
    r"|<[|｜](?:Assistant|begin[▁_ ]of[▁_ ]sentence)[|｜]>",
    re.I,
)
#: Places of things in a picture: marks with what they hold.
PLACES = re.compile(
    r"<\|(box|quad|point)_start\|>.{0,2000}?<\|\1_end\|>|<(box|quad|point|bbox)\b[^<>]{0,80}>.{0,2000}?</\2>"
    r"|<loc_?\d+>|<seg_?\d+>",
    re.I | re.S,
)
#: Any other mark of a template or of media.
OTHER = re.compile(
    r"<[|｜][\w▁/ .:=-]{1,60}[|｜]>|<\|?(?:bos|pad|unk|s|mask|cls|sep|image|video|audio|sound|img|IMG_CONTEXT"
    r"|image_soft_token"
    r"|audio_soft_token|vid_start|vid_end|im_patch|ref|row_sep|unused\d+|reserved_special_token_\d+|extra_id_\d+)\|?>"
    r"|</(?:s|ref|img|image|video)>|\[/?(?:INST|BOS|PAD|UNK|SEP|CLS|MASK|IMG|IMG_BREAK|IMG_END)\]|<</?SYS>>",
    re.I,
)
#: Marks around the answer itself: group ``inner``.
AROUND = re.compile(
    r"<(?P<tag>answer|final_answer|final|response|output|caption|description|summary|conclusion|result"
    r"|text)\b[^<>\n]{0,40}>"
    r"(?P<inner>.*?)(?:</(?P=tag)\s*>|\Z)"
    r"|<\|begin_of_(?:box|solution|answer)\|>(?P<box>.*?)(?:<\|end_of_(?:box|solution|answer)\|>|\Z)"
    r"|<\|START_RESPONSE\|>(?P<cohere>.*?)(?:<\|END_RESPONSE\|>|\Z)"
    r"|\[BEGIN FINAL RESPONSE\](?P<apriel>.*?)(?:\[END FINAL RESPONSE\]|\Z)"
    r"|\\boxed\{(?:\\text\{)?(?P<boxed>[^{}]*)\}?\}",
    re.I | re.S,
)
#: Formatting of HTML: inline tags hold a word together, the others part words.
INLINE_TAG = re.compile(r"</?(?:b|i|em|strong|u|span|code|small|mark|font)(?:\s[^<>\n]{0,200})?>", re.I)
BLOCK_TAG = re.compile(
    r"</?(?:p|br|div|ul|ol|li|h[1-6]|pre|hr|html|body|section|article|blockquote|caption|answer|description|output"
    r"|response|summary|conclusion|final|result)(?:\s[^<>\n]{0,200})?\s*/?>",
    re.I,
)
