"""Edits of sound: what each mends, that nothing else changes, and whatever it is given."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from flywheel.core.errors import UserError
from flywheel.sound import actions
from flywheel.sound.actions import _source
from flywheel.sound.actions.wavelet import joined, split
from flywheel.sound.gaps import gaps
from flywheel.sound.onsets import TRACK_HZ, onset_envelope
from tests.rendered import RATE_HZ, impacts, tones

SECONDS = 3.0
#: Other than a filter's default: what each action is tried with.
EDITS = {
    "shift": {"seconds": 0.3},
    "speed": {"rate": 1.07, "seconds": 0.1},
    "pitch": {"semitones": 4.0},
    "gain": {"db": 12.0},
}


def clean(seed: int = 0, rate_hz: int = RATE_HZ) -> NDArray[np.float32]:
    return tones(impacts(seed, SECONDS), seed, length_s=SECONDS, rate_hz=rate_hz, noise=0)


def si_sdr_db(found: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
    """Scale-invariant ratio of signal to distortion (Le Roux et al. 2019)."""
    found, truth = found.astype(np.float64), truth.astype(np.float64)
    part = (found @ truth) / (truth @ truth) * truth
    return float(10 * np.log10((part @ part) / ((found - part) @ (found - part) + 1e-12)))


def noisy(sound: NDArray[np.float32], kind: str, seed: int = 1) -> NDArray[np.float32]:
    """The sound in as strong a noise: white, or a hum with its overtones in some of it."""
    noise = np.random.default_rng(seed).normal(0, 1, len(sound))
    if kind == "hum":
        time_s = np.arange(len(sound)) / RATE_HZ
        noise = 0.3 * noise + sum(np.sin(2 * np.pi * 50 * k * time_s + k) / k for k in (1, 2, 3, 5))
    noise *= np.sqrt(np.mean(np.square(sound, dtype=np.float64)) / np.mean(noise**2))
    return (sound + noise).astype(np.float32)


def test_there_are_the_eight_of_the_paper_and_one_of_ours() -> None:
    assert len(actions.names()) == 9
    assert [name for name in actions.names() if actions.action(name).ours] == ["shift"]
    assert sum(actions.action(name).family == "filter" for name in actions.names()) == 4


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("spectral_subtraction", "white"),
        ("spectral_subtraction", "hum"),
        ("wiener", "white"),
        ("wiener", "hum"),
        ("spectral_gate", "white"),
        ("spectral_gate", "hum"),
        ("wavelet", "white"),
    ],
)
def test_filters_gain_5_db_on_their_noise(name: str, kind: str) -> None:
    gains = []
    for seed in (0, 1):
        sound = clean(seed)
        gains.append(si_sdr_db(actions.build(name)(noisy(sound, kind), RATE_HZ), sound))
    assert np.mean(gains) >= 5


def test_a_shift_is_exact_to_the_sample() -> None:
    sound = clean()
    late = actions.build("shift", seconds=0.25)(sound, RATE_HZ)
    assert np.array_equal(late[4000:], sound[:-4000])
    assert not late[:4000].any()
    early = actions.build("shift", seconds=-0.25)(late, RATE_HZ)
    assert np.array_equal(early[:-4000], sound[:-4000])


@pytest.mark.parametrize("rate", [0.9, 25 / 24, 1.1])
def test_speed_undoes_a_planted_speed(rate: float) -> None:
    time_s = np.arange(2 * RATE_HZ) / RATE_HZ

    def chirp(at_s: NDArray[np.float64]) -> NDArray[np.float32]:
        return (0.5 * np.sin(2 * np.pi * (300 * at_s + 400 * at_s**2))).astype(np.float32)

    # Begins 50 ms late, too.
    planted = chirp(rate * (time_s - 0.05))
    mended = actions.build("speed", rate=1 / rate, seconds=-0.05 * rate)(planted, RATE_HZ)
    inside = slice(RATE_HZ // 4, int(1.6 * RATE_HZ))
    assert si_sdr_db(mended[inside], chirp(time_s)[inside]) > 50


def test_pitch_changes_and_times_do_not() -> None:
    at_s = impacts(3, SECONDS)
    sound = tones(at_s, 3, length_s=SECONDS, noise=0)
    higher = actions.build("pitch", semitones=5.0)(sound, RATE_HZ)
    strongest = [float(np.argmax(np.abs(np.fft.rfft(part)))) for part in (sound, higher)]
    assert strongest[1] / strongest[0] == pytest.approx(2 ** (5 / 12), rel=0.01)
    for time_s in at_s[at_s < SECONDS - 0.2]:
        near = slice(int((time_s - 0.06) * TRACK_HZ), int((time_s + 0.06) * TRACK_HZ))
        moved = [int(np.argmax(onset_envelope(part, RATE_HZ)[near])) for part in (sound, higher)]
        assert abs(moved[1] - moved[0]) / TRACK_HZ <= 0.02


def test_gain_is_as_asked_and_gives_way_to_peaks_without_a_step() -> None:
    sound = clean()
    softer = actions.build("gain", db=-6.0)(sound, RATE_HZ)
    assert 20 * np.log10(np.linalg.norm(softer) / np.linalg.norm(sound)) == pytest.approx(-6, abs=0.01)
    loud = actions.build("gain", db=20.0)(sound, RATE_HZ)
    assert np.abs(loud).max() <= 1
    # Cut off at full scale it would have corners: energy where the tone has none.
    spectra = [np.abs(np.fft.rfft(part * np.hanning(len(part)))) ** 2 for part in (np.clip(sound * 10, -1, 1), loud)]
    high = [float(s[len(s) // 2 :].sum() / s.sum()) for s in spectra]
    assert high[1] < high[0] / 10


@pytest.mark.parametrize("length_s", [0.01, 0.06, 0.3])
def test_a_gap_is_filled_without_a_click(length_s: float) -> None:
    time_s = np.arange(int(SECONDS * RATE_HZ)) / RATE_HZ
    noise = np.random.default_rng(4).normal(0, 0.01, len(time_s))
    sound = (0.2 * np.sin(2 * np.pi * 440 * time_s) * np.exp(-0.3 * time_s) + noise).astype(np.float32)
    start, stop = RATE_HZ + 7, RATE_HZ + 7 + int(length_s * RATE_HZ)
    cut = sound.copy()
    cut[start:stop] = 0
    assert gaps(cut, RATE_HZ) == [(start, stop)]
    filled = actions.build("fill")(cut, RATE_HZ)
    assert np.array_equal(filled[:start], sound[:start])
    assert np.array_equal(filled[stop:], sound[stop:])
    bend = np.abs(np.diff(filled, 2))
    assert bend[start - 5 : stop + 5].max() <= 1.5 * np.delete(bend, np.s_[start - 5 : stop + 5]).max()
    level_db = 10 * np.log10(np.mean(filled[start:stop] ** 2) / np.mean(sound[start:stop] ** 2))
    assert abs(level_db) < 6


def test_a_sound_that_fades_away_and_comes_again_has_no_gap() -> None:
    assert gaps(clean(), RATE_HZ) == []
    assert np.array_equal(actions.build("fill")(clean(), RATE_HZ), clean())


@pytest.mark.parametrize("name", actions.names())
def test_many_blocks_are_as_one_and_stereo_as_mono_where_both_sides_are_alike(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit, sound = actions.build(name, **EDITS.get(name, {})), noisy(clean(2), "white")[: 2 * RATE_HZ] / 3
    mono, both = edit(sound, RATE_HZ), np.stack((sound, sound), axis=1)
    monkeypatch.setattr(_source, "BLOCK_S", 0.7)
    stereo = edit(both, RATE_HZ)
    assert stereo.shape == both.shape
    # A filter hears a block and what is around it: its noise is not quite the whole's.
    assert si_sdr_db(stereo[:, 0], mono) > (20 if actions.action(name).family == "filter" else 60)
    assert np.allclose(stereo[:, 0], stereo[:, 1], atol=1e-6)


def test_channels_may_be_either_axis() -> None:
    edit, both = actions.build("shift", seconds=0.1), np.stack((clean(), clean(1)), axis=1)
    assert np.array_equal(edit(both.T, RATE_HZ), edit(both, RATE_HZ).T)


def test_what_is_held_does_not_grow_with_the_length() -> None:
    rate_hz, held = 4000, []
    wave = np.random.default_rng(0).normal(0, 0.1, (rate_hz, 1)).astype(np.float32)
    for length_s in (70, 150):
        edit = actions.build("wavelet")
        tracemalloc.start()
        blocks = edit.blocks(lambda start, stop: wave[np.arange(start, stop) % rate_hz], length_s * rate_hz, rate_hz)
        total = sum(len(block) for block in blocks)
        held.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert total == length_s * rate_hz
    assert held[1] < 1.1 * held[0]


@st.composite
def bad_sounds(draw: st.DrawFn) -> NDArray[np.floating]:
    """What files have: offsets, silence, no numbers, a few samples, clipped throughout, single precision or double."""
    length, channels = draw(st.sampled_from((0, 1, 2, 3, 17, 400))), draw(st.sampled_from((0, 1, 2)))
    kind = draw(st.sampled_from(("offset", "zeros", "nan", "some nan", "inf", "clipped", "huge", "click", "noise")))
    rng = np.random.default_rng(draw(st.integers(0, 3)))
    noise = rng.normal(0, 0.3, (length, max(1, channels)))
    sound = {
        "offset": noise * 0 + 0.9,
        "zeros": noise * 0,
        "nan": noise * np.nan,
        "some nan": np.where(rng.random(noise.shape) < 0.3, np.nan, noise),
        "inf": np.where(noise > 0, np.inf, -np.inf),
        "clipped": np.sign(noise),
        "huge": noise * 1e30,
        "click": np.where(np.arange(length)[:, None] == length // 2, 1.0, 0.0) * np.ones(max(1, channels)),
        "noise": noise,
    }[kind]
    return (sound[:, 0] if channels == 0 else sound).astype(draw(st.sampled_from((np.float32, np.float64))))


@pytest.mark.parametrize("name", actions.names())
@settings(max_examples=6, deadline=None)
@given(sound=bad_sounds(), rate_hz=st.sampled_from((1, 8000, 44_100, 192_000)), at_end=st.booleans())
def test_whatever_comes_as_much_goes_out_and_it_is_sound(
    name: str, sound: NDArray[np.floating], rate_hz: int, at_end: bool
) -> None:
    of = actions.action(name).parameters
    before = sound.copy()
    out = actions.build(name, **{key: r.high if at_end else r.low for key, r in of.items()})(sound, rate_hz)
    assert out.shape == sound.shape
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    assert np.abs(out).max(initial=0) <= 1
    assert np.array_equal(sound, before, equal_nan=True)


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("mute", {}, "unknown"),
        ("gian", {}, "Did you mean 'gain'?"),
        ("gain", {"dbs": 3.0}, "Did you mean 'db'?"),
        ("gain", {"db": 21.0}, "need a number from -20 to 20 dB, got 21"),
        ("gain", {"db": float("nan")}, "need a number"),
        ("gain", {"db": "loud"}, "need a number"),
        ("gain", {"db": True}, "need a number"),
        ("wavelet", {"levels": 5.5}, "need a whole number from 5 to 7"),
    ],
)
def test_what_is_no_action_or_out_of_range_is_refused_in_one_line(
    name: str, values: dict[str, object], words: str
) -> None:
    with pytest.raises(UserError) as refused:
        actions.build(name, **values)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("samples", [np.zeros(10, np.int16), np.zeros((2, 2, 2)), np.zeros((100, 100))])
def test_what_is_no_sound_is_refused(samples: NDArray[np.generic]) -> None:
    with pytest.raises(ValueError, match="need"):
        actions.build("gain")(samples, RATE_HZ)  # type: ignore[arg-type]


def test_the_wavelet_bank_gives_back_what_it_took_apart() -> None:
    sound = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    coarse, detail = split(sound)
    assert np.allclose(joined(coarse, detail), sound, atol=1e-5)
    # Eight vanishing moments: of a polynomial of degree seven nothing is left but at the ends.
    ramp = (np.linspace(-1, 1, 64) ** 7).astype(np.float32)[:, None]
    assert np.abs(split(ramp)[1][:24]).max() < 1e-4
