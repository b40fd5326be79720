"""The text decoder over packed rows: prompt stretches and single next tokens of many sequences in one pass.

Every projection runs once over all rows of a step; only attention is per sequence, over its own extent of the cache. A row's
result depends on its own sequence alone, so who else is in the step never matters (beyond float rounding).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from asr_service.engine.step_model import Token
from asr_service.model.attention import Span, span_attention
from asr_service.model.config import TextConfig
from asr_service.model.kv_cache import KvCache
from asr_service.model.layers import Affine, RmsNorm, TensorSource, activation, to_device
from asr_service.model.packed import PackedAffine, can_pack
from asr_service.model.quantized import Int8Affine
from asr_service.model.sampling import Rule, choose
from asr_service.model.screened_head import ScreenedHead, is_worthwhile

Linear = Callable[[torch.Tensor], torch.Tensor]
"""x W^T + b, however the weights are kept."""


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
class Ends:
    """The last rows of some spans of a step, as rows of their own: `rows` (Y,) int64 says where they are in the step."""

    rows: torch.Tensor
    spans: tuple[Span, ...]

    @classmethod
    def of(cls, wanted: Sequence[tuple[Span, int]], device: torch.device) -> Ends:
        """From each span with how many of its last rows are wanted."""
        rows: list[int] = []
        alone = []
        for span, count in wanted:
            alone.append(Span.of(len(rows), count, span.start + span.count - count, span.begin, device))
            rows += range(span.end - count, span.end)
        return cls(to_device(torch.tensor(rows, dtype=torch.int64), device), tuple(alone))


@dataclass(frozen=True, slots=True, eq=False)
class DecoderLayer:
    """Read by `run`, and by decode_step.py."""

    attention_norm: RmsNorm
    qkv: Linear  # ((heads + 2 kv_heads) head_dim, hidden)
    qk_norm: RmsNorm  # (heads + kv_heads, head_dim)
    out: Linear
    mlp_norm: RmsNorm
    gate_up: Linear  # (2 ffn, hidden)
    down: Linear


class Decoder:
    """Token embeddings, layers and head. Weights are read only.

    `quantize`: "int8" for layers in 8 bits (on a CPU; embeddings, norms and the choice of tokens stay as they are), or "".
    """

    def __init__(self, config: TextConfig, source: TensorSource, quantize: str = "") -> None:
        self._config = config
        self._activation: Callable[[torch.Tensor], torch.Tensor] = activation(config.activation)
        model = source.within("model.")
        self._embeddings = model.take("embed_tokens.weight")  # (vocabulary, hidden)
        self._layers = tuple(_layer(config, model.within(f"layers.{index}."), quantize) for index in range(config.n_layers))
        self._norm = model.rms_norm("norm", config.rms_eps)
        self._head = Affine(self._embeddings) if config.is_tied else source.affine("lm_head")
        self._screen = ScreenedHead(self._head.weight) if is_worthwhile(self._head.weight) else None
        halves = torch.arange(0, config.head_dim, 2, dtype=torch.int64).float() / config.head_dim
        self._frequencies = (1.0 / config.rope_theta**halves).to(source.device)  # (head_dim / 2,) float32

    @property
    def layers(self) -> tuple[DecoderLayer, ...]:
        return self._layers

    @property
    def norm(self) -> RmsNorm:
        """Between the last layer and the head."""
        return self._norm

    @property
    def head(self) -> Affine:
        return self._head

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """(R,) int64 to (R, hidden)."""
        return functional.embedding(ids, self._embeddings)

    def run(
        self, x: torch.Tensor, rows: Rows, cache: KvCache, wanted: Sequence[tuple[Span, int]] | None = None
    ) -> torch.Tensor:
        """Embedded rows (R, hidden) through all layers; their keys and values go to the cache. Gives (R, hidden).

        `wanted`: the spans, in their order, with how many of their last rows are wanted. The last layer does nothing else then
        for the others than their keys and values, and the result is these rows one after the other, (Y, hidden).
        """
        rotation = self.rotation(rows.positions, x.dtype)
        ends = None if wanted is None else Ends.of(wanted, x.device)
        for index, layer in enumerate(self._layers):
            q = self._project(index, layer.attention_norm(x), rotation, rows, cache)
            spans = rows.spans
            if ends is not None and layer is self._layers[-1]:
                x, q, spans = x[ends.rows], q[ends.rows], ends.spans
            x = x + layer.out(span_attention(q, *cache.layer(index), spans).flatten(1))
            gate, up = layer.gate_up(layer.mlp_norm(x)).chunk(2, dim=-1)
            x = x + layer.down(self._activation(gate).mul_(up))
        return x

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Rows out of `run`, (Y, hidden), to (Y, vocabulary)."""
        return self._head(self._norm(x))

    def choose(self, x: torch.Tensor, rules: Sequence[Rule]) -> list[Token]:
        """The next token of each of the rows (Y, hidden) out of `run`, as `choose(logits(x), rules)` would have it."""
        if self._screen is None or (plain := [row for row, rule in enumerate(rules) if rule.is_greedy]) == []:
            return choose(self.logits(x), rules)
        screened = self._screen.likeliest(self._norm(x[plain]))
        if screened is None:
            return choose(self.logits(x), rules)
        chosen = dict(zip(plain, screened, strict=True))
        if rest := [row for row in range(len(rules)) if row not in chosen]:
            chosen |= zip(rest, choose(self.logits(x[rest]), [rules[row] for row in rest]), strict=True)
        return [chosen[row] for row in range(len(rules))]

    def _project(
        self, index: int, x: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor], rows: Rows, cache: KvCache
    ) -> torch.Tensor:
        """Queries (R, heads, head_dim); keys and values go to the cache."""
        layer, heads, kv_heads = self._layers[index], self._config.n_heads, self._config.n_kv_heads
        qkv = layer.qkv(x).unflatten(-1, (heads + 2 * kv_heads, self._config.head_dim))
        qk = rotate(layer.qk_norm(qkv[:, : heads + kv_heads]), rotation)
        cache.write(index, rows.places, qk[:, heads:], qkv[:, heads + kv_heads :])
        return qk[:, :heads]

    def rotation(self, positions: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
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
    half = x.shape[-1] // 2
    (first, second), cos, sin = x.chunk(2, dim=-1), cos[..., :half], sin[..., :half]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def _linear(affine: Affine, quantize: str) -> Linear:
    """In the form that is fastest where it is."""
    if quantize == "int8":
        return Int8Affine.of(affine.weight, affine.bias)
    return PackedAffine.of(affine) if can_pack(affine) else affine


def _layer(config: TextConfig, source: TensorSource, quantize: str) -> DecoderLayer:
    per_head = [
        source.take("self_attn.q_norm.weight").expand(config.n_heads, -1),
        source.take("self_attn.k_norm.weight").expand(config.n_kv_heads, -1),
    ]
    return DecoderLayer(
        attention_norm=source.rms_norm("input_layernorm", config.rms_eps),
        qkv=_linear(source.joined("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), quantize),
        qk_norm=RmsNorm(torch.cat(per_head), config.rms_eps),
        out=_linear(source.affine("self_attn.o_proj"), quantize),
        mlp_norm=source.rms_norm("post_attention_layernorm", config.rms_eps),
        gate_up=_linear(source.joined("mlp.gate_proj", "mlp.up_proj"), quantize),
        down=_linear(source.affine("mlp.down_proj"), quantize),
    )
