"""Refusals in many words and languages, and loops in scripts with and without spaces; and what only looks like them."""

from __future__ import annotations

import random
import time

import pytest

from annotators.loops import loop_of, looped
from annotators.refusals import refuses

REFUSALS = [
    "I'm sorry, but I can't describe this video.",
    "I’m sorry, I can’t assist with that request.",
    "I'm sorry, I can't.",
    "I'm sorry.",
    "I am unable to view videos.",
    "I cannot identify people in this clip.",
    "Unfortunately, I'm not able to watch the video directly.",
    "As an AI language model, I have no eyes.",
    "As a text-based AI assistant, I don't have the ability to see.",
    "I'm just an AI, so I can't see the frames.",
    "I apologize, but I do not see any video in your message.",
    "My apologies, I'm unable to process this clip.",
    "I don't see any video attached to your message.",
    "I don't have access to the video.",
    "There is no video provided, so nothing can be described.",
    "It seems that no video was uploaded.",
    "It looks like the video didn't load properly.",
    "Please provide the video you would like me to describe.",
    "This request violates my guidelines.",
    "I won't be able to help with that.",
    "Lo siento, pero no puedo describir este video.",
    "No puedo ver el video.",
    "Como modelo de lenguaje, no tengo acceso a videos.",
    "Je suis désolé, mais je ne peux pas décrire cette vidéo.",
    "Je ne peux pas visionner de vidéos.",
    "En tant qu'IA, je ne vois pas les images.",
    "Es tut mir leid, aber ich kann dieses Video nicht beschreiben.",
    "Leider kann ich das Video nicht ansehen.",
    "Als KI habe ich keine Augen.",
    "Mi dispiace, ma non posso descrivere questo video.",
    "Desculpe, mas não posso descrever este vídeo.",
    "Het spijt me, maar ik kan deze video niet beschrijven.",
    "Извините, но я не могу описать это видео.",
    "К сожалению, у меня нет доступа к видео.",
    "Я не могу просматривать видео.",
    "Przepraszam, ale nie mogę opisać tego filmu.",
    "Üzgünüm, bu videoyu açıklayamıyorum.",
    "抱歉，我无法描述这个视频。",
    "对不起，我不能查看视频。",
    "作为一个人工智能语言模型，我没有视觉。",
    "很抱歉，我無法觀看影片。",
    "申し訳ありませんが、この動画を説明することはできません。",
    "この動画を見ることはできません。",
    "죄송합니다. 이 동영상을 설명할 수 없습니다.",
    "عذرًا، لا أستطيع وصف هذا الفيديو.",
    "क्षमा करें, मैं इस वीडियो का वर्णन नहीं कर सकता।",
    "Maaf, saya tidak bisa melihat video ini.",
    "Xin lỗi, tôi không thể mô tả video này.",
    "ขออภัย ฉันไม่สามารถอธิบายวิดีโอนี้ได้",
]
NO_REFUSALS = [
    "A man says 'I can't' and sits down.",
    "'I can't do this,' says a woman at the door.",
    "\"I'm sorry, I can't help you,\" the clerk says.",
    "I'm sorry I can't come to the party, a woman says on the phone.",
    "Sorry, I'm late, says the boy.",
    "A robot says that as an AI it can't see.",
    "The video was displayed on a big screen.",
    "There is an image of a dog on the wall.",
    "No cars are on the street, and no people.",
    "Please, says the child and gives the man a link of a chain.",
    "The video shows a person who is unable to open a jar.",
    "“对不起，我不能去，”一个男人说。",
    "一个男人说对不起，他不能去。",
    "Lo siento, no puedo ir, dice el hombre.",
    "Ein Mann sagt, es tue ihm leid, er könne nicht kommen.",
    "Женщина говорит: я не могу описать это.",
    "AI is written on the wall.",
    "Sorry is written on the sign.",
]


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals(text: str) -> None:
    assert refuses(text)


