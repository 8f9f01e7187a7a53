"""Where the picture cuts from one scene to the next."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from flywheel.core.errors import MediaError, first_line
from flywheel.media.border import check_time, open_media, reading, seconds_left

if TYPE_CHECKING:
    from scenedetect import SceneManager, VideoStream


def scene_cuts(path: Path) -> list[float]:
    """Times in seconds at which scenes after the first begin, by scenedetect's adaptive detector.

    Raises MediaError where the file can't be read.
    """
    from scenedetect import AdaptiveDetector, SceneManager, open_video

    with reading("scenes can't be detected"), open_media(path):
        # The detector opens the file itself, whatever it is.
        pass
    try:
        video = open_video(str(path), backend="pyav", suppress_output=True)
        manager = SceneManager()
        manager.add_detector(AdaptiveDetector())
        _detect(manager, video)
        return [start.seconds for start, _ in manager.get_scene_list()[1:]]
    except MediaError:
        raise
    except Exception as error:
        # scenedetect raises what its backend raises; whatever it is, it is about this file.
        raise MediaError(f"scenes can't be detected ({first_line(error)})") from error


def _detect(manager: SceneManager, video: VideoStream) -> None:
    """Looks through the video, until the time for it is over."""
    timer = threading.Timer(seconds_left() or threading.TIMEOUT_MAX, manager.stop)
    timer.daemon = True
    timer.start()
    try:
        manager.detect_scenes(video)
    finally:
        timer.cancel()
    check_time()
