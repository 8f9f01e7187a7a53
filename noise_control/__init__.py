"""Noise-robust losses: tensors and values in, the same out; no files, no trackers."""

from noise_control import losses, rules
from noise_control.interface import IGNORED, TokenContext, TokenLoss, TokenStatistics
from noise_control.linear import linear_loss

__all__ = ["IGNORED", "TokenContext", "TokenLoss", "TokenStatistics", "linear_loss", "losses", "rules"]
