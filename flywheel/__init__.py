"""A video-language data flywheel: models annotate, people correct, training learns from both, and round again."""

__version__ = "0.1.0"
