"""Checkpoint folders made on the spot: any dimensions, both layouts, any stored type, one file or several. No torch needed.

tensors    by canonical name (asr_service/model/layouts.py), as numpy arrays or torch tensors
tokenizer  a small byte-level one: 256 bytes, a merge chain for each of a few words, and the special tokens
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from asr_service.model.config import AudioConfig, Layout, ModelConfig, TextConfig
from asr_service.model.layouts import stored_name, tensor_shapes

Array = NDArray[np.float32]
DType = Literal["float32", "float16", "bfloat16"]
TokenizerForm = Literal["json", "vocab"]

WORDS = ("system", "user", "assistant", "language", " English", " German", " None", "turn", " on", " the", " light", " off")
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|audio_start|>", "<|audio_end|>", "<|audio_pad|>")
MARKERS = ("<asr_text>", "<timestamp>")  # added, but not special
_FORMAT_NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def model_config(
    *,
    n_layers: int = 2,
    audio_layers: int = 2,
    hidden: int = 64,
    d_model: int = 48,
    is_tied: bool = False,
    layout: Layout = "thinker",
    dtype: DType = "float32",
    languages: tuple[str, ...] = ("English", "German"),
) -> ModelConfig:
    """A small one of unlike dimensions, none like another. Its ids are those of the tokenizer here."""
    ids = special_ids()
    audio = AudioConfig(
        n_mels=128,
        n_layers=audio_layers,
        n_heads=4,
        d_model=d_model,
        ffn_dim=2 * d_model + 8,
        conv_channels=6,
        out_dim=hidden,
        chunk_frames=100,
        window_chunks=8,
        activation="gelu",
        max_positions=1500 if layout == "thinker" else 13,
    )
    text = TextConfig(
        vocab_size=-(-(max(ids.values()) + 1) // 16) * 16 + 16,
        hidden=hidden,
        ffn_dim=3 * hidden - 8,
        n_layers=n_layers,
        n_heads=4,
        n_kv_heads=2,
        head_dim=24,
        rms_eps=1e-6,
        rope_theta=10_000.0,
        max_positions=8192,
        is_tied=is_tied,
        attention_bias=False,
        activation="silu",
    )
    stops = frozenset({ids["<|im_end|>"], ids["<|endoftext|>"]})
    return ModelConfig(audio, text, ids["<|audio_pad|>"], languages if layout == "thinker" else (), stops, dtype, layout)


def random_tensors(config: ModelConfig, seed: int = 0, *, audio_gain: float = 1.6, text_gain: float = 1.0) -> dict[str, Array]:
    """Weights of standard deviation gain / sqrt(inputs), so that every layer matters: with the usual 0.02 the attention is flat
    and mistakes in masks and windows cannot be seen."""
    random = np.random.default_rng(seed)
    tensors: dict[str, Array] = {}
    for name, shape in tensor_shapes(config).items():
        gain = audio_gain if name.startswith("audio_tower") else text_gain
        if "norm" in name or "ln_post" in name:
            values = random.normal(1.0 if name.endswith("weight") else 0.0, 0.1, shape)
        elif name.endswith("bias"):
            values = random.normal(0.0, 0.1, shape)
        elif "embed_tokens" in name:
            values = random.normal(0.0, 1.0, shape)
        else:
            values = random.normal(0.0, gain / math.sqrt(math.prod(shape[1:])), shape)
        tensors[name] = values.astype(np.float32)
    return tensors


def random_checkpoint(
    folder: Path,
    config: ModelConfig | None = None,
    *,
    seed: int = 0,
    n_shards: int = 1,
    audio_gain: float = 1.6,
    text_gain: float = 1.0,
) -> ModelConfig:
    """Writes a complete folder of random weights, in the layout and type of the configuration; what was written."""
    config = config or model_config()
    tensors = random_tensors(config, seed, audio_gain=audio_gain, text_gain=text_gain)
    return write_checkpoint(folder, config, tensors, n_shards=n_shards)


def write_checkpoint(
    folder: Path,
    config: ModelConfig,
    tensors: Mapping[str, Any],
    *,
    layout: Layout | None = None,
    dtype: DType | None = None,
    n_shards: int = 1,
    tokenizer: Sequence[TokenizerForm] | None = ("json", "vocab"),
) -> ModelConfig:
    """Writes weights, configuration and tokenizer files (None: no tokenizer files); returns what `Checkpoint.open` should read.

    `layout` and `dtype` default to the configuration's own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    layout = layout or config.layout
    written = replace(
        config,
        layout=layout,
        dtype=dtype or config.dtype,
        languages=config.languages if layout == "thinker" else (),
        audio=replace(config.audio, max_positions=1500 if layout == "thinker" else 13),
    )
    _write_json(folder / "config.json", config_values(written))
    _write_json(folder / "generation_config.json", {"do_sample": False, "eos_token_id": sorted(written.stop_ids)})
    if layout == "thinker":
        _write_json(folder / "preprocessor_config.json", _FEATURES | {"feature_extractor_type": "WhisperFeatureExtractor"})
    else:
        _write_json(folder / "processor_config.json", {"feature_extractor": _FEATURES, "processor_class": "Qwen3ASRProcessor"})
    stored = {stored_name(name, layout): _array(value) for name, value in tensors.items()}
    _write_weights(folder, stored, written.dtype, n_shards)
    if tokenizer is not None:
        write_tokenizer(folder, tokenizer)
    return written


