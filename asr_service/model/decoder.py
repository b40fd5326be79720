"""The text decoder over packed rows: prompt stretches and single next tokens of many sequences in one pass.

Every projection runs once over all rows of a step; only attention is per sequence, over its own extent of the cache. A row's
result depends on its own sequence alone, so who else is in the step never matters (beyond float rounding).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from asr_service.model.attention import Span, span_attention
from asr_service.model.config import TextConfig
from asr_service.model.kv_cache import KvCache
from asr_service.model.layers import Affine, RmsNorm, TensorSource, activation, to_device


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """What the rows of one step are. `positions` and `places`: (R,) int64, in the sequence and in the cache."""

    positions: torch.Tensor
    places: torch.Tensor
    spans: tuple[Span, ...]

    @classmethod
    def of(cls, parts: Sequence[tuple[int, int, int]], device: torch.device) -> Rows:
        """From (start, count, begin) of each sequence: its tokens start .. start + count - 1, its cache from place `begin`."""
        spans = []
        first = 0
        for start, count, begin in parts:
            spans.append(Span.of(first, count, start, begin, device))
            first += count
        positions = torch.cat([torch.arange(span.start, span.start + span.count) for span in spans])
        shifts = torch.repeat_interleave(torch.tensor([span.begin for span in spans]), torch.tensor([s.count for s in spans]))
        return cls(to_device(positions, device), to_device(positions + shifts, device), tuple(spans))


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    attention_norm: RmsNorm
    qkv: Affine  # ((heads + 2 kv_heads) head_dim, hidden)
    qk_norm: RmsNorm  # (heads + kv_heads, head_dim)
    out: Affine
    mlp_norm: RmsNorm
    gate_up: Affine  # (2 ffn, hidden)
    down: Affine


class Decoder:
    """Token embeddings, layers and head. Weights are read only."""

    def __init__(self, config: TextConfig, source: TensorSource) -> None:
        self._config = config
        self._activation: Callable[[torch.Tensor], torch.Tensor] = activation(config.activation)
        model = source.within("model.")
        self._embeddings = model.take("embed_tokens.weight")  # (vocabulary, hidden)
        self._layers = tuple(_layer(config, model.within(f"layers.{index}.")) for index in range(config.n_layers))
        self._norm = model.rms_norm("norm", config.rms_eps)
        self._head = Affine(self._embeddings) if config.is_tied else source.affine("lm_head")
        halves = torch.arange(0, config.head_dim, 2, dtype=torch.int64).float() / config.head_dim
        self._frequencies = (1.0 / config.rope_theta**halves).to(source.device)  # (head_dim / 2,) float32

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """(R,) int64 to (R, hidden)."""
        return functional.embedding(ids, self._embeddings)

    def run(self, x: torch.Tensor, rows: Rows, cache: KvCache) -> torch.Tensor:
        """Embedded rows (R, hidden) through all layers; their keys and values go to the cache. Gives (R, hidden)."""
        rotation = self._rotation(rows.positions, x.dtype)
        for index, layer in enumerate(self._layers):
            x = x + layer.out(self._attend(index, layer.attention_norm(x), rotation, rows, cache))
            gate, up = layer.gate_up(layer.mlp_norm(x)).chunk(2, dim=-1)
            x = x + layer.down(self._activation(gate) * up)
        return x

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Rows out of `run`, (Y, hidden), to (Y, vocabulary)."""
        return self._head(self._norm(x))

    def _attend(
        self, index: int, x: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor], rows: Rows, cache: KvCache
    ) -> torch.Tensor:
        layer, heads, kv_heads = self._layers[index], self._config.n_heads, self._config.n_kv_heads
        qkv = layer.qkv(x).unflatten(-1, (heads + 2 * kv_heads, self._config.head_dim))
        qk = rotate(layer.qk_norm(qkv[:, : heads + kv_heads]), rotation)
        cache.write(index, rows.places, qk[:, heads:], qkv[:, heads + kv_heads :])
        return span_attention(qk[:, :heads], *cache.layer(index), rows.spans).flatten(1)

    def _rotation(self, positions: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines for positions (R,): each (R, 1, head_dim). Angles are taken in float32.

        The checkpoints name three axes of positions (time, height, width); for audio and text they are all equal, which makes
        the interleaved rotation the plain one.
        """
        angles = positions[:, None].float() * self._frequencies
        angles = torch.cat((angles, angles), dim=-1)[:, None]
        return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Rotary position embedding of (R, heads, head_dim): pairs are (i, i + head_dim / 2)."""
    cos, sin = rotation
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def _layer(config: TextConfig, source: TensorSource) -> _Layer:
    per_head = [
        source.take("self_attn.q_norm.weight").expand(config.n_heads, -1),
        source.take("self_attn.k_norm.weight").expand(config.n_kv_heads, -1),
    ]
    return _Layer(
        attention_norm=source.rms_norm("input_layernorm", config.rms_eps),
        qkv=source.joined("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        qk_norm=RmsNorm(torch.cat(per_head), config.rms_eps),
        out=source.affine("self_attn.o_proj"),
        mlp_norm=source.rms_norm("post_attention_layernorm", config.rms_eps),
        gate_up=source.joined("mlp.gate_proj", "mlp.up_proj"),
        down=source.affine("mlp.down_proj"),
    )