@pytest.mark.parametrize("text", NO_REFUSALS)
def test_captions_that_speak_of_refusals(text: str) -> None:
    assert not refuses(text)


LONG = "A dog runs on the grass near a tall tree while a child in a red coat watches it and laughs happily beside "
LOOPS = [
    "一个男人在公园里走路，" * 4,
    "犬が走っています。" * 8,
    "สุนัขกำลังวิ่ง" * 8,
    "개가 달린다. " * 8,
    "红红红红红红红红红红红红红",
    "ພາສາລາວ" * 6,
    " ".join(f"{i}. The man moves the box." for i in range(1, 15)),
    " ".join(f"Scene {i}: the man moves the box." for i in range(1, 15)),
    " ".join(f"[00:{i:02d}] The man moves the box." for i in range(1, 15)),
    "First, the man moves the box. Second, the man moves the box. Third, the man moves the box. Fourth, the man moves",
    "".join(f"{i}、男人搬箱子。" for i in range(8, 16)),
    LONG * 3,
    (LONG + " ".join(f"word{i}" for i in range(200)) + " ") * 3,
    "hmmmmmmmmmmmmmmmmm",
    "dog" * 30,
    "haha-" * 20,
    "🐶" * 20,
    "<0x0A>" * 20,
    "A dog runs here. A cat sits. A dog runs here. A bird. A dog runs here. A hen. A dog runs here.",
]
NO_LOOPS = [
    "一个男人在公园里走路，然后坐在长椅上休息。",
    "哈哈哈哈，一个男人笑着走过。",
    "1. A man opens the box. 2. He takes a red ball. 3. He throws it to a dog.",
    "He counts 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14 and jumps.",
    "The drummer plays one, two, three, four; one, two, three, four; and then the band begins.",
    "No, no, no, says the woman and closes the door behind her.",
    "1, 2, 3 ... 10 ------------ done",
    "A link such as https://example.org/a/very/long/path/that/has/no/spaces/in/it?and=more&and=others",
    "A dog runs. A cat sits. A dog runs. A cat sits.",
    LONG * 2,
    "東京都の特許許可局の前で、男の人が電話をかけています。女の人は待っています。",
]


@pytest.mark.parametrize("text", LOOPS)
def test_loops(text: str) -> None:
    assert loop_of(text)


@pytest.mark.parametrize("text", NO_LOOPS)
def test_texts_that_are_no_loops(text: str) -> None:
    assert not loop_of(text)


def test_a_loop_is_found_wherever_it_stands_as_if_each_length_were_tried() -> None:
    """Against the plain search of every length, over random texts of few words with loops put into some."""
    draw = random.Random(7)
    found = 0
    for _ in range(300):
        words = [draw.choice("abcd") for _ in range(draw.randrange(60))]
        if draw.random() < 0.5:
            at, turn = draw.randrange(len(words) + 1), [draw.choice("abcd") for _ in range(draw.randrange(1, 30))]
            words[at:at] = turn * 3
        assert bool(looped(words)) == _plainly_looped(words), words
        found += bool(looped(words))
    assert 50 < found < 250


def _plainly_looped(words: list[str]) -> bool:
    count = len(words)
    least = min(12, max(4, count // 2))
    for period in range(1, count // 3 + 1):
        run = 0
        for index in range(period, count):
            run = run + 1 if words[index] == words[index - period] else 0
            if run + period >= max(3 * period, least):
                return True
    return False


def test_finding_loops_takes_time_in_proportion() -> None:
    """Eight times the words take no 64 times the time, with nothing repeated and with much."""
    half = [f"w{i}" for i in range(4000)]
    for words in (half * 2, [f"w{i % 7}{i % 11}" for i in range(8000)], half + ["x"] * 2 + half):
        spent = []
        for count in (1000, 8000):
            began = time.process_time()
            looped(words[:count])
            spent.append(time.process_time() - began)
        assert spent[1] < max(40 * spent[0], 0.2), spent
