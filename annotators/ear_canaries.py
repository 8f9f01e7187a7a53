"""The questions that hearing is proven on: clips with sound, each also muted, with another sound, and without any."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from annotators.interface import Request
from flywheel.models.inputs import SOUND_RATE_HZ, ClipInput

Sound = NDArray[np.float32]

#: Canaries that an engine is asked at a time, and clips that are looked at for them.
NUM_CANARIES, _CANDIDATES = 4, 12
#: Softer sound (root mean square) is as good as none: muting it changes nothing that anybody hears.
_AUDIBLE = 0.004
#: Sounds whose spectra are nearer (mean difference of bands, decibels) are one sound.
_SAME_SOUND_DB = 3.0
#: Length of a sound that is made here, seconds.
_MADE_S = 3.0
_BANDS = 24


@dataclass(frozen=True, kw_only=True)
class EarCanary:
    """One question in four forms: with its ``own`` sound, that ``muted``, a ``foreign`` one, and ``without`` any.

    ``made`` where the own sound is no clip's, but made here.
    """

    own: Request
    muted: Request
    foreign: Request
    without: Request
    made: bool


def ear_canaries(requests: Iterable[Request]) -> list[list[EarCanary]]:
    """Lots of canaries, in the order in which an engine is asked them; empty where there are no requests.

    Those of the first lot have their own sounds and each the sound of the clip that sounds least like it. Those of the
    second have sounds that are made here: all clips of a corpus may sound alike, or be silent.
    """
    some = list(islice(requests, _CANDIDATES))
    loudest = sorted((r for r in some if _loudness(r) > _AUDIBLE), key=lambda r: -_loudness(r))[:NUM_CANARIES]
    made = list(_made_sounds())
    with_own = [c for r in loudest if (c := _with_foreign(r, [_sound(o) for o in loudest if o is not r])) is not None]
    with_made = [
        _canary(request, made[number % len(made)], made[(number + 1) % len(made)], made=True)
        for number, request in enumerate((some * NUM_CANARIES)[:NUM_CANARIES])
    ]
    return [lot for lot in (with_own, _with_own_keys(with_made)) if lot]


def _with_foreign(request: Request, others: Sequence[Sound]) -> EarCanary | None:
    """The canary with that of the others' sounds which is least like its own; None where all are the same sound."""
    own_sound = _sound(request)
    differences = [(_difference_db(own_sound, other), number) for number, other in enumerate(others)]
    if not differences or max(differences)[0] < _SAME_SOUND_DB:
        return None
    return _canary(request, own_sound, others[max(differences)[1]], made=False)


def _canary(request: Request, own_sound: Sound, foreign_sound: Sound, *, made: bool) -> EarCanary:
    return EarCanary(
        own=_with_sound(request, own_sound),
        # As long as its own, so that the number of tokens tells nothing.
        muted=_with_sound(request, np.zeros_like(own_sound)),
        foreign=_with_sound(request, np.resize(foreign_sound, own_sound.shape)),
        without=_with_sound(request, None),
        made=made,
    )


def _with_own_keys(canaries: Sequence[EarCanary]) -> list[EarCanary]:
    """The same clip may be asked about several times: each canary with a key of its own."""
    return [
        EarCanary(
            **{
                form: replace(getattr(canary, form), key=f"{canary.own.key}-{number}")
                for form in ("own", "muted", "foreign", "without")
            },
            made=canary.made,
        )
        for number, canary in enumerate(canaries)
    ]


def _with_sound(request: Request, sound: Sound | None) -> Request:
    clip = request.clip
    if clip is None or (sound is None and clip.frames_THWC is None):
        return replace(request, clip=None)
    return replace(request, clip=replace(clip, sound=sound))


def _sound(request: Request) -> Sound:
    clip: ClipInput | None = request.clip
    return clip.sound if clip is not None and clip.sound is not None else np.zeros(0, np.float32)


def _loudness(request: Request) -> float:
    sound = _sound(request)
    return float(np.sqrt(np.mean(np.square(sound)))) if sound.size else 0.0


def _difference_db(a: Sound, b: Sound) -> float:
    return float(np.abs(_bands_db(a) - _bands_db(b)).mean())


def _bands_db(sound: Sound) -> NDArray[np.float64]:
    """Power in bands of equal ratio from 60 Hz up, relative to the whole, decibels with a floor."""
    power = np.square(np.abs(np.fft.rfft(sound)))
    edges = np.geomspace(60, SOUND_RATE_HZ / 2, _BANDS + 1) / (SOUND_RATE_HZ / 2) * (len(power) - 1)
    bands = np.add.reduceat(power, edges[:-1].astype(int))
    return np.asarray(10 * np.log10(bands / max(bands.sum(), 1e-12) + 1e-4))


def _made_sounds() -> Iterator[Sound]:
    """Yield a tone that comes and goes, hisses, a rising whistle and knocks."""
    time = np.arange(int(_MADE_S * SOUND_RATE_HZ)) / SOUND_RATE_HZ
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(len(time))
    yield (0.3 * np.sin(2 * np.pi * 440 * time) * ((time % 1.0) < 0.4)).astype(np.float32)
    yield (0.15 * noise * ((time % 1.5) < 0.8)).astype(np.float32)
    yield (0.3 * np.sin(2 * np.pi * (400 * time + 300 * time**2))).astype(np.float32)
    yield (0.6 * noise * np.exp(-60 * (time % 0.5))).astype(np.float32)
