"""Proof that a model hears: before what it says of sound is kept, muting its canaries and giving them other sounds must
change what it says, by more than asking again does.

Any engine is asked, and nothing of it is assumed but that it answers. An engine that drops the sound, a deaf model and
a model that hears but pays no attention all write fluent texts about sounds; here they are told apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from enum import StrEnum

from annotators.ear_canaries import EarCanary
from annotators.interface import Engine, Request, Result, Sampling
from flywheel.core.errors import ProofFailed

#: The most tokens of a canary: enough to say what is heard.
_MOST_TOKENS = 96
#: Characters of a text that are compared.
_MOST_CHARS = 400
#: A text is another one where it changes by so many times as much as when asked again.
_CHANGED = 1.25
#: Share of the canaries whose text must change with the sound.
_LEAST_CHANGED = 0.5
#: Log-probs move where they change by so many times as much as when asked again, and by more than the least (nats).
_MOVED, _LEAST_MOVED = 4.0, 1e-3


class Ears(StrEnum):
    """Verdict on hearing: ``HEARS``; the engine ``DROPS`` sound; the model is ``DEAF``; it hears but ``IGNORES`` it."""

    HEARS = "hears"
    DROPS = "drops the sound"
    DEAF = "deaf"
    IGNORES = "ignores the sound"


_WORDS = {
    Ears.DROPS: "the engine drops the sound: a request with sound has no more tokens than one without. "
    "Use a server or an engine that takes audio for this model, or a model with ears",
    Ears.DEAF: "the model is deaf: its sound reaches it as tokens, and changes nothing of what it says. "
    "Choose a model that hears",
    Ears.IGNORES: "the model hears and pays no attention: sound moves its log-probs, and it says the same. "
    "Ask for sounds in the prompt, or choose another model",
}


@dataclass(frozen=True, kw_only=True)
class HearingProof:
    """Verdict on an engine's ears, with the figures that it rests on.

    ``muted`` and ``foreign`` are the shares of canaries whose text changes without sound and with another one, plainly
    more than asking again changed any (``noise``, 0 to 1). ``muted_nats``, ``foreign_nats`` and
    ``noise_nats`` are mean changes of log-probs up to the first other token. ``tokens`` is how many more tokens the
    model reads with the sound than without (None where the engine does not count). ``made`` canaries have sounds of our
    own.
    """

    ears: Ears
    canaries: int
    made: int
    muted: float
    foreign: float
    noise: float
    muted_nats: float
    foreign_nats: float
    noise_nats: float
    tokens: float | None

    def __str__(self) -> str:
        changed = f"{self.muted:.0%} of {self.canaries} canaries say otherwise when muted"
        figures = f"{changed}, {self.foreign:.0%} with another sound"
        nats = f"log-probs move by {self.muted_nats:.2g} and {self.foreign_nats:.2g} nats, noise {self.noise_nats:.1g}"
        if self.ears is Ears.HEARS:
            return f"the model hears: {figures}"
        return f"{_WORDS[self.ears]} ({figures}; {nats}). No text was kept."


def prove_hearing(engine: Engine, lots: Sequence[Sequence[EarCanary]], sampling: Sampling) -> HearingProof:
    """Let the engine write the canaries in all forms, one lot after the other, until it is seen to hear.

    ``sampling`` is that of the texts that are wanted; here it is greedy and shorter. Raises ProofFailed where the
    engine answers none of the canaries.
    """
    sampling = replace(sampling, temperature=0.0, max_new_tokens=min(sampling.max_new_tokens, _MOST_TOKENS))
    found: HearingProof | None = None
    problem = ""
    for lot in lots:
        asked = _Asked(engine, lot, sampling)
        problem = asked.problem or problem
        if asked.answered:
            found = _judged(asked)
            if found.ears is Ears.HEARS:
                break
    if found is None:
        raise ProofFailed(f"the engine answers none of the canaries that its ears are proven on ({problem}).")
    return found


class _Asked:
    """One lot's answers by form and key; ``answered`` are the canaries that were answered in every form with sound."""

    def __init__(self, engine: Engine, lot: Sequence[EarCanary], sampling: Sampling) -> None:
        self.problem = ""
        own = [canary.own for canary in lot]
        self.own = self._ask(engine, own, sampling)
        # The same once more in smaller batches: what an engine says may hang on what it is batched with.
        self.again = {k: r for half in (own[::-2], own[-2::-2]) for k, r in self._ask(engine, half, sampling).items()}
        self.muted = self._ask(engine, [canary.muted for canary in lot], sampling)
        self.foreign = self._ask(engine, [canary.foreign for canary in lot], sampling)
        self.without = self._ask(engine, [canary.without for canary in lot], replace(sampling, max_new_tokens=1))
        everywhere = self.own.keys() & self.again.keys() & self.muted.keys() & self.foreign.keys()
        self.answered = [canary for canary in lot if canary.own.key in everywhere]

    def _ask(self, engine: Engine, requests: Sequence[Request], sampling: Sampling) -> dict[str, Result]:
        results = list(engine.generate(requests, sampling)) if requests else []
        self.problem = next((r.text for r in results if r.finish == "error"), self.problem)
        return {r.key: r for r in results if r.finish != "error"}


def _judged(asked: _Asked) -> HearingProof:
    keys = [canary.own.key for canary in asked.answered]
    noise = max(_apart(asked.own[key], asked.again[key]) for key in keys)

    def changed(other: dict[str, Result]) -> float:
        return sum(_apart(asked.own[key], other[key]) > _CHANGED * noise for key in keys) / len(keys)

    def nats(other: dict[str, Result]) -> float:
        return sum(_nats(asked.own[key], other[key]) for key in keys) / len(keys)

    muted, foreign, noise_nats = nats(asked.muted), nats(asked.foreign), nats(asked.again)
    more = [
        asked.own[key].tokens_in - asked.without[key].tokens_in
        for key in keys
        if key in asked.without and asked.without[key].tokens_in and asked.own[key].tokens_in
    ]
    shares = changed(asked.muted), changed(asked.foreign)
    if min(shares) >= _LEAST_CHANGED:
        ears = Ears.HEARS
    elif more and max(more) <= 0:
        ears = Ears.DROPS
    elif max(shares) > 0 or max(muted, foreign) > max(_MOVED * noise_nats, _LEAST_MOVED):
        ears = Ears.IGNORES
    else:
        ears = Ears.DEAF
    return HearingProof(
        ears=ears,
        canaries=len(keys),
        made=sum(canary.made for canary in asked.answered),
        muted=shares[0],
        foreign=shares[1],
        noise=noise,
        muted_nats=muted,
        foreign_nats=foreign,
        noise_nats=noise_nats,
        tokens=sum(more) / len(more) if more else None,
    )


def _apart(a: Result, b: Result) -> float:
    """How different two texts are: 0 for the same, 1 where no character is shared."""
    if a.text == b.text:
        return 0.0
    return 1.0 - SequenceMatcher(None, a.text[:_MOST_CHARS], b.text[:_MOST_CHARS], autojunk=False).ratio()


def _nats(a: Result, b: Result) -> float:
    """Mean difference of log-probs up to the first other token; 0 where there is none alike."""
    differences = []
    for x, y, p, q in zip(a.token_ids, b.token_ids, a.logprobs, b.logprobs, strict=False):
        if x != y:
            break
        differences.append(abs(p - q))
    return sum(differences) / len(differences) if differences else 0.0
