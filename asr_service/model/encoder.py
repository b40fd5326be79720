"""The audio encoder: windows of mel frames to audio tokens.

    per chunk (1 s)     3 convolutions of stride 2 over (mel, time), a projection, sinusoids that start again in every chunk
    per window (8 s)    transformer layers; attention stays within the window
    per token           norm and two projections to the decoder's width

A window depends on nothing outside it, so windows of different clips share a batch, and a finished one never changes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from asr_service.model.attention import WindowAttention, WindowLengths, sdpa_windows
from asr_service.model.config import AudioConfig
from asr_service.model.features import Window, n_tokens
from asr_service.model.layers import Affine, Norm, TensorSource, activation, to_device

CONV_BATCH = {"cpu": 8, "cuda": 128}
"""Chunks that go through the convolutions at once, by kind of device. The first output of one is 6 MB with 480 channels in
float32; on a CPU fewer of them stay nearer to the cache."""


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    attention_norm: Norm
    qkv: Affine  # (3 d, d)
    out: Affine
    ffn_norm: Norm
    fc1: Affine
    fc2: Affine


class AudioEncoder:
    """`encode` gives the tokens of windows. Weights are read only."""

    def __init__(self, config: AudioConfig, source: TensorSource, attention: WindowAttention) -> None:
        tower = source.within("audio_tower.")
        self._config = config
        self._attention = attention
        self._activation: Callable[[torch.Tensor], torch.Tensor] = activation(config.activation)
        self._convolutions = tuple(tower.affine(name) for name in ("conv2d1", "conv2d2", "conv2d3"))
        self._conv_out = tower.affine("conv_out")
        self._layers = tuple(_layer(tower.within(f"layers.{index}.")) for index in range(config.n_layers))
        self._ln_post = tower.norm("ln_post")
        self._proj1 = tower.affine("proj1")
        self._proj2 = tower.affine("proj2")
        self._device, self._dtype = source.device, source.dtype
        self._positions = sinusoids(config.tokens_per_chunk, config.d_model).to(self._device, self._dtype)

    def encode(self, windows: Sequence[Window]) -> list[torch.Tensor]:
        """The tokens of each window: (tokens, out_dim) on the model's device."""
        chunks = self._convolve(windows)
        encoded: list[torch.Tensor | None] = [None] * len(windows)
        for members in self._batches(windows):
            for index, tokens in zip(members, self._transform([chunks[index] for index in members]), strict=True):
                encoded[index] = tokens
        return [tokens for tokens in encoded if tokens is not None]

    def encode_dense(self, mel: torch.Tensor, lengths: WindowLengths) -> torch.Tensor:
        """Whole windows on the device, for graphs: (N, n_mels, window_frames), zero beyond their ends, to (N, window_tokens,
        out_dim). What stands at padded places of the result means nothing. Every shape follows from N."""
        n, n_mels, _ = mel.shape
        chunks = mel.view(n, n_mels, -1, self._config.chunk_frames).transpose(1, 2).flatten(0, 1)[:, None].to(self._dtype)
        parts = [self._convolve_on_device(part) for part in chunks.split(CONV_BATCH[self._device.type])]
        return self._run_layers(torch.cat(parts).view(n, lengths.longest, -1), sdpa_windows, lengths)

    def _batches(self, windows: Sequence[Window]) -> list[list[int]]:
        """Which windows share a dense batch. On a CPU padding costs as much as sound, so only windows of the same number of
        chunks do; elsewhere launches cost more, and all do."""
        if self._device.type != "cpu":
            return [list(range(len(windows)))]
        by_chunks: defaultdict[int, list[int]] = defaultdict(list)
        for index, window in enumerate(windows):
            by_chunks[n_chunks(window, self._config)].append(index)
        return list(by_chunks.values())

    # Convolutions, per chunk

    def _convolve(self, windows: Sequence[Window]) -> list[torch.Tensor]:
        """The windows' tokens before the transformer, each (tokens, d)."""
        size = self._config.chunk_frames
        by_width: defaultdict[int, list[torch.Tensor]] = defaultdict(list)  # chunks of whole clips below one chunk keep theirs
        for window in windows:
            width = size if window.fills_chunk else window.n_frames
            by_width[width] += [functional.pad(part, (0, width - part.shape[1])) for part in window.mel.split(size, dim=1)]
        done = {width: iter(self._convolve_chunks(torch.stack(parts))) for width, parts in by_width.items()}
        gathered = []
        for window in windows:
            width = size if window.fills_chunk else window.n_frames
            tokens = torch.cat([next(done[width]) for _ in range(n_chunks(window, self._config))])
            gathered.append(tokens[: n_tokens(window.n_frames, self._config)])
        return gathered

    def _convolve_chunks(self, mel: torch.Tensor) -> torch.Tensor:
        """(M, n_mels, frames) on the host to (M, tokens, d)."""
        parts = [self._convolve_batch(part) for part in mel.split(CONV_BATCH[self._device.type])]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _convolve_batch(self, mel: torch.Tensor) -> torch.Tensor:
        return self._convolve_on_device(to_device(mel[:, None].to(self._dtype), self._device))

    def _convolve_on_device(self, x: torch.Tensor) -> torch.Tensor:
        """(M, 1, n_mels, frames) to (M, t, d)."""
        for convolution in self._convolutions:
            x = functional.gelu(functional.conv2d(x, convolution.weight, convolution.bias, stride=2, padding=1))
        x = self._conv_out(x.permute(0, 3, 1, 2).flatten(2))  # (M, channels, mel/8, t) to (M, t, d)
        return x + self._positions[: x.shape[1]]

    # Transformer, per window

    def _transform(self, windows: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Windows of (tokens, d) to (tokens, out_dim)."""
        counts = [len(window) for window in windows]
        x = nn.utils.rnn.pad_sequence(list(windows), batch_first=True)  # (N, W, d)
        lengths = WindowLengths.of(counts, x.shape[1], self._device)
        return [tokens[:count] for tokens, count in zip(self._run_layers(x, self._attention, lengths), counts, strict=True)]

    def _run_layers(self, x: torch.Tensor, attention: WindowAttention, lengths: WindowLengths) -> torch.Tensor:
        """(N, W, d) to (N, W, out_dim)."""
        for layer in self._layers:
            x = self._run_layer(layer, x, attention, lengths)
        return self._proj2(self._activation(self._proj1(self._ln_post(x))))

    def _run_layer(self, layer: _Layer, x: torch.Tensor, attention: WindowAttention, lengths: WindowLengths) -> torch.Tensor:
        heads = self._config.n_heads
        q, k, v = layer.qkv(layer.attention_norm(x)).unflatten(-1, (3, heads, -1)).unbind(2)
        x = x + layer.out(attention(q, k, v, lengths).flatten(2))
        x = x + layer.fc2(self._activation(layer.fc1(layer.ffn_norm(x))))
        if x.dtype == torch.float16:
            limit = torch.finfo(x.dtype).max - 1000
            x = x.clamp(-limit, limit)
        return x


def n_chunks(window: Window, config: AudioConfig) -> int:
    return -(-window.n_frames // config.chunk_frames)


def sinusoids(length: int, channels: int) -> torch.Tensor:
    """Sines, then cosines, with wavelengths from 2 pi to 10000 x 2 pi: (length, channels) float32."""
    half = channels // 2
    step = torch.log(torch.tensor(10_000.0, dtype=torch.float64)).item() / (half - 1)
    angles = torch.arange(length)[:, None] * torch.exp(-step * torch.arange(half).float())[None]
    return torch.cat((angles.sin(), angles.cos()), dim=1)


def _layer(source: TensorSource) -> _Layer:
    return _Layer(
        attention_norm=source.norm("self_attn_layer_norm"),
        qkv=source.joined("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        out=source.affine("self_attn.out_proj"),
        ffn_norm=source.norm("final_layer_norm"),
        fc1=source.affine("fc1"),
        fc2=source.affine("fc2"),
    )
