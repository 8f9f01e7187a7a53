"""How good speech sounds to people, as DNSMOS estimates it: a network that learned from listeners' ratings, in ONNX.

Reddy, Gopal and Cutler 2022, "DNSMOS P.835": 1 (bad) to 5 for the voice, for what is behind it, and for both. Windows
of 9.01 s, one each second; shorter sound is doubled until it is as long. The network's raw values are mapped by the
polynomials that its authors publish with it (microsoft/DNS-Challenge).
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flywheel.core.errors import UserError, first_line

RATE_HZ = 16_000
_WINDOW = 144_160
#: Windows that are computed at once.
_BATCH = 8
#: Polynomials of voice, background and both: of the square, of the value, constant.
_MAPPING = np.array(
    [
        [-0.08397278, 1.22083953, 0.0052439],
        [-0.13166888, 1.60915514, -0.39604546],
        [-0.06766283, 1.11546468, 0.04602535],
    ]
)


@dataclass(frozen=True, kw_only=True)
class SpeechQuality:
    """Means over the windows, about 1 to 5: the voice, the background (5: nothing disturbs), and all in all."""

    signal: float
    background: float
    overall: float


def installed() -> bool:
    """Whether ONNX Runtime is there."""
    return importlib.util.find_spec("onnxruntime") is not None


class Dnsmos:
    """The network in a file (``sig_bak_ovr.onnx``); may be used by several threads at a time.

    Raises UserError for a file that is missing or holds something else.
    """

    def __init__(self, file: Path) -> None:
        import onnxruntime

        try:
            content = file.read_bytes()
        except OSError as error:
            raise UserError(f"{file}: can't be read ({error.strerror}). Name DNSMOS' sig_bak_ovr.onnx.") from error
        options = onnxruntime.SessionOptions()
        # Clips are what goes side by side.
        options.intra_op_num_threads = 1
        try:
            self._network: Any = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            self._input = self._network.get_inputs()[0].name
            values = self._raw(np.zeros((1, _WINDOW), np.float32))
        except Exception as error:
            raise UserError(
                f"{file}: is no DNSMOS network ({first_line(error)}). Name its sig_bak_ovr.onnx."
            ) from error
        if values.shape != (1, 3):
            raise UserError(f"{file}: is no DNSMOS of voice, background and both. Name its sig_bak_ovr.onnx.")
        self.digest = hashlib.sha256(content).hexdigest()[:16]

    def of(self, samples: NDArray[np.float32]) -> SpeechQuality | None:
        """The quality of mono samples (n,) at 16 kHz; None without any."""
        if not len(samples):
            return None
        whole = np.nan_to_num(samples)
        while len(whole) < _WINDOW:
            whole = np.append(whole, whole)
        hops = int(len(whole) // RATE_HZ - _WINDOW / RATE_HZ) + 1
        windows = np.lib.stride_tricks.sliding_window_view(whole, _WINDOW)[: (hops - 1) * RATE_HZ + 1 : RATE_HZ]
        raw = np.concatenate([self._raw(windows[i : i + _BATCH]) for i in range(0, len(windows), _BATCH)])
        signal, background, overall = (
            float(np.polyval(mapping, raw[:, column]).mean()) for column, mapping in enumerate(_MAPPING)
        )
        return SpeechQuality(signal=signal, background=background, overall=overall)

    def _raw(self, windows: NDArray[np.float32]) -> NDArray[np.float64]:
        (values,) = self._network.run(None, {self._input: np.ascontiguousarray(windows, np.float32)})
        return np.asarray(values, np.float64)
