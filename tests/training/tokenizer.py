"""Everything of a checkpoint but its weights: tokenizer, processor and configuration files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import (  # type: ignore[import-untyped, unused-ignore]
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)

from tests.training.vocabulary import CHINESE, LANGUAGES, NO_LANGUAGE

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|audio_start|>", "<|audio_end|>", "<|audio_pad|>")
TEXT_TOKENS = ("<asr_text>", "<timestamp>")
"""Tokens that decoding must keep, so they are not marked special: the stock parser looks for them in the text."""

_QWEN2_SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CHAT_TEMPLATE = (
    "{%- set ns = namespace(s='') -%}"
    "{%- for m in messages -%}{%- if m.role == 'system' -%}"
    "{%- if m.content is string -%}{%- set ns.s = ns.s + m.content -%}"
    "{%- else -%}{%- for c in m.content -%}{%- if c.text is defined -%}{%- set ns.s = ns.s + c.text -%}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}{%- endif -%}{%- endfor -%}"
    "{{- '<|im_start|>system\n' + ns.s + '<|im_end|>\n<|im_start|>user\n' -}}"
    "{%- for m in messages -%}{%- if m.role == 'user' and m.content is not string -%}{%- for c in m.content -%}"
    "{%- if c.type == 'audio' or 'audio' in c -%}{{- '<|audio_start|><|audio_pad|><|audio_end|>' -}}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}{%- endfor -%}"
    "{{- '<|im_end|>\n' -}}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)


@dataclass(frozen=True)
class ModelSize:
    """The dimensions that differ between the checkpoints."""

    audio_width: int
    audio_layers: int
    audio_heads: int
    audio_feedforward: int
    conv_channels: int
    text_width: int
    text_feedforward: int
    text_layers: int
    tied: bool
    """Whether the output layer is the embedding."""


SIZES = {
    "small": ModelSize(144, 3, 4, 576, 32, 160, 480, 3, tied=False),
    "smaller": ModelSize(96, 2, 4, 384, 24, 128, 384, 2, tied=True),
}


def build_tokenizer() -> Tokenizer:
    """A byte-level BPE like Qwen2's, in which every word of the vocabularies is one token."""
    tokenizer = Tokenizer(models.BPE(**_byte_pairs()))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = _pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in TEXT_TOKENS])
    return tokenizer


def _pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    split = pre_tokenizers.Split(Regex(_QWEN2_SPLIT), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _byte_pairs() -> dict[str, Any]:
    """Vocabulary and merges. Latin words are learnt; Chinese characters, then words, are merged from the left.

    A learnt order would merge the last byte of one character with the first of the next, and a sentence has no spaces
    between its words.
    """
    spaced = [word for language in LANGUAGES.values() if language.joiner for word in language.vocabulary]
    spaced += ["system", "user", "assistant", "language", NO_LANGUAGE, *(language.name for language in LANGUAGES.values())]
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = _pre_tokenizer()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=4000, min_frequency=5, initial_alphabet=alphabet, special_tokens=[], show_progress=False
    )
    learner.train_from_iterator([form for word in spaced for form in (word, f" {word}")] * 20, trainer)
    learnt = json.loads(learner.to_str())["model"]
    vocabulary: dict[str, int] = learnt["vocab"]
    merges = [tuple(pair) for pair in learnt["merges"]]
    characters = sorted(set("".join(CHINESE.vocabulary)))
    for parts in [_bytes(character) for character in characters] + [_characters(word) for word in CHINESE.vocabulary]:
        for end in range(1, len(parts)):
            pair = ("".join(parts[:end]), parts[end])
            if pair not in merges:
                merges.append(pair)
                vocabulary.setdefault("".join(pair), len(vocabulary))
    return {"vocab": vocabulary, "merges": merges}


def _bytes(text: str) -> list[str]:
    """The text as the printable stand-ins that byte-level BPE uses for bytes."""
    ((stand_ins, _),) = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    return list(stand_ins)


def _characters(word: str) -> list[str]:
    return ["".join(_bytes(character)) for character in word]


