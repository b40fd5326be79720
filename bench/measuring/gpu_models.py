"""Models of the released sizes with random weights, made on the device: nothing is read from disk, not even a tokenizer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch

from asr_service.model.config import AudioConfig, ModelConfig, TextConfig
from asr_service.model.layouts import tensor_shapes
from asr_service.model.parts import ModelParts
from asr_service.model.tokenizer import Tokenizer
from asr_service.request import SAMPLE_RATE, Samples

_SEED = 11


def _model(
    vocabulary: int, encoder: tuple[int, int, int, int, int], decoder: tuple[int, int, int, int, int, int], *, tied: bool = True
) -> ModelConfig:
    """`encoder`: layers, width, heads, ffn, channels. `decoder`: layers, width, ffn, heads, key heads, size of a head."""
    encoder_layers, d_model, encoder_heads, encoder_ffn, channels = encoder
    layers, hidden, ffn, heads, kv_heads, head_dim = decoder
    return ModelConfig(
        audio=AudioConfig(
            n_mels=128,
            n_layers=encoder_layers,
            n_heads=encoder_heads,
            d_model=d_model,
            ffn_dim=encoder_ffn,
            conv_channels=channels,
            out_dim=hidden,
            chunk_frames=100,
            window_chunks=8,
            activation="gelu",
            max_positions=13,
        ),
        text=TextConfig(
            vocab_size=vocabulary,
            hidden=hidden,
            ffn_dim=ffn,
            n_layers=layers,
            n_heads=heads,
            n_kv_heads=kv_heads,
            head_dim=head_dim,
            rms_eps=1e-6,
            rope_theta=1e6,
            max_positions=65_536,
            is_tied=tied,
            attention_bias=False,
            activation="silu",
        ),
        audio_token_id=vocabulary - 1,
        languages=(),
        stop_ids=frozenset(),
        dtype="bfloat16",
        layout="native",
    )


SMALL = _model(151_936, (18, 896, 14, 3584, 480), (28, 1024, 3072, 16, 8, 128))
LARGE = _model(151_936, (24, 1024, 16, 4096, 480), (28, 2048, 6144, 16, 8, 128))
TINY = _model(1_000, (2, 64, 2, 128, 16), (2, 64, 128, 4, 2, 32))
"""To compare computations, and to try this program out."""


def bytes_of(config: ModelConfig, dtype: torch.dtype, prefix: str) -> int:
    """What the weights whose names begin so take."""
    shapes = tensor_shapes(config)
    return sum(math.prod(shape) for name, shape in shapes.items() if name.startswith(prefix)) * dtype.itemsize


def random_tensors(config: ModelConfig, dtype: torch.dtype, device: torch.device) -> dict[str, torch.Tensor]:
    """With scales that make every layer matter and the tokens differ: with the usual ones, wrong windows would not show."""
    generator = torch.Generator(device).manual_seed(_SEED)

    # Attention that looks at something; in a deep network that would double every rounding a few times over.
    sharpness = 3.0 if config.text.n_layers <= 4 else 1.0

    def make(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        made = torch.randn(shape, generator=generator, device=device, dtype=dtype)
        if name.endswith("bias") or "embed_tokens" in name:
            return made.mul_(0.1)
        if len(shape) == 1:
            return made.mul_(0.1).add_(1).mul_(sharpness if "q_norm" in name or "k_norm" in name else 1.0)
        gain = 1.6 if name.startswith("audio_tower.") else 2.0 if "o_proj" in name else 1.0
        return made.mul_(gain / math.sqrt(math.prod(shape[1:])))

    return {name: make(name, shape) for name, shape in tensor_shapes(config).items()}


@dataclass(frozen=True)
class ByteTokenizer:
    """One token per byte, and the special tokens behind them."""

    specials: dict[str, int]

    @classmethod
    def make(cls) -> ByteTokenizer:
        names = ("<|im_start|>", "<|im_end|>", "<|audio_start|>", "<|audio_end|>", "<asr_text>")
        return cls({name: 256 + index for index, name in enumerate(names)})

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def special(self, name: str) -> int:
        return self.specials[name]


def random_parts(config: ModelConfig, made_on: torch.device | None = None) -> Callable[[Path], ModelParts]:
    """An OpenParts. `made_on`: where the numbers are drawn, so that two devices have the same ones; None: the device itself."""

    def tensors(dtype: torch.dtype, device: torch.device) -> dict[str, torch.Tensor]:
        if made_on is None:
            return random_tensors(config, dtype, device)
        return {name: tensor.to(device, dtype) for name, tensor in random_tensors(config, torch.float32, made_on).items()}

    return lambda _folder: ModelParts(replace(config), cast("Tokenizer", ByteTokenizer.make()), tensors)


def noise(seconds: float, seed: int) -> Samples:
    """Sound in which every second differs: noise whose loudness wanders."""
    rng = np.random.default_rng(seed)
    n = round(seconds * SAMPLE_RATE)
    loudness = np.interp(np.arange(n), np.arange(0, n + 1600, 1600), rng.random(len(np.arange(0, n + 1600, 1600))))
    return (rng.standard_normal(n) * 0.2 * loudness).astype(np.float32)
