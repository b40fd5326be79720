"""The whole network of a checkpoint: audio encoder and text decoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from asr_service.model.attention import choose_window_attention
from asr_service.model.config import ModelConfig
from asr_service.model.decoder import Decoder
from asr_service.model.encoder import AudioEncoder
from asr_service.model.layers import TensorSource


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    encoder: AudioEncoder
    decoder: Decoder

    @classmethod
    def build(
        cls,
        config: ModelConfig,
        tensors: dict[str, torch.Tensor],
        device: torch.device,
        dtype: torch.dtype,
        quantize: str = "",
    ) -> Network:
        """Takes the tensors, which are on the device and of the type already, out of the dictionary.

        `quantize`: see Decoder.
        """
        source = TensorSource(tensors, device, dtype)
        return cls(
            encoder=AudioEncoder(config.audio, source, choose_window_attention(device, dtype)),
            decoder=Decoder(config.text, source, quantize),
        )
