"""What is kept of a stretch of speech that is still growing, so that a round costs what is new and not what there is.

    frames           raw, of all samples so far; those of the end are mirrored and made anew in each round
    closed windows   all their frames are final. What they look like depends on one thing that may still change: the floor
    open window      the rest; encoded anew in each round

The floor is 8 below the greatest value of the whole clip. An exact round looks at every closed window under the floor of now.
Other rounds leave those that were closed before as they are (and so may say something else where it has become much louder),
because each one that changes is encoded and read again. The look of a closed window has a number, its version: same version,
same values.

A stretch may also turn out to end earlier. Windows that are closed even so are kept; whatever else differs begins anew.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch

from asr_service.engine.step_model import Memory
from asr_service.model.config import AudioConfig
from asr_service.model.features import MIN_SAMPLES, Window, cut_windows, windows_of
from asr_service.model.mel import HOP, MARGIN, FloorWatch, MelExtractor, MelStream, normalise
from asr_service.request import Samples


@dataclass(frozen=True, slots=True, eq=False)
class Grown:
    """A stretch as it is in one round. `versions`: of its closed windows, the first ones. `n_renewed` of them were closed
    before and look different now. `goes_on`: it is the one of the round before, or that and more."""

    windows: tuple[Window, ...]
    versions: tuple[int, ...] = ()
    n_renewed: int = 0
    goes_on: bool = False


class GrowingSpeech(Memory):
    """Any thread may use it; calls wait for each other."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._numbers = count()
        self._before: tuple[int, ...] | None = None
        self._samples: Samples = np.empty(0, np.float32)  # of the last round
        self._raw: list[torch.Tensor] = []  # of the closed windows, each (n_mels, window_frames)
        self._versions: list[int] = []
        self._floors = FloorWatch()
        self._begin(0)

    def take(
        self, samples: Samples, before: tuple[int, ...], extractor: MelExtractor, config: AudioConfig, *, is_exact: bool
    ) -> Grown:
        """The stretch as it is now. `before`: what the model reads ahead of it; windows are kept behind the same only."""
        with self._lock:
            n_common = min(len(samples), len(self._samples))
            is_same = before == self._before and np.array_equal(samples[:n_common], self._samples[:n_common])
            goes_on = is_same and n_common == len(self._samples) > 0
            if not goes_on:
                self._begin(_n_closed(n_common, config) if is_same else 0)
            self._before, self._samples = before, samples
            if len(samples) < MIN_SAMPLES:
                return Grown(windows_of(samples, extractor, config), goes_on=goes_on)
            return self._grow(samples, extractor, config, is_exact=is_exact, goes_on=goes_on)

    def _begin(self, n_kept: int) -> None:
        """All frames are made again. Of the closed windows, the first `n_kept` stay what they are."""
        self._stream: MelStream | None = None
        self._n_pushed = 0  # samples
        self._n_closed = 0  # windows of the new frames
        self._open: list[torch.Tensor] = []  # raw frames behind those, each (n_mels, n)
        del self._raw[n_kept:], self._versions[n_kept:]
        self._floors.cut(n_kept)

    def _grow(self, samples: Samples, extractor: MelExtractor, config: AudioConfig, *, is_exact: bool, goes_on: bool) -> Grown:
        stream = self._stream = self._stream or MelStream(extractor)
        self._open.append(stream.push(np.clip(samples[self._n_pushed :], -1.0, 1.0).astype(np.float32, copy=False)))
        self._n_pushed = len(samples)
        end = stream.finish()
        n_renewed = self._renew(stream.greatest) if is_exact else 0
        open_frames = self._close(torch.cat(self._open, dim=1), stream.greatest, config)
        self._open = [open_frames]
        closed = [Window(normalise(raw, self._floors.greatest(index)), fills_chunk=True) for index, raw in enumerate(self._raw)]
        rest = normalise(torch.cat((open_frames, end), dim=1), stream.greatest)
        opened = cut_windows(rest, config, is_whole=not closed) if rest.shape[1] else ()
        return Grown((*closed, *opened), tuple(self._versions), n_renewed, goes_on)

    def _renew(self, greatest: float) -> int:
        """Closed windows that look different under the floor of now; how many there are."""
        stale = list(self._floors.stale(greatest))
        for index in stale:
            self._floors.renew(index, greatest)
            self._versions[index] = next(self._numbers)
        return len(stale)

    def _close(self, frames: torch.Tensor, greatest: float, config: AudioConfig) -> torch.Tensor:
        """Takes whole windows off the frames; gives what is left of them."""
        while frames.shape[1] >= config.window_frames:
            raw, frames = frames[:, : config.window_frames], frames[:, config.window_frames :]
            if self._n_closed == len(self._raw):
                self._raw.append(raw.clone())
                self._versions.append(next(self._numbers))
                self._floors.add(raw, greatest)
            self._n_closed += 1
        return frames.clone()


def _n_closed(n_samples: int, config: AudioConfig) -> int:
    """Windows that these samples fill, without a frame that is mirrored."""
    n_frames = (n_samples - MARGIN) // HOP + 1 if n_samples >= MIN_SAMPLES else 0
    return n_frames // config.window_frames
