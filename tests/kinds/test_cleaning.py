"""What models write around their own words is cut and named; what only looks like it stays."""

from __future__ import annotations

import contextlib
import time

import pytest

from flywheel.kinds import BrokenReply, Unusable, read

DOG = "A dog runs on grass."
HARMONY = "<|channel|>analysis<|message|>We see a dog.<|end|><|start|>assistant<|channel|>final<|message|>"

#: Raw reply, and the name of what is cut from it; a dog on grass is left of each.
CUT = [
    (f"<think>I see a dog.</think>\n\n{DOG}", "thoughts"),
    (f"<THINK time=3>hm</THINK>{DOG}", "thoughts"),
    (f"<thinking>one <think>two</think> three</thinking> {DOG}", "thoughts"),
    (f"Okay, a dog.\n</think>\n{DOG}", "thoughts"),
    (f"<think></think>{DOG}<think>was that right?</think>", "thoughts"),
    (f"<reasoning>dog</reasoning><answer>{DOG}</answer>", "thoughts"),
    (f"<seed:think>dog</seed:think>{DOG}", "thoughts"),
    (f"[THINK]dog[/THINK]{DOG}", "thoughts"),
    (f"◁think▷dog◁/think▷{DOG}", "thoughts"),
    (f"&lt;think&gt;dog&lt;/think&gt;{DOG}", "thoughts"),
    (f"{HARMONY}{DOG}<|return|>", "thoughts"),
    (f"analysisWe see a dog.assistantfinal{DOG}", "thoughts"),
    (f"<|channel>thought\ndog<channel|>{DOG}", "thoughts"),
    (f"<unused94>thought\ndog<unused95>{DOG}", "thoughts"),
    (f"<|START_THINKING|>dog<|END_THINKING|><|START_RESPONSE|>{DOG}<|END_RESPONSE|>", "thoughts"),
    (f"<|begin_of_thought|>dog<|end_of_thought|>\n<|begin_of_solution|>{DOG}<|end_of_solution|>", "thoughts"),
    (f"<SUMMARY>s</SUMMARY><REASONING>r</REASONING><CONCLUSION>{DOG}</CONCLUSION>", "thoughts"),
    (f"Reasoning: there is grass.\nAnswer: {DOG}", "talk"),
    (f"I see green. I see a dog. Final answer: {DOG}", "talk"),
    (f"**Final Answer:** {DOG}", "talk"),
    (f"Here is a caption for the video: {DOG}", "talk"),
    (f"Here’s the caption:\n\n{DOG}", "talk"),
    (
        f"Sure! Here's a detailed description of the video:\n\n**Caption:** {DOG}\n\nLet me know if you need more!",
        "talk",
    ),
    (f"Certainly! {DOG}", "talk"),
    (f"Sure, here is one possible caption for this clip:\n{DOG}", "talk"),
    (f"Based on the frames, here is my description: {DOG}", "talk"),
    (f"Caption: {DOG}", "talk"),
    (f"**Caption:** {DOG}", "talk"),
    (f"## Caption\n\n{DOG}", "talk"),
    (f"The caption for this video is: {DOG}", "talk"),
    (f"{DOG} I hope this helps!", "talk"),
    (f"{DOG}\n\nNote: I could not hear the sound.", "talk"),
    (f"Voici une description de la vidéo : {DOG}", "talk"),
    (f"Natürlich! Hier ist eine Beschreibung des Videos: {DOG}", "talk"),
    (f"¡Claro! Aquí tienes una descripción del video: {DOG}", "talk"),
    (f"Конечно! Вот описание видео: {DOG}", "talk"),
    (f"好的，以下是视频的描述：{DOG}", "talk"),
    (f"もちろんです。以下は動画の説明です：{DOG}", "talk"),
    (f"물론입니다! 다음은 동영상 설명입니다: {DOG}", "talk"),
    (f'"{DOG}"', "quotes"),
    (f"“{DOG}”", "quotes"),
    (f"「{DOG}」", "quotes"),
    (f"```\n{DOG}\n```", "form"),
    (f'```json\n{{"caption": "{DOG}"}}\n```', "form"),
    (f'{{"description": "{DOG}", "confidence": 0.9}}', "form"),
    (f"{{'caption': '{DOG}'}}", "form"),
    (f'["{DOG}"]', "form"),
    (f'<think>x</think>\n{{"answer": "Caption: {DOG}"}}', "form"),
    (f"**{DOG}**", "markdown"),
    ("A **dog** runs on _grass_.", "markdown"),
    ("A [dog](https://a.b/c) runs on `grass`.", "markdown"),
    (f"# {DOG}", "markdown"),
    (f"> {DOG}", "markdown"),
    (f"- {DOG}", "markdown"),
    ("<p>A <b>dog</b> runs<br/>on grass.</p>", "markdown"),
    (f"{DOG}<|im_end|>", "marks"),
    (f"<|im_start|>assistant\n{DOG}<|im_end|>\n<|im_start|>user\nAnd then?", "marks"),
    (f"<s>{DOG}</s>", "marks"),
    (f"[INST] {DOG} [/INST]", "marks"),
    (f"<start_of_turn>model\n{DOG}<end_of_turn>", "marks"),
    (f"<|start_header_id|>assistant<|end_header_id|>\n\n{DOG}<|eot_id|>", "marks"),
    (f"{DOG}<｜end▁of▁sentence｜>", "marks"),
    (f"<|video_pad|><image>{DOG}", "marks"),
    ("A <ref>dog</ref><box>(1,2),(3,4)</box> runs on grass.", "marks"),
    (f"\\boxed{{{DOG}}}", "marks"),
    (f"{DOG} \ufffd\ufffd", "broken characters"),
]


