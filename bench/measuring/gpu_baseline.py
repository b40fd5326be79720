"""The baseline: the model of the transformers library, as it comes, with the same weights on the same device."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch

from asr_service.model.config import ModelConfig
from asr_service.model.layouts import EMBEDDING, HEAD, stored_name
from asr_service.model.prepared import PreparedSpeech
from measuring.gpu_models import random_tensors


class NoBaseline(Exception):
    """transformers has no such model here; the message says why."""


class Baseline:
    """Generates greedily with torch's attention (sdpa) and the library's own cache. Features are ready on the device."""

    def __init__(
        self, config: ModelConfig, dtype: torch.dtype, device: torch.device, made_on: torch.device | None = None
    ) -> None:
        self._config = config
        self._dtype = dtype
        self._device = device
        drawn_as = dtype if made_on is None else torch.float32
        tensors = random_tensors(config, drawn_as, made_on or device)
        self._model = _make_model(config, dtype, device)
        named = {stored_name(name, "native"): tensor.to(device, dtype) for name, tensor in tensors.items()}
        if config.text.is_tied:
            named[stored_name(HEAD, "native")] = named[stored_name(EMBEDDING, "native")]
        missing, unexpected = self._model.load_state_dict(named, strict=False)
        if unexpected or any(not name.endswith(("inv_freq", "positional_embedding")) for name in missing):
            raise NoBaseline(f"its weights have other names: {[*unexpected, *missing][:4]}")
        self._model.eval()

    @property
    def version(self) -> str:
        return f"transformers {importlib.import_module('transformers').__version__}, its own Qwen3-ASR, sdpa"

    def generate(self, clips: Sequence[PreparedSpeech], n_tokens: int) -> list[list[int]]:
        """So many tokens of each, in one batch of clips that are equally long."""
        n_prompt = clips[0].n_prompt
        with torch.inference_mode():
            ids = self._model.generate(
                **self._inputs(clips),
                max_new_tokens=n_tokens,
                min_new_tokens=n_tokens,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=0,
            )
        return [row.tolist() for row in ids[:, n_prompt:]]

    def encode(self, clips: Sequence[PreparedSpeech]) -> None:
        inputs = self._inputs(clips)
        with torch.inference_mode():
            self._model.get_audio_features(inputs["input_features"], inputs["input_features_mask"])

    def _inputs(self, clips: Sequence[PreparedSpeech]) -> dict[str, torch.Tensor]:
        audio = self._config.audio
        mel = [torch.cat([window.mel for window in clip.windows], dim=1) for clip in clips]
        n_frames = mel[0].shape[1]
        padded = -(-n_frames // audio.chunk_frames) * audio.chunk_frames
        features = torch.zeros(len(clips), audio.n_mels, padded)
        features[:, :, :n_frames] = torch.stack(mel)
        mask = (torch.arange(padded) < n_frames).long().expand(len(clips), -1)
        audio_ids = [self._config.audio_token_id] * clips[0].n_audio_tokens
        ids = torch.tensor([[*clip.prompt.before, *audio_ids, *clip.prompt.after] for clip in clips])
        return {
            "input_ids": ids.to(self._device),
            "attention_mask": torch.ones_like(ids).to(self._device),
            "input_features": features.to(self._device, self._dtype),
            "input_features_mask": mask.to(self._device),
        }


def _make_model(config: ModelConfig, dtype: torch.dtype, device: torch.device) -> Any:
    try:
        transformers = importlib.import_module("transformers")
        model_class, config_class = transformers.Qwen3ASRForConditionalGeneration, transformers.Qwen3ASRConfig
    except (ImportError, AttributeError) as error:
        raise NoBaseline(f"transformers has no Qwen3-ASR here ({error})") from error
    audio, text = config.audio, config.text
    described = config_class(
        audio_config={
            "num_mel_bins": audio.n_mels,
            "encoder_layers": audio.n_layers,
            "encoder_attention_heads": audio.n_heads,
            "encoder_ffn_dim": audio.ffn_dim,
            "d_model": audio.d_model,
            "output_dim": audio.out_dim,
            "n_window": audio.chunk_frames // 2,
            "n_window_infer": audio.window_frames,
            "downsample_hidden_size": audio.conv_channels,
        },
        text_config={
            "vocab_size": text.vocab_size,
            "hidden_size": text.hidden,
            "intermediate_size": text.ffn_dim,
            "num_hidden_layers": text.n_layers,
            "num_attention_heads": text.n_heads,
            "num_key_value_heads": text.n_kv_heads,
            "head_dim": text.head_dim,
            "rms_norm_eps": text.rms_eps,
            "max_position_embeddings": text.max_positions,
            "rope_parameters": {"rope_type": "default", "rope_theta": text.rope_theta},
            "tie_word_embeddings": text.is_tied,
        },
        audio_token_id=config.audio_token_id,
        pad_token_id=0,
        eos_token_id=0,
        tie_word_embeddings=text.is_tied,
    )
    described._attn_implementation = "sdpa"  # noqa: SLF001 - the library has no other way for a model that is not loaded
    with torch.device(device):
        model = model_class(described)
    for parameter in model.parameters():  # and not the rotary frequencies, which the library keeps in float32 too
        parameter.data = parameter.data.to(dtype)
    return model