def write_safetensors(path: Path, tensors: Mapping[str, Array], dtype: str) -> None:
    """One file; the format is told in asr_service/model/safetensors_header.py."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    blobs: list[bytes] = []
    offset = 0
    for name, array in tensors.items():
        blob = _encode(array, dtype)
        header[name] = {"dtype": _FORMAT_NAMES[dtype], "shape": list(array.shape), "data_offsets": [offset, offset + len(blob)]}
        blobs.append(blob)
        offset += len(blob)
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    path.write_bytes(len(head).to_bytes(8, "little") + head + b"".join(blobs))


def config_values(config: ModelConfig) -> dict[str, Any]:
    """config.json of this configuration, in its layout."""
    top = {"architectures": ["Qwen3ASRForConditionalGeneration"], "model_type": "qwen3_asr"}
    if config.layout == "native":
        return top | {
            "dtype": config.dtype,
            "audio_token_id": config.audio_token_id,
            "tie_word_embeddings": config.text.is_tied,
            "audio_config": _audio_values(config.audio, config.layout),
            "text_config": _text_values(config.text, config.layout),
        }
    return top | {
        "support_languages": list(config.languages),
        "thinker_config": {
            "model_type": "qwen3_asr",
            "dtype": config.dtype,
            "audio_token_id": config.audio_token_id,
            "audio_start_token_id": special_ids()["<|audio_start|>"],
            "audio_end_token_id": special_ids()["<|audio_end|>"],
            "audio_config": _audio_values(config.audio, config.layout),
            "text_config": _text_values(config.text, config.layout),
        },
    }


def _audio_values(audio: AudioConfig, layout: Layout) -> dict[str, Any]:
    values: dict[str, Any] = {
        "num_mel_bins": audio.n_mels,
        "encoder_layers": audio.n_layers,
        "encoder_ffn_dim": audio.ffn_dim,
        "d_model": audio.d_model,
        "activation_function": audio.activation,
        "scale_embedding": False,
        "n_window": audio.chunk_frames // 2,
        "n_window_infer": audio.window_frames,
        "conv_chunksize": 500,
        "downsample_hidden_size": audio.conv_channels,
        "output_dim": audio.out_dim,
    }
    if layout == "native":
        heads = {"num_attention_heads": audio.n_heads, "num_key_value_heads": audio.n_heads}
        return values | heads | {"model_type": "qwen3_asr_encoder", "max_position_embeddings": audio.max_positions}
    return values | {"encoder_attention_heads": audio.n_heads, "max_source_positions": audio.max_positions}


def _text_values(text: TextConfig, layout: Layout) -> dict[str, Any]:
    values: dict[str, Any] = {
        "vocab_size": text.vocab_size,
        "hidden_size": text.hidden,
        "intermediate_size": text.ffn_dim,
        "num_hidden_layers": text.n_layers,
        "num_attention_heads": text.n_heads,
        "num_key_value_heads": text.n_kv_heads,
        "head_dim": text.head_dim,
        "hidden_act": text.activation,
        "max_position_embeddings": text.max_positions,
        "rms_norm_eps": text.rms_eps,
        "tie_word_embeddings": text.is_tied,
        "attention_bias": text.attention_bias,
    }
    if layout == "native":
        rope = {"rope_theta": text.rope_theta, "rope_type": "default"}
        return values | {"model_type": "qwen3", "rope_parameters": rope}
    third = text.head_dim // 2 // 3
    sections = [text.head_dim // 2 - 2 * third, third, third]
    rope = {"rope_type": "default", "mrope_section": sections, "mrope_interleaved": True, "interleaved": True}
    return values | {"rope_theta": text.rope_theta, "rope_scaling": rope}


def special_ids() -> dict[str, int]:
    """The added tokens' ids, by text."""
    first = len(_vocabulary()[0])
    return {text: first + index for index, text in enumerate((*SPECIALS, *MARKERS))}


