"""Which clips a training holds out: whole videos of which people said nothing; eight bytes of memory a clip."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from flywheel.core.types import HUMAN, Example
from flywheel.store.arrays import is_among

#: Gives a number of the video of each of some clips, by their ids, (n,); -1 where there is no such clip.
Videos = Callable[[Sequence[str]], NDArray[np.int64]]

#: Held-out clips: some sixty tell a noise rate to .06, more than 512 tell hardly more; a small corpus spares 15 %.
_LEAST, _MOST, _MOST_SHARE = 64, 512, 0.15
#: Clips whose videos are looked up together.
_AT_A_TIME = 16_384


def held_out_clips(examples: Sequence[Example], share: float, videos: Videos) -> set[str]:
    """Clips whose texts give the eval loss and measure noise, and are not learned: those of some videos, whole.

    People's texts are too few to be held out, and videos with any are not. ``share`` of the other texts is held out,
    in a small corpus more. Where whole videos give less than half of it, since they are large or people spoke of them,
    clips are held out one by one.
    """
    if not share:
        return set()
    num_clips, numbers = _video_numbers(examples, videos)
    least = min(_LEAST, int(_MOST_SHARE * len(numbers)))
    count = min(max(int(share * len(numbers)), least), _MOST)
    order = np.random.default_rng(num_clips).permutation(len(numbers))
    chosen = _whole_videos(order, numbers, count)
    places = set(chosen if 2 * len(chosen) >= count else order[:count].tolist())
    # Ids of all clips would be most of the memory: those of the chosen are read again.
    return {clip_id for place, clip_id in enumerate(_machine_clips(examples)) if place in places}


def _machine_clips(examples: Sequence[Example]) -> Iterator[str]:
    """Clips of which models, or their sources, gave a text: each once, for a clip's examples stand together."""
    from trainers.examples import clips_and_groups

    last = None
    for clip_id, group in clips_and_groups(examples):
        if group != HUMAN and clip_id != last:
            last = clip_id
            yield clip_id


def _video_numbers(examples: Sequence[Example], videos: Videos) -> tuple[int, NDArray[np.int64]]:
    """How many clips there are, and a number for the video of each that :func:`_machine_clips` gives, (n,).

    -1 for a video of which people gave a text.
    """
    from trainers.examples import clips_and_groups

    num_clips, last, human = 0, "", set[str]()
    for clip_id, group in clips_and_groups(examples):
        num_clips += clip_id != last
        last = clip_id
        if group == HUMAN:
            human.add(clip_id)
    numbers, some = array("q"), list[str]()
    for clip_id in _machine_clips(examples):
        some.append(clip_id)
        if len(some) == _AT_A_TIME:
            numbers.frombytes(videos(some).tobytes())
            some.clear()
    numbers.frombytes(videos(some).tobytes())
    of_clips = np.array(numbers, dtype=np.int64)
    of_clips[is_among(of_clips, videos(sorted(human)))] = -1
    return num_clips, of_clips


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