@pytest.mark.parametrize(("raw", "name"), CUT)
def test_the_models_own_words_are_left(raw: str, name: str) -> None:
    reply = read("caption", raw)
    assert reply.text == DOG
    assert name in reply.cut
    kept = " ".join("".join(raw[start:end] for start, end in reply.kept).split())
    assert "dog" in kept
    assert len(kept) <= len(raw)


@pytest.mark.parametrize(
    "text",
    [
        DOG,
        "A sign says: here is the way out.",
        "A man says 'I can't', then sits down.",
        '"Stop!" shouts the man, and the dog says "Woof".',
        "A description of the museum hangs on the wall.",
        "Here is a dog: it runs.",
        "Okay, says the man, and leaves.",
        "He adds 2 * 3 * 4 and x_1 + y_2, then types #dog.",
        "1. A man opens the box. 2. He takes a red ball.",
        "The score is 3 < 4 and 5 > 2.",
        "f**k, says the text on his shirt.",
        "[music] A band plays.",
        "Let me know if you need anything, a man says.",
        "Two men think (thinking hard) about the answer.",
        "1, 2, 3 ... 10 ------------ done",
    ],
)
def test_words_that_only_look_like_it_stay(text: str) -> None:
    reply = read("caption", text)
    assert (reply.text, reply.cut) == (text, ())
    assert reply.kept == ((0, len(text)),)


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("<think>I see a dog that", "thinking"),
        (f"{DOG}<think>was that", "thinking"),
        ("analysisWe see a dog", "thinking"),
        ("<|channel|>analysis<|message|>We see a dog.", "thinking"),
        ("Okay, the user wants a caption. I see a dog.", "thinking"),
        ("<think>only this</think>", "empty"),
        ("**", "empty"),
        ('<tool_call>\n{"name": "describe", "arguments": {}}\n</tool_call>', "tool call"),
        ('{"name": "describe", "arguments": {"text": "dog"}}', "tool call"),
        ('[TOOL_CALLS] [{"name": "f"}]', "tool call"),
        ("<function=describe><parameter=a>dog</parameter></function>", "tool call"),
        ("```tool_code\nprint(1)\n```", "tool call"),
        ("<｜tool▁calls▁begin｜>describe", "tool call"),
        ("<|python_tag|>describe()", "tool call"),
        ("Action: describe\nAction Input: dog", "tool call"),
        ('[describe(text="dog")]', "tool call"),
        ('{"a": 1, "b": 2}', "schema"),
        ('{"caption": "A dog', "schema"),
        ("A d\ufffd\ufffdg runs", "broken characters"),
    ],
)
def test_what_is_no_answer_has_a_reason(raw: str, name: str) -> None:
    with pytest.raises(Unusable) as found:
        read("caption", raw)
    assert found.value.name == name


CUES = '{"cues": [{"start_s": 1, "end_s": 3, "text": "a dog"}]}'


@pytest.mark.parametrize(
    "raw",
    [
        CUES,
        f"<think>ok</think>{CUES}",
        f"Here is the JSON:\n```json\n{CUES}\n```\nLet me know!",
        f"The cues are: {CUES}",
        f"```\n{CUES}\n```",
        f"{CUES}<|im_end|>",
        f"{HARMONY}{CUES}<|return|>",
        CUES.replace("a dog", "<think>x</think>a **dog**"),
        CUES.replace("1,", '"00:01",').replace("3,", '"0:00:03.0",'),
    ],
)
def test_a_structure_is_found_in_what_stands_around_it(raw: str) -> None:
    reply = read("dense_caption", raw, duration_s=10.0)
    assert reply.text == "a dog"
    assert '"start_s": 1.0' in reply.payload


@pytest.mark.parametrize("time_s", ['"3,5"', "true", '"1_0"', '"inf"', "null", '"1:99"', "1e999", '"-1"'])
def test_other_times_are_a_reason(time_s: str) -> None:
    with pytest.raises(BrokenReply):
        read("dense_caption", CUES.replace('"end_s": 3', f'"end_s": {time_s}'), duration_s=10.0)


@pytest.mark.slow
def test_cleaning_takes_time_in_proportion() -> None:
    """Of whatever marks a broken model repeats: eight times the text takes no 64 times the time."""
    for piece in ("<think>", "**a ", "*", "<box>", "<answer>", '{"', "Answer: ", "| a |\n"):
        spent = []
        for count in (500, 4000):
            began = time.process_time()
            with contextlib.suppress(Unusable):
                read("caption", "A dog. " + piece * count)
            spent.append(time.process_time() - began)
        assert spent[1] < max(40 * spent[0], 0.2), (piece, spent)


def test_a_reply_longer_than_any_text_is_refused_unread() -> None:
    with pytest.raises(Unusable, match="at most 65536 are looked at"):
        read("caption", "a dog runs " * 12_000)
