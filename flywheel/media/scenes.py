"""Where the picture cuts from one scene to the next."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.core.errors import MediaError, first_line
from flywheel.media.border import check_time, open_media, reading, seconds_left
from flywheel.media.choice import video_stream
from flywheel.media.packets import decoded

if TYPE_CHECKING:
    from scenedetect import SceneManager, VideoStream


def scene_cuts(path: Path) -> list[float]:
    """Times in seconds at which scenes after the first begin, by scenedetect's adaptive detector.

    Raises MediaError where the file can't be read.
    """
    from scenedetect import AdaptiveDetector, SceneManager

    with reading("scenes can't be detected"), open_media(path) as container:
        # The detector opens the file itself, whatever it is.
        index = video_stream(container).index
    try:
        video = _film(path, index)
        manager = SceneManager()
        manager.add_detector(AdaptiveDetector())
        _detect(manager, video)
        return [start.seconds for start, _ in manager.get_scene_list()[1:]]
    except MediaError:
        raise
    except Exception as error:
        # scenedetect raises what its backend raises; whatever it is, it is about this file.
        raise MediaError(f"scenes can't be detected ({first_line(error)})") from error


def _film(path: Path, index: int) -> VideoStream:
    """A stream of a file, as the detector reads it."""
    from scenedetect import VideoOpenFailure, open_video
    from scenedetect.backends.pyav import VideoStreamAv

    class Film(VideoStreamAv):  # type: ignore[misc]
        """The stream that is the film, with damaged packets passed over."""

        @property
        def _video_stream(self) -> Any:
            return self._container.streams[index]

        def read(self, decode: bool = True) -> Any:
            decoder: Any = self._decoder  # type: ignore[has-type]
            if decoder is None:
                self._decoder = decoded(self._container, self._video_stream)
            return super().read(decode)

    try:
        return Film(str(path), suppress_output=True)
    except VideoOpenFailure:
        # A tag that it can't read: another backend reads none.
        return open_video(str(path), backend="pyav", suppress_output=True)


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