def write_tokenizer(folder: Path, forms: Sequence[TokenizerForm] = ("json", "vocab")) -> None:
    """tokenizer_config.json, and tokenizer.json or vocab.json with merges.txt or all of them."""
    vocabulary, merges = _vocabulary()
    added = [_added(text, token, is_special=text in SPECIALS) for text, token in special_ids().items()]
    _write_json(
        folder / "tokenizer_config.json",
        {
            "add_prefix_space": False,
            "added_tokens_decoder": {str(a["id"]): {k: v for k, v in a.items() if k != "id"} for a in added},
            "additional_special_tokens": list(SPECIALS[1:]),
            "extra_special_tokens": {
                "audio_token": "<|audio_pad|>",
                "audio_bos_token": "<|audio_start|>",
                "audio_eos_token": "<|audio_end|>",
            },
            "bos_token": None,
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "unk_token": None,
            "clean_up_tokenization_spaces": False,
            "errors": "replace",
            "split_special_tokens": False,
            "tokenizer_class": "Qwen2Tokenizer",
            "processor_class": "Qwen3ASRProcessor",
        },
    )
    if "vocab" in forms:
        _write_json(folder / "vocab.json", vocabulary)
        lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
        (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if "json" in forms:
        _write_json(folder / "tokenizer.json", _tokenizer_values(vocabulary, merges, added))


def _tokenizer_values(vocabulary: dict[str, int], merges: list[tuple[str, str]], added: list[dict[str, Any]]) -> dict[str, Any]:
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": _SPLIT}, "behavior": "Isolated", "invert": False},
                byte_level,
            ],
        },
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": [list(pair) for pair in merges],
        },
    }


def _added(text: str, token: int, *, is_special: bool) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": token, "content": text, **flags, "special": is_special}


def _vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Byte-level characters, then one merge after the other, from left to right through each word."""
    letters = _byte_letters()
    vocabulary = {letter: index for index, letter in enumerate(letters)}
    merges: dict[tuple[str, str], None] = {}
    for word in WORDS:
        spelled = [letters[byte] for byte in word.encode()]
        for end in range(1, len(spelled)):
            pair = ("".join(spelled[:end]), spelled[end])
            merges.setdefault(pair)
            vocabulary.setdefault("".join(pair), len(vocabulary))
    return vocabulary, list(merges)


def _byte_letters() -> list[str]:
    """The printable character that stands for each byte in a byte-level vocabulary, by byte."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


_FEATURES = {"feature_size": 128, "sampling_rate": 16_000, "hop_length": 160, "n_fft": 400, "dither": 0.0, "padding_value": 0.0}


def _write_weights(folder: Path, stored: dict[str, Array], dtype: str, n_shards: int) -> None:
    if n_shards == 1:
        write_safetensors(folder / "model.safetensors", stored, dtype)
        return
    weight_map: dict[str, str] = {}
    for index in range(n_shards):
        file = f"model-{index + 1:05}-of-{n_shards:05}.safetensors"
        shard = {name: array for place, (name, array) in enumerate(stored.items()) if place % n_shards == index}
        write_safetensors(folder / file, shard, dtype)
        weight_map |= dict.fromkeys(shard, file)
    total = sum(len(_encode(array, dtype)) for array in stored.values())
    _write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map})


def _array(value: Any) -> Array:
    if isinstance(value, np.ndarray):
        return value.astype(np.float32, copy=False)
    array: Array = value.detach().float().cpu().numpy()  # a torch tensor
    return array


def _encode(array: Array, dtype: str) -> bytes:
    if dtype != "bfloat16":
        return np.ascontiguousarray(array, dtype="<f4" if dtype == "float32" else "<f2").tobytes()
    bits = np.ascontiguousarray(array, dtype="<f4").view("<u4").astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()  # to the nearest, ties to even


def _write_json(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