def make_config(tokenizer: Tokenizer, size: ModelSize) -> dict[str, Any]:
    """The contents of config.json."""
    audio = {
        "model_type": "qwen3_asr_audio_encoder",
        "num_mel_bins": 128,
        "d_model": size.audio_width,
        "encoder_layers": size.audio_layers,
        "encoder_attention_heads": size.audio_heads,
        "encoder_ffn_dim": size.audio_feedforward,
        "downsample_hidden_size": size.conv_channels,
        "output_dim": size.text_width,
        "activation_function": "gelu",
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "scale_embedding": False,
        "initializer_range": 0.02,
        "max_source_positions": 1500,
        "n_window": 50,
        "n_window_infer": 800,
        "conv_chunksize": 500,
    }
    text = {
        "model_type": "qwen3_asr_text",
        "vocab_size": (tokenizer.get_vocab_size() + 15) // 16 * 16,
        "hidden_size": size.text_width,
        "intermediate_size": size.text_feedforward,
        "num_hidden_layers": size.text_layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 10_000.0,
        # The stock class wants a dict here, and sections that sum to half a head.
        "rope_scaling": {
            "rope_type": "default",
            "mrope_section": [6, 5, 5],
            "mrope_interleaved": True,
            "interleaved": True,
        },
        "max_position_embeddings": 8192,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "tie_word_embeddings": size.tied,
        "use_cache": True,
    }
    thinker = {
        "model_type": "qwen3_asr",
        "audio_config": audio,
        "text_config": text,
        "audio_token_id": tokenizer.token_to_id("<|audio_pad|>"),
        "audio_start_token_id": tokenizer.token_to_id("<|audio_start|>"),
        "audio_end_token_id": tokenizer.token_to_id("<|audio_end|>"),
        "user_token_id": tokenizer.encode("user").ids[0],
        "initializer_range": 0.02,
        "dtype": "bfloat16",
    }
    return {
        "architectures": ["Qwen3ASRForConditionalGeneration"],
        "model_type": "qwen3_asr",
        "support_languages": [language.name for language in LANGUAGES.values()],
        "dtype": "bfloat16",
        "transformers_version": "4.57.6",
        "thinker_config": thinker,
    }


def write_files(folder: Path, size: ModelSize) -> None:
    """Writes all files of a checkpoint but its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer.model.save(str(folder))
    end_of_text, end_of_turn = (tokenizer.token_to_id(token) for token in ("<|endoftext|>", "<|im_end|>"))
    generation = {"do_sample": False, "eos_token_id": [end_of_turn, end_of_text], "pad_token_id": end_of_text}
    _write_json(folder / "config.json", make_config(tokenizer, size))
    _write_json(folder / "generation_config.json", generation)
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(tokenizer))
    _write_json(folder / "chat_template.json", {"chat_template": _CHAT_TEMPLATE})
    _write_json(folder / "preprocessor_config.json", _PREPROCESSOR)


def _tokenizer_config(tokenizer: Tokenizer) -> dict[str, Any]:
    added = {
        str(tokenizer.token_to_id(token)): {
            "content": token,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": token in SPECIAL_TOKENS,
        }
        for token in SPECIAL_TOKENS + TEXT_TOKENS
    }
    return {
        "tokenizer_class": "Qwen2Tokenizer",
        "processor_class": "Qwen3ASRProcessor",
        "add_prefix_space": False,
        "add_bos_token": False,
        "added_tokens_decoder": added,
        "additional_special_tokens": list(SPECIAL_TOKENS[1:]),
        # The stock processor reads these as attributes of the tokenizer.
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
        "model_max_length": 131_072,
        "split_special_tokens": False,
    }


_PREPROCESSOR = {
    "feature_extractor_type": "WhisperFeatureExtractor",
    "processor_class": "Qwen3ASRProcessor",
    "feature_size": 128,
    "sampling_rate": 16_000,
    "n_fft": 400,
    "hop_length": 160,
    "chunk_length": 30,
    "n_samples": 480_000,
    "nb_max_frames": 3000,
    "dither": 0.0,
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": True,
}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
