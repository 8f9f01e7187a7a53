"""Noise-robust losses: tensors and values in, the same out; no files, no trackers."""

from noise_control import losses
from noise_control.interface import IGNORED, TokenContext, TokenLoss
from noise_control.linear import linear_loss

__all__ = ["IGNORED", "TokenContext", "TokenLoss", "linear_loss", "losses"]
