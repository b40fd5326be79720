"""Each kernel beside plain torch. Imported with TRITON_INTERPRET=1 in the environment, or on a GPU."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import partial

import torch
from triton.runtime import interpreter

from asr_service.model.config import TextConfig
from asr_service.model.decode_ops import PlainOps
from asr_service.model.decode_step import DecodeStep, StaticTensors
from asr_service.model.decoder import Decoder
from asr_service.model.graphs import difference_of
from asr_service.model.kernels import FusedOps
from asr_service.model.kv_cache import KvCache
from asr_service.model.layers import RmsNorm, TensorSource


def _let_the_interpreter_read_bounds() -> None:
    """Triton 3.6 keeps a scalar as an array of one element and calls int() on it, which numpy 2.4 refuses."""
    if os.environ.get("TRITON_INTERPRET") != "1":
        return
    patch = interpreter._patch_lang_tensor

    def patch_further(tensor: type, scope: interpreter._LangPatchScope) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = patch_further


_let_the_interpreter_read_bounds()

CONFIG = TextConfig(
    vocab_size=64,
    hidden=96,
    ffn_dim=160,
    n_layers=2,
    n_heads=6,
    n_kv_heads=2,
    head_dim=32,
    rms_eps=1e-6,
    rope_theta=1e6,
    max_positions=1 << 16,
    is_tied=True,
    attention_bias=False,
    activation="silu",
)

PLACES = 900


@dataclass(frozen=True)
class Cases:
    """One model's sizes on one device. A method per kernel: how far it is from plain torch, as a share of the largest value."""

    config: TextConfig = CONFIG
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def fused(self) -> FusedOps:
        return FusedOps(self.config.n_heads, self.config.n_kv_heads, self.config.head_dim, max_rows=64)

    @property
    def plain(self) -> PlainOps:
        return PlainOps(self.config, PLACES)

    def random(self, dtype: torch.dtype, *size: int, seed: int = 0) -> torch.Tensor:
        return torch.randn(size, generator=torch.Generator().manual_seed(seed)).to(self.device, dtype)

    def norm(self, dtype: torch.dtype, *size: int) -> RmsNorm:
        return RmsNorm(self.random(dtype, *size, seed=7) * 0.1 + 1, self.config.rms_eps)

    def add_norm(self, dtype: torch.dtype, rows: int) -> float:
        hidden = self.config.hidden
        x, update = self.random(dtype, rows, hidden), self.random(dtype, rows, hidden, seed=1)
        scale = self.norm(dtype, hidden)
        both = [(self.fused.add_norm(x, y, scale), self.plain.add_norm(x, y, scale)) for y in (update, None)]
        return max(difference_of(a, b) for found, expected in both for a, b in zip(found, expected, strict=True))

    def gate(self, dtype: torch.dtype, rows: int) -> float:
        x = self.random(dtype, rows, 2 * self.config.ffn_dim)
        return difference_of(self.fused.gate(x), self.plain.gate(x))

    def rotate_and_write(self, dtype: torch.dtype, rows: int) -> float:
        heads, kv_heads, dim = self.config.n_heads, self.config.n_kv_heads, self.config.head_dim
        qkv = self.random(dtype, rows, (heads + 2 * kv_heads) * dim)
        scale = self.norm(dtype, heads + kv_heads, dim)
        angles = torch.rand(rows, 1, dim // 2, device=self.device).repeat(1, 1, 2) * 900
        rotation = (angles.cos().to(dtype), angles.sin().to(dtype))
        places = torch.arange(rows, device=self.device) * 7 + 5
        found, expected = (
            [torch.zeros(kv_heads, PLACES, dim, dtype=dtype, device=self.device) for _ in range(2)] for _ in range(2)
        )
        q = self.fused.rotate_and_write(qkv, scale, rotation, places, *found)
        plain_q = self.plain.rotate_and_write(qkv, scale, rotation, places, *expected)
        return max(difference_of(a, b) for a, b in zip([q, *found], [plain_q, *expected], strict=True))

    def attend(self, dtype: torch.dtype, rows: int, longest: int = 140) -> float:
        q = self.random(dtype, rows, self.config.n_heads, self.config.head_dim)
        keys, values = (self.random(dtype, self.config.n_kv_heads, PLACES, self.config.head_dim, seed=seed) for seed in (2, 3))
        numbers = torch.arange(rows, device=self.device)
        positions = (numbers * 37 + longest - 1) % longest  # the first is the longest, others end anywhere
        begins = numbers * (PLACES - longest) // rows
        found = self.fused.attend(q, keys, values, begins, positions)
        return difference_of(found, PlainOps(self.config, longest).attend(q, keys, values, begins, positions))

    def attend_long(self, dtype: torch.dtype, rows: int) -> float:
        return self.attend(dtype, rows, 800)


def step() -> None:
    """A whole step, compared by its own check; raises where it differs."""
    device = torch.device("cpu")
    decoder = Decoder(CONFIG, TensorSource(_tensors(), device, torch.float32))
    cache = KvCache(CONFIG, PLACES, torch.float32, device, n_scratch=8)
    for size in (1, 3, 8):
        static = StaticTensors(8, CONFIG.vocab_size, torch.float32, device)
        decode = DecodeStep(decoder, cache, static, Cases().fused, PLACES)
        difference = decode.difference(size, partial(decode.run, size))
        if difference.found > 1e-4:
            raise AssertionError(f"{size} rows are off by {difference}")


def _tensors() -> dict[str, torch.Tensor]:
    d, q, kv = CONFIG.hidden, CONFIG.n_heads * CONFIG.head_dim, CONFIG.n_kv_heads * CONFIG.head_dim
    shapes = {"model.embed_tokens.weight": (CONFIG.vocab_size, d), "model.norm.weight": (d,)}
    for index in range(CONFIG.n_layers):
        layer = f"model.layers.{index}"
        for name, size in (("q", (q, d)), ("k", (kv, d)), ("v", (kv, d)), ("o", (d, q))):
            shapes[f"{layer}.self_attn.{name}_proj.weight"] = size
        for name in ("q_norm", "k_norm"):
            shapes[f"{layer}.self_attn.{name}.weight"] = (CONFIG.head_dim,)
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{layer}.{name}.weight"] = (d,)
        for name in ("gate_proj", "up_proj"):
            shapes[f"{layer}.mlp.{name}.weight"] = (CONFIG.ffn_dim, d)
        shapes[f"{layer}.mlp.down_proj.weight"] = (d, CONFIG.ffn_dim)
    return {
        name: Cases().random(torch.float32, *size, seed=index) / (size[-1] ** 0.5 if len(size) > 1 else 1)
        for index, (name, size) in enumerate(shapes.items())
    }
