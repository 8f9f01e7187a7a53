"""Rows of other people's tables: which videos, spans and texts they name, whatever their columns are called.

A row gives readings, most often one. :func:`readings` looks at names of columns without regard to case, ``_``, ``-``
and spaces: ``Start Time`` is ``start_time``.
"""

from flywheel.ingest.rows.reading import NAMES, PATH_NAMES, VIDEO_NAMES, Reading, Video, readings, says_no_video

__all__ = ["NAMES", "PATH_NAMES", "VIDEO_NAMES", "Reading", "Video", "readings", "says_no_video"]
