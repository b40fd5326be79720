"""Speech synthesis with libespeak-ng in this process: a few milliseconds per text, where a subprocess costs a hundred."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly  # type: ignore[import-untyped, unused-ignore]

SAMPLE_RATE_HZ = 16_000

_AUDIO_OUTPUT_SYNCHRONOUS = 2
_CHARACTERS_UTF8 = 1
_POSITION_CHARACTER = 1
_RATE, _VOLUME, _PITCH, _RANGE, _WORD_GAP = 1, 2, 3, 4, 7
_ESPEAK_RATE_HZ = 22_050

_SynthCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class UnknownVoice(ValueError):
    """This espeak-ng has no such voice."""


class Synthesizer:
    """One espeak-ng per process: the library keeps its state in globals."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libespeak-ng.so.1")
        rate_hz = self._library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, None, 0)
        if rate_hz != _ESPEAK_RATE_HZ:
            raise RuntimeError(f"espeak-ng speaks at {rate_hz} Hz, not at {_ESPEAK_RATE_HZ} Hz")
        self._pieces: list[NDArray[np.int16]] = []
        # The library keeps only the C address: the object must outlive every call.
        self._callback = _SynthCallback(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: Any, count: int, _events: int | None) -> int:
        if count > 0 and samples:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def speak(
        self, text: str, voice: str, rate_wpm: int = 170, pitch: int = 50, pitch_range: int = 50, word_gap: int = 0
    ) -> NDArray[np.float32]:
        """The text spoken, shape (n,) at 16 kHz, in [-1, 1]. Pitch and its range are 0 to 100, the word gap in 10 ms."""
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise UnknownVoice(voice)
        parameters = ((_RATE, rate_wpm), (_VOLUME, 100), (_PITCH, pitch), (_RANGE, pitch_range), (_WORD_GAP, word_gap))
        for parameter, value in parameters:
            self._library.espeak_SetParameter(parameter, value, 0)
        self._pieces = []
        encoded = text.encode() + b"\0"
        status = self._library.espeak_Synth(
            encoded, ctypes.c_size_t(len(encoded)), 0, _POSITION_CHARACTER, 0, _CHARACTERS_UTF8, None, None
        )
        if status != 0:
            raise RuntimeError(f"espeak_Synth failed with status {status}")
        self._library.espeak_Synchronize()
        if not self._pieces:
            return np.zeros(0, np.float32)
        samples = np.concatenate(self._pieces).astype(np.float32) / 32768
        return np.asarray(resample_poly(samples, 320, 441), dtype=np.float32)


def trim(samples: NDArray[np.float32], threshold: float = 0.01) -> NDArray[np.float32]:
    """The samples without the silence around them; shape (n,) to (m,). The threshold is a share of the peak."""
    loud = np.flatnonzero(np.abs(samples) > threshold * max(1e-4, float(np.abs(samples).max(initial=0.0))))
    if not len(loud):
        return samples
    return samples[max(0, int(loud[0]) - 160) : int(loud[-1]) + 320]
