"""The border to FFmpeg: files become arrays and facts, arrays become files.

No other package imports ``av`` or ``scenedetect``.
Whatever goes wrong with a file comes out as :class:`~flywheel.core.errors.MediaError`, one line that gives the reason.
Times are seconds from the file's first picture.
"""
