"""From samples to what the encoder reads: windows of log-mel frames.

    chunk     100 frames (1 s): the convolutions see one chunk at a time; a full one gives 13 tokens
    window    8 chunks (8 s): attention does not look beyond it, so a window depends on nothing outside it

A clip of at least one chunk has its last chunk filled up with zeros, after normalisation; a shorter one is its own, smaller
chunk. The two give different tokens at the end, and models are trained with exactly this.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from asr_service.model.config import AudioConfig
from asr_service.model.mel import MelExtractor
from asr_service.request import SAMPLE_RATE, Samples

MIN_SAMPLES = SAMPLE_RATE // 2
"""Shorter clips are continued with silence: the reference package does so with the pieces that it cuts, and models have seen
nothing shorter."""


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """One window's worth of frames.

    `mel`: normalised log-mel, (n_mels, 1 .. window_frames), float32. `fills_chunk`: the last chunk is filled up with zeros;
    False only for a clip shorter than one chunk.
    """

    mel: torch.Tensor
    fills_chunk: bool

    @property
    def n_frames(self) -> int:
        return self.mel.shape[1]


def n_tokens(n_frames: int, config: AudioConfig) -> int:
    """Tokens that the encoder gives for so many frames: three convolutions of stride 2 in each chunk."""
    chunks, rest = divmod(n_frames, config.chunk_frames)
    return chunks * config.tokens_per_chunk + -(-rest // 8)


def model_samples(samples: Samples) -> Samples:
    """Within full scale, never rescaled, and at least MIN_SAMPLES long."""
    clipped = np.clip(samples, -1.0, 1.0).astype(np.float32, copy=False)
    return np.pad(clipped, (0, max(0, MIN_SAMPLES - len(clipped))))


def cut_windows(mel: torch.Tensor, config: AudioConfig, *, is_whole: bool = True) -> tuple[Window, ...]:
    """The windows of a clip's normalised frames, (n_mels, T): of all of them, or of those behind some whole windows."""
    fills_chunk = not is_whole or mel.shape[1] >= config.chunk_frames
    return tuple(Window(part, fills_chunk) for part in mel.split(config.window_frames, dim=1))


def windows_of(samples: Samples, extractor: MelExtractor, config: AudioConfig) -> tuple[Window, ...]:
    """The windows of a whole clip's samples."""
    return cut_windows(extractor.log_mel(model_samples(samples)), config)
