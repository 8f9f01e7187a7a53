"""Which clips a training holds out: whole videos of which people said nothing; eight bytes of memory a clip."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from flywheel.core.types import HUMAN, Example
from flywheel.store.arrays import is_among, number_of

#: Gives a number of the video of each of some clips, by their ids, (n,), the same in any process; -1 where there is no
#: such clip.
Videos = Callable[[Sequence[str]], NDArray[np.int64]]

#: Held-out clips: some sixty tell a noise rate to .06, more than 512 tell hardly more; a small corpus spares 15 %.
_LEAST, _MOST, _MOST_SHARE = 64, 512, 0.15
#: Clips whose videos are looked up together.
_AT_A_TIME = 16_384


def held_out_clips(examples: Sequence[Example], share: float, videos: Videos, *, seed: int) -> set[str]:
    """Clips whose texts give the eval loss and measure noise, and are not learned: those of some videos, whole.

    People's texts are too few to be held out, and videos with any are not. ``share`` of the other texts is held out,
    in a small corpus more. Where whole videos give less than half of it, since they are large or people spoke of them,
    clips are held out one by one, of such videos only where the others do not reach half.

    ``seed`` and the video's number say how early a video is drawn, whatever other clips there are.
    """
    if not share:
        return set()
    numbers = _video_numbers(examples, videos)
    least = min(_LEAST, int(_MOST_SHARE * len(numbers)))
    count = min(max(int(share * len(numbers)), least), _MOST)
    chosen = _whole_videos(np.argsort(_mixed(numbers.astype(np.uint64), seed), kind="stable"), numbers, count)
    places = set(chosen if 2 * len(chosen) >= count else _single_clips(examples, numbers, count, seed))
    # Ids of all clips would be most of the memory: those of the chosen are read again.
    return {clip_id for place, clip_id in enumerate(_machine_clips(examples)) if place in places}


def _single_clips(examples: Sequence[Example], numbers: NDArray[np.int64], count: int, seed: int) -> list[int]:
    """Rows of ``count`` clips; of videos that people spoke of only where the others are less than half as many."""
    keys = np.fromiter(map(number_of, _machine_clips(examples)), dtype=np.uint64, count=len(numbers))
    # Last those of which people gave a text themselves.
    order = np.lexsort((_mixed(keys, seed), -np.minimum(numbers, 0)))
    num_free = int((numbers >= 0).sum())
    rows: list[int] = order[: min(count, num_free) if 2 * num_free >= count else count].tolist()
    return rows


def _mixed(keys: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """A number for each key, (n,), that looks random and is another one for another seed: splitmix64's mixing
    (Steele, Lea and Flood, OOPSLA 2014)."""
    mixed = keys + np.array((seed + 1) * 0x9E3779B97F4A7C15 % 2**64, dtype=np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


def _machine_clips(examples: Sequence[Example]) -> Iterator[str]:
    """Clips of which models, or their sources, gave a text: each once, for a clip's examples stand together."""
    from trainers.examples import clips_and_groups

    last = None
    for clip_id, group in clips_and_groups(examples):
        if group != HUMAN and clip_id != last:
            last = clip_id
            yield clip_id


def _video_numbers(examples: Sequence[Example], videos: Videos) -> NDArray[np.int64]:
    """A number for the video of each clip that :func:`_machine_clips` gives, (n,).

    -1 for a video of which people gave a text, -2 for a clip of which they did.
    """
    from trainers.examples import clips_and_groups

    human = {clip_id for clip_id, group in clips_and_groups(examples) if group == HUMAN}
    numbers, spoken, some = array("q"), array("b"), list[str]()

    def look_up() -> None:
        numbers.frombytes(videos(some).tobytes())
        spoken.extend(clip_id in human for clip_id in some)
        some.clear()

    for clip_id in _machine_clips(examples):
        some.append(clip_id)
        if len(some) == _AT_A_TIME:
            look_up()
    look_up()
    of_clips = np.array(numbers, dtype=np.int64)
    of_clips[is_among(of_clips, videos(sorted(human)))] = -1
    of_clips[np.array(spoken, dtype=np.bool_)] = -2
    return of_clips


def _whole_videos(order: NDArray[np.int64], videos: NDArray[np.int64], count: int) -> list[int]:
    """Rows of about ``count`` clips, in this order, with all rows of their videos; at most twice as many."""
    chosen: dict[int, None] = {}
    # Sorted once: looked for through all rows, each video's would take a pass of its own.
    by_video = np.argsort(videos, kind="stable")
    numbers = videos[by_video]
    for row in order:
        if len(chosen) >= count:
            break
        if row in chosen or videos[row] < 0:
            continue
        start, end = np.searchsorted(numbers, videos[row]), np.searchsorted(numbers, videos[row], side="right")
        if len(chosen) + end - start <= 2 * count:
            chosen |= dict.fromkeys(by_video[start:end].tolist())
    return list(chosen)
