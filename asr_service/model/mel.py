"""Log-mel frames as Whisper's feature extractor makes them, of a whole clip or as the samples come.

A frame is 400 samples around its middle, one every 160 samples (10 ms); frame t covers samples 160 t - 200 .. 160 t + 199, and
the clip is mirrored at both ends. A clip of n samples has n // 160 frames. Values are

    raw = log10(max(mel power, 1e-10))          of one frame, whatever the others are
    (max(raw, M - 8) + 4) / 4                   M: the greatest raw value of the whole clip

so a frame is exact as soon as its samples are there, but a louder one later on lifts the floor under it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from asr_service.request import SAMPLE_RATE, Samples

if TYPE_CHECKING:
    from collections.abc import Iterator

N_FFT = 400
HOP = 160
MARGIN = N_FFT // 2  # samples that a frame needs on either side of its middle
MIN_SAMPLES = MARGIN + 1  # a clip can be mirrored from here on
FLOOR_BELOW_MAX = 8.0  # in log10 of power


class MelExtractor:
    """The filters and the window; never changes, so any thread may use it."""

    def __init__(self, n_mels: int = 128) -> None:
        self.n_mels = n_mels
        self._filters = torch.from_numpy(mel_filters(n_mels).astype(np.float32))  # (n_mels, 201)
        self._window = torch.hann_window(N_FFT)

    def raw(self, samples: Samples) -> torch.Tensor:
        """Raw frames of a whole clip of at least MIN_SAMPLES: (n_mels, n // 160), float32."""
        spectrum = torch.stft(torch.from_numpy(samples)[None], N_FFT, HOP, window=self._window, return_complex=True)
        return self._log_mel(spectrum[..., :-1])[0]  # the last frame is Whisper's to drop

    def raw_of(self, mirrored: torch.Tensor) -> torch.Tensor:
        """Raw frames of samples that bring their margins along, (n,): frame t is samples 160 t .. 160 t + 399."""
        spectrum = torch.stft(mirrored[None], N_FFT, HOP, window=self._window, center=False, return_complex=True)
        return self._log_mel(spectrum)[0]

    def log_mel(self, samples: Samples) -> torch.Tensor:
        """What the encoder reads: normalised frames of a whole clip, (n_mels, n // 160), float32."""
        raw = self.raw(samples)
        return normalise(raw, float(raw.max()))

    def _log_mel(self, spectrum: torch.Tensor) -> torch.Tensor:
        """(1, 201, T) complex to (1, n_mels, T)."""
        return torch.clamp(self._filters @ spectrum.abs() ** 2, min=1e-10).log10()


def normalise(raw: torch.Tensor, greatest: float) -> torch.Tensor:
    """Raw frames of a clip whose greatest raw value is `greatest`, as the encoder reads them."""
    return (torch.clamp(raw, min=greatest - FLOOR_BELOW_MAX) + 4.0) / 4.0


class MelStream:
    """Raw frames of one clip as its samples come, each as soon as it is exact; `finish` gives the last, which is mirrored.

    The frames of all pushes and the last `finish` are those of the whole clip, however it was cut. Memory does not grow.
    """

    def __init__(self, extractor: MelExtractor) -> None:
        self._extractor = extractor
        self._buffer = np.empty(0, np.float32)  # from the first sample (margin included) that a frame still needs
        self._n_samples = 0
        self.n_frames = 0
        self._greatest = self._greatest_at_end = float("-inf")

    @property
    def greatest(self) -> float:
        """The greatest raw value so far; right after `finish`, that of the whole clip."""
        return max(self._greatest, self._greatest_at_end)

    def push(self, samples: Samples) -> torch.Tensor:
        """More samples; the frames that are complete now, (n_mels, >= 0)."""
        started = self._n_samples >= MIN_SAMPLES
        self._greatest_at_end = float("-inf")
        self._n_samples += len(samples)
        self._buffer = np.concatenate((self._buffer, samples))
        if not started and self._n_samples >= MIN_SAMPLES:
            self._buffer = np.concatenate((self._buffer[MARGIN:0:-1], self._buffer))  # mirrored at the first sample
        if self._n_samples < MIN_SAMPLES:
            return self._nothing()
        count = (len(self._buffer) - N_FFT) // HOP + 1
        raw = self._raw_of(self._buffer, count)
        self._buffer = self._buffer[max(0, count) * HOP :].copy()
        self.n_frames += raw.shape[1]
        if raw.shape[1]:
            self._greatest = max(self._greatest, float(raw.max()))
        return raw

    def finish(self) -> torch.Tensor:
        """If there are no more samples: the frames that are left, (n_mels, >= 0). Clips below MIN_SAMPLES have none. Changes
        nothing, so more samples may come after all."""
        count = self._n_samples // HOP - self.n_frames
        if self._n_samples < MIN_SAMPLES or count <= 0:
            return self._nothing()
        raw = self._raw_of(np.concatenate((self._buffer, self._buffer[-2 : -2 - MARGIN : -1])), count)
        self._greatest_at_end = float(raw.max())
        return raw

    def _raw_of(self, buffer: Samples, count: int) -> torch.Tensor:
        """Its first frames."""
        if count <= 0:
            return self._nothing()
        return self._extractor.raw_of(torch.from_numpy(buffer[: (count - 1) * HOP + N_FFT]))

    def _nothing(self) -> torch.Tensor:
        return torch.empty(self._extractor.n_mels, 0)


class FloorWatch:
    """Which windows of a stream would look different now, because the clip's greatest value is another than when they were
    normalised."""

    def __init__(self) -> None:
        self._windows: list[tuple[float, float]] = []  # smallest raw value, and the greatest of the clip at that time

    def add(self, raw: torch.Tensor, greatest: float) -> None:
        """The next window was normalised with this `greatest`."""
        self._windows.append((float(raw.min()), greatest))

    def stale(self, greatest: float) -> Iterator[int]:
        """Indices of the windows that `normalise(raw, greatest)` would change now."""
        for index, (smallest, then) in enumerate(self._windows):
            if greatest != then and smallest < max(greatest, then) - FLOOR_BELOW_MAX:
                yield index

    def greatest(self, index: int) -> float:
        """What window `index` was normalised with."""
        return self._windows[index][1]

    def cut(self, n: int) -> None:
        """Windows from the n-th on are gone."""
        del self._windows[n:]

    def renew(self, index: int, greatest: float) -> None:
        """Window `index` was normalised again."""
        self._windows[index] = (self._windows[index][0], greatest)


def mel_filters(n_mels: int) -> NDArray[np.float64]:
    """Triangular filters, evenly spaced on Slaney's mel scale from 0 to 8 kHz and each of unit area: (n_mels, 201)."""
    edges_hz = _mel_to_hz(np.linspace(0.0, _hz_to_mel(SAMPLE_RATE / 2), n_mels + 2))
    bins_hz = np.linspace(0, SAMPLE_RATE // 2, N_FFT // 2 + 1)
    widths_hz = np.diff(edges_hz)
    distance_hz = edges_hz[None] - bins_hz[:, None]  # (201, n_mels + 2)
    rising = -distance_hz[:, :-2] / widths_hz[:-1]
    falling = distance_hz[:, 2:] / widths_hz[1:]
    triangles = np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (edges_hz[2:] - edges_hz[:-2]))[None]
    return np.ascontiguousarray(triangles.T)


# Slaney's scale: linear up to 1 kHz (15 mel), logarithmic above, 27 mel for a factor of 6.4.
_KNEE_HZ = 1000.0
_KNEE_MEL = 15.0
_MEL_PER_E = 27.0 / float(np.log(6.4))


def _hz_to_mel(hz: float) -> float:
    return 3.0 * hz / 200.0 if hz < _KNEE_HZ else float(_KNEE_MEL + np.log(hz / _KNEE_HZ) * _MEL_PER_E)


def _mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    above = _KNEE_HZ * np.exp((mel - _KNEE_MEL) / _MEL_PER_E)
    return np.where(mel < _KNEE_MEL, 200.0 * mel / 3.0, above)
