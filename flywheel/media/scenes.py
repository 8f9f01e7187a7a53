"""Where the picture cuts from one scene to the next."""

from __future__ import annotations

from pathlib import Path

from flywheel.core.errors import MediaError, first_line


def scene_cuts(path: Path) -> list[float]:
    """Times in seconds at which scenes after the first begin, by scenedetect's adaptive detector.

    Raises MediaError where the file can't be read.
    """
    from scenedetect import AdaptiveDetector, SceneManager, open_video

    try:
        video = open_video(str(path), backend="pyav", suppress_output=True)
        manager = SceneManager()
        manager.add_detector(AdaptiveDetector())
        manager.detect_scenes(video)
        return [start.seconds for start, _ in manager.get_scene_list()[1:]]
    except Exception as error:
        # scenedetect raises what its backend raises; whatever it is, it is about this file.
        raise MediaError(f"scenes can't be detected ({first_line(error)})") from error
