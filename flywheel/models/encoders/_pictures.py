"""Frames as squares, and squares as patches and back."""

from __future__ import annotations

import torch
from torch import Tensor


def squares(frames_BTHWC: Tensor, count: int, size: int) -> Tensor:
    """``count`` frames evenly chosen and scaled to ``size`` x ``size``, uint8; fewer are repeated.

    Raises ValueError for anything but uint8 ``(B, T, H, W, 3)`` with a frame.
    """
    if frames_BTHWC.ndim != 5 or frames_BTHWC.shape[-1] != 3 or frames_BTHWC.dtype != torch.uint8:
        raise ValueError(f"frames: need uint8 (B, T, H, W, 3), got {frames_BTHWC.dtype} {tuple(frames_BTHWC.shape)}")
    number = frames_BTHWC.shape[1]
    if not number:
        raise ValueError("frames: need at least one a clip")
    chosen = frames_BTHWC[:, ((torch.arange(count) + 0.5) * number / count).long()]
    if chosen.shape[2:4] == (size, size):
        return chosen
    flat = chosen.flatten(0, 1).permute(0, 3, 1, 2).float()
    # Antialiased: small things would fall between the pixels that are kept.
    scaled = torch.nn.functional.interpolate(flat, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return scaled.round().clamp(0, 255).byte().permute(0, 2, 3, 1).reshape(*chosen.shape[:2], size, size, 3)


def patches(pictures_BHWC: Tensor, patch: int) -> Tensor:
    """Pictures ``(…, H, W, C)`` as rows of patches ``(…, H/p * W/p, p * p * C)``, line by line."""
    *lead, height, width, channels = pictures_BHWC.shape
    grid = pictures_BHWC.reshape(*lead, height // patch, patch, width // patch, patch, channels)
    return grid.transpose(-4, -3).reshape(*lead, (height // patch) * (width // patch), patch * patch * channels)


def unpatched(patches_BNP: Tensor, patch: int, height: int, width: int) -> Tensor:
    """The pictures ``(…, H, W, C)`` of such patches: the inverse of :func:`patches`."""
    *lead, _, size = patches_BNP.shape
    channels = size // (patch * patch)
    grid = patches_BNP.reshape(*lead, height // patch, width // patch, patch, patch, channels)
    return grid.transpose(-4, -3).reshape(*lead, height, width, channels)
