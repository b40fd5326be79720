"""The encoder graphs of a model: whole windows, as many at once as there are graphs for, over static tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from asr_service.model.attention import WindowLengths
from asr_service.model.config import AudioConfig
from asr_service.model.decode_graphs import sizes_up_to
from asr_service.model.encoder import AudioEncoder
from asr_service.model.features import Window, n_tokens
from asr_service.model.graphs import (
    CapturedSteps,
    Difference,
    GraphBackend,
    Replay,
    ReportGraphs,
    difference_of,
    shaken,
    upload,
)

SIZES = (1, 2, 4, 8, 16, 32, 64)
"""Windows of an encoder graph. With 480 channels the convolutions of 16 windows at a time take 0.8 GB in bfloat16."""


class EncoderStep:
    """The StaticStep of encoding. Windows shorter than a whole one are filled up: with zeros before the convolutions, as their
    last chunk always is, and with keys that nobody looks at in attention."""

    def __init__(
        self, config: AudioConfig, encoder: AudioEncoder, max_windows: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.tokens = torch.zeros(max_windows, config.window_tokens, config.out_dim, dtype=dtype, device=device)
        self._config = config
        self._encoder = encoder
        self._dtype = dtype
        self._device = device
        self._mel = torch.zeros(max_windows, config.n_mels, config.window_frames, device=device)
        self._counts = torch.ones(max_windows, dtype=torch.int64, device=device)
        self._unused = torch.empty(0, dtype=torch.int32, device=device)

    def put(self, windows: Sequence[Window], size: int) -> None:
        """The inputs of the next replay of this size."""
        mel = torch.zeros(size, self._config.n_mels, self._config.window_frames)
        counts = torch.ones(size, dtype=torch.int64)  # a window that is nobody's looks at one token, so that nothing is 0 / 0
        for index, window in enumerate(windows):
            mel[index, :, : window.n_frames] = window.mel
            counts[index] = n_tokens(window.n_frames, self._config)
        upload(self._mel[:size], mel)
        upload(self._counts[:size], counts)

    def run(self, size: int) -> None:
        """See StaticStep."""
        width = self._config.window_tokens
        is_key = torch.arange(width, device=self._device) < self._counts[:size, None]
        bias = torch.zeros(size, width, dtype=self._dtype, device=self._device).masked_fill(~is_key, -torch.inf)
        lengths = WindowLengths(width, bias[:, None, None], self._unused, self._unused)
        self.tokens[:size] = self._encoder.encode_dense(self._mel[:size], lengths)

    def difference(self, size: int, replay: Replay) -> Difference:
        """See StaticStep. On noise, one whole window and shorter ones."""
        frames = self._config.window_frames
        windows = [
            Window(torch.randn(self._config.n_mels, max(1, frames - 37 * index % frames)), True) for index in range(size)
        ]
        expected = self._encoder.encode(windows)
        noisy = self._encoder.encode([Window(shaken(window.mel.to(self._dtype)).float(), True) for window in windows])
        self.put(windows, size)
        self.tokens[:size] = torch.nan
        replay()
        found = [self.tokens[index, : len(tokens)] for index, tokens in enumerate(expected)]
        return Difference(_worst(found, expected), _worst(noisy, expected))


def _worst(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> float:
    return max(difference_of(one, other) for one, other in zip(found, expected, strict=True))


class EncoderGraphs:
    """Windows, replayed: all but those of clips shorter than a chunk, which are not filled up and so have other shapes.

    `max_windows`: the most of one step.
    """

    def __init__(
        self,
        config: AudioConfig,
        encoder: AudioEncoder,
        backend: GraphBackend,
        *,
        max_windows: int,
        dtype: torch.dtype,
        device: torch.device,
        report: ReportGraphs,
    ) -> None:
        sizes = sizes_up_to(max_windows, SIZES)
        self._config = config
        self._step = EncoderStep(config, encoder, sizes[-1], dtype, device)
        self.captured = CapturedSteps("encoder", sizes, self._step, backend, dtype, report)

    def encode(self, windows: Sequence[Window]) -> list[torch.Tensor] | None:
        """The tokens of each window, (tokens, out_dim), all of them from graphs. None when none is captured."""
        encoded: list[torch.Tensor] = []
        parts = self.captured.split(len(windows))
        for n, size in parts:
            some = windows[len(encoded) : len(encoded) + n]
            self._step.put(some, size)
            self.captured.replay(size)
            tokens = self._step.tokens[:n].clone()  # the next replay writes there
            encoded += [tokens[index, : n_tokens(window.n_frames, self._config)] for index, window in enumerate(some)]
        return encoded if parts else None
