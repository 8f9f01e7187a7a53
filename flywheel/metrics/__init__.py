"""Quantity, diversity, quality, and their intervals; takes lists and arrays, touches nothing."""

from flywheel.metrics.intervals import mean_estimate, paired_difference
from flywheel.metrics.text import rouge_l, token_f1, words
from flywheel.metrics.trinity import diversity, quantity, reference_quality

__all__ = [
    "diversity",
    "mean_estimate",
    "paired_difference",
    "quantity",
    "reference_quality",
    "rouge_l",
    "token_f1",
    "words",
]
