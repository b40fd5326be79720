"""Checkpoints with random weights: small enough to be fast, with weights that make mistakes visible.

With the usual initialisation a network of random weights says the same token for ever and its encoder's output hardly depends
on its input, so that a wrong window or mask would go unnoticed. These scales were tuned to give lively output: attention that
looks at something, an encoder that passes differences on, and mostly distinct tokens.
"""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "chat_template.json",
    "preprocessor_config.json",
    "generation_config.json",
)


@dataclass(frozen=True)
class Shape:
    """Sizes of a random checkpoint; those of the tokenizer come from the checkpoint whose files it takes."""

    encoder_layers: int = 4
    d_model: int = 128
    encoder_heads: int = 4
    channels: int = 24
    window_chunks: int = 8
    layers: int = 4
    hidden: int = 192
    heads: int = 6
    kv_heads: int = 2
    head_dim: int = 32
    ffn: int = 512
    vocabulary: int = 2048
    is_tied: bool = False
    has_bias: bool = False  # on the decoder's attention


def write_random_checkpoint(folder: Path, small: Path, shape: Shape, seed: int = 0) -> Path:
    """A checkpoint folder in the original layout, with the tokenizer of the checkpoint in `small`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        if (small / name).exists():
            shutil.copy(small / name, folder / name)
    config = json.loads((small / "config.json").read_text())
    thinker = config["thinker_config"]
    thinker["audio_config"] |= _audio_config(shape)
    thinker["text_config"] |= _text_config(shape)
    config["dtype"] = thinker["dtype"] = "float32"
    config["tie_word_embeddings"] = thinker["tie_word_embeddings"] = shape.is_tied
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    tensors = _Tensors(seed)
    _encoder_tensors(tensors, shape)
    _decoder_tensors(tensors, shape)
    save_file(dict(tensors), folder / "model.safetensors", {"format": "pt"})
    return folder


def _audio_config(shape: Shape) -> dict[str, Any]:
    return {
        "encoder_layers": shape.encoder_layers,
        "num_hidden_layers": shape.encoder_layers,
        "d_model": shape.d_model,
        "encoder_attention_heads": shape.encoder_heads,
        "encoder_ffn_dim": 3 * shape.d_model,
        "downsample_hidden_size": shape.channels,
        "output_dim": shape.hidden,
        "n_window_infer": 100 * shape.window_chunks,
    }


def _text_config(shape: Shape) -> dict[str, Any]:
    third = shape.head_dim // 6
    sections = [shape.head_dim // 2 - 2 * third, third, third]
    return {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "tie_word_embeddings": shape.is_tied,
        "attention_bias": shape.has_bias,
        "rope_theta": 1e6,
        "rope_scaling": {"rope_type": "default", "mrope_section": sections, "mrope_interleaved": True, "interleaved": True},
    }


class _Tensors(dict[str, torch.Tensor]):
    """Tensors as they are stored, filled with random numbers of the given scale."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._generator = torch.Generator().manual_seed(seed)

    def weight(self, name: str, *size: int, scale: float = 1.0) -> None:
        """Of inputs with variance 1, outputs with variance scale^2."""
        self._add(f"{name}.weight", size, scale / math.sqrt(math.prod(size[1:])))

    def bias(self, name: str, size: int) -> None:
        self._add(f"{name}.bias", (size,), 0.1)

    def affine(self, name: str, *size: int) -> None:
        self.weight(name, *size, scale=1.6)
        self.bias(name, size[0])

    def norm(self, name: str, size: int, value: float = 1.0) -> None:
        self._add(f"{name}.weight", (size,), 0.1)
        self[f"thinker.{name}.weight"].add_(1).mul_(value)

    def layer_norm(self, name: str, size: int) -> None:
        self.norm(name, size)
        self.bias(name, size)

    def embedding(self, name: str, *size: int) -> None:
        self._add(f"{name}.weight", size, 0.1)

    def _add(self, name: str, size: tuple[int, ...], scale: float) -> None:
        self[f"thinker.{name}"] = torch.randn(size, generator=self._generator) * scale


def _encoder_tensors(tensors: _Tensors, shape: Shape) -> None:
    d, channels = shape.d_model, shape.channels
    for index, inputs in enumerate((1, channels, channels), 1):
        tensors.affine(f"audio_tower.conv2d{index}", channels, inputs, 3, 3)
    tensors.weight("audio_tower.conv_out", d, channels * 16, scale=1.6)
    for index in range(shape.encoder_layers):
        layer = f"audio_tower.layers.{index}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            tensors.affine(f"{layer}.self_attn.{name}", d, d)
        tensors.affine(f"{layer}.fc1", 3 * d, d)
        tensors.affine(f"{layer}.fc2", d, 3 * d)
        for name in ("self_attn_layer_norm", "final_layer_norm"):
            tensors.layer_norm(f"{layer}.{name}", d)
    tensors.layer_norm("audio_tower.ln_post", d)
    tensors.affine("audio_tower.proj1", d, d)
    tensors.affine("audio_tower.proj2", shape.hidden, d)


def _decoder_tensors(tensors: _Tensors, shape: Shape) -> None:
    tensors.embedding("model.embed_tokens", shape.vocabulary, shape.hidden)
    for index in range(shape.layers):
        layer = f"model.layers.{index}"
        tensors.weight(f"{layer}.self_attn.q_proj", shape.heads * shape.head_dim, shape.hidden)
        tensors.weight(f"{layer}.self_attn.k_proj", shape.kv_heads * shape.head_dim, shape.hidden)
        tensors.weight(f"{layer}.self_attn.v_proj", shape.kv_heads * shape.head_dim, shape.hidden)
        tensors.weight(f"{layer}.self_attn.o_proj", shape.hidden, shape.heads * shape.head_dim, scale=2.0)
        if shape.has_bias:
            for name, heads in (("q", shape.heads), ("k", shape.kv_heads), ("v", shape.kv_heads)):
                tensors.bias(f"{layer}.self_attn.{name}_proj", heads * shape.head_dim)
            tensors.bias(f"{layer}.self_attn.o_proj", shape.hidden)
        for name in ("q_norm", "k_norm"):
            tensors.norm(f"{layer}.self_attn.{name}", shape.head_dim, 3.0)
        tensors.weight(f"{layer}.mlp.gate_proj", shape.ffn, shape.hidden)
        tensors.weight(f"{layer}.mlp.up_proj", shape.ffn, shape.hidden)
        tensors.weight(f"{layer}.mlp.down_proj", shape.hidden, shape.ffn)
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors.norm(f"{layer}.{name}", shape.hidden)
    tensors.norm("model.norm", shape.hidden)
    if not shape.is_tied:
        tensors.weight("lm_head", shape.vocabulary, shape.hidden)
