"""A judge of facts without a model: it reads the playground's language by its grammar, and knows no other.

It answers the bundled prompts ``facts``, ``verdicts`` and ``answers``, and those that ``flywheel narrate`` asks about
texts, for trials and tests offline: of texts in other words it finds no facts.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator
from typing import Any

from annotators.engines import _by_rules
from annotators.interface import Request, Result, Sampling, failed
from flywheel.playground.reading import Stated, facts_of, read_facts

_LINE = re.compile(r"^(TEXT|FACTS|QUESTIONS|SEEN|HEARD|EARLIER|SHOTS): (.+)$", re.M)
#: What is asked, as it is put by hand: of a thing, or of the sound.
_ASKED = re.compile(r"What is the (\w+) of thing (\d+)\?|Which sound is heard\?")
#: A fact in words, as it is said and read back.
_SAID = re.compile(r"thing (\d+): (\w+) (.+)|sound: (.+)")


class _Engine:
    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Result]:
        for request in requests:
            began = time.perf_counter()
            try:
                reply = _reply(_by_rules.shown(request.prompt, _LINE), sampling.schema)
            except (ValueError, KeyError, TypeError):
                prompts = "'facts', 'verdicts' and 'answers', and those of texts of 'flywheel narrate'"
                yield failed(request, f"engine grammar answers the bundled prompts {prompts}, alone")
                continue
            yield Result(
                key=request.key,
                text=json.dumps(reply),
                token_ids=(),
                logprobs=(),
                tokens_in=len(request.prompt.split()),
                finish="stop",
                seconds=time.perf_counter() - began,
            )

    def parts(self) -> list[_Engine]:
        return [self]

    def close(self) -> None:
        pass


def _reply(given: dict[str, Any], schema: str) -> dict[str, Any]:
    if given.keys() & {"SEEN", "HEARD", "EARLIER", "SHOTS"}:
        return _by_rules.told(given, schema)
    if "QUESTIONS" in given:
        return _answers(given["TEXT"], given["QUESTIONS"])
    return _verdicts(given["TEXT"], given["FACTS"]) if "FACTS" in given else _facts(given["TEXT"])


def _answers(text: str, questions: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each question the one option that the text states."""
    stated, answers = facts_of(text), []
    for question in questions:
        match = _ASKED.fullmatch(question["question"])
        if match is None:
            raise ValueError(question["question"])
        name = f"{int(match[2]) - 1}.{match[1]}" if match[1] else "sound"
        right = [letter for letter, option in question["options"].items() if f"{name}={option}" in stated]
        answers.append({"number": question["number"], "answer": right[0] if len(right) == 1 else "none"})
    return {"answers": answers}


def _facts(text: str) -> dict[str, Any]:
    return {"facts": [_said(stated) for stated in read_facts(text)]}


def _said(stated: Stated) -> dict[str, str]:
    name, value = stated.fact.split("=")
    if name == "sound":
        return {"quote": stated.quote, "fact": f"sound: {value}", "modality": "heard", "aspect": "event"}
    thing, attribute = name.split(".")
    aspect = "event" if attribute == "motion" else "static"
    words = f"thing {int(thing) + 1}: {attribute} {value}"
    return {"quote": stated.quote, "fact": words, "modality": "seen", "aspect": aspect}


def _verdicts(text: str, facts: list[str]) -> dict[str, Any]:
    stated = facts_of(text)
    return {"verdicts": [{"number": n, "verdict": _verdict(fact, stated)} for n, fact in enumerate(facts, 1)]}


def _verdict(fact: str, stated: frozenset[str]) -> str:
    """What a text that states these facts says of one in words."""
    match = _SAID.fullmatch(fact)
    if match is None:
        return "open"
    thing, attribute, value, sound = match.groups()
    name = "sound" if sound else f"{int(thing) - 1}.{attribute}"
    if f"{name}={sound or value}" in stated:
        return "supported"
    # Two sounds may both be heard; one thing has one colour.
    states_another = any(other.split("=")[0] == name for other in stated)
    return "contradicted" if states_another and not sound else "open"


def grammar(**_: Any) -> _Engine:
    """Takes texts of the playground apart into facts, and compares them, by the rules of its language."""
    return _Engine()


#: It runs no model: nothing is loaded, and no adapter has to be proven.
grammar.needs_model = False  # type: ignore[attr-defined]
