"""The forward pass used for training: the modules of the stock package, run on whole batches.

The stock encoder takes one clip at a time and, without FlashAttention, attends over the whole of it. Here windows of eight
seconds are rows of a dense batch, which is what the released models were trained with: convolutions see one second,
positions start anew in every second, and attention stays in the window, so windows do not know of each other.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from qwen_asr.core.transformers_backend import (  # type: ignore[import-untyped, unused-ignore]
    Qwen3ASRConfig,
    Qwen3ASRForConditionalGeneration,
)
from safetensors.torch import load_file
from tokenizers import Tokenizer  # type: ignore[import-untyped, unused-ignore]
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name everybody uses

from tests.training.dataset import CHUNK_FRAMES, CHUNK_TOKENS, WINDOW_CHUNKS, Batch, audio_tokens
from tests.training.tokenizer import ModelSize, make_config
from tests.training.vocabulary import CTC_CLASSES

_RESIDUAL_OUTPUTS = ("out_proj", "fc2", "o_proj", "down_proj")


def new_model(tokenizer: Tokenizer, size: ModelSize) -> Any:
    """A stock model in float32 with weights that small networks learn from."""
    model = Qwen3ASRForConditionalGeneration(Qwen3ASRConfig(**make_config(tokenizer, size))).float()
    _initialize(model.thinker)
    if size.tied:
        model.thinker.lm_head.weight = model.thinker.model.embed_tokens.weight
    return model


def _initialize(thinker: Any) -> None:
    """Draws the weights by fan-in: the stock deviation of 0.02 would nearly silence networks of this width."""
    for name, module in thinker.named_modules():
        if isinstance(module, nn.Linear):
            gain = 0.4 if name.endswith(_RESIDUAL_OUTPUTS) else 1.0
            nn.init.normal_(module.weight, std=gain / math.sqrt(module.in_features))
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    nn.init.normal_(thinker.lm_head.weight, std=0.02)
    nn.init.normal_(thinker.audio_tower.proj2.weight, std=0.02)
    nn.init.normal_(thinker.model.embed_tokens.weight, std=0.1)


def begin_from(model: Any, tokenizer: Tokenizer, folder: Path) -> None:
    """Copies the weights of a checkpoint of the same dimensions, whose vocabulary may be another one.

    Tokens that both vocabularies have keep their rows in the embedding and in the output layer.
    """
    saved = load_file(folder / "model.safetensors")
    old_ids = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    shared = [(old_ids[token], new) for token, new in tokenizer.get_vocab().items() if token in old_ids]
    old_rows, new_rows = (torch.tensor(ids) for ids in zip(*shared, strict=True))
    own = model.state_dict()
    with torch.no_grad():
        for name, tensor in saved.items():
            if name.endswith(("embed_tokens.weight", "lm_head.weight")):
                own[name][new_rows] = tensor[old_rows].float()
            else:
                own[name].copy_(tensor)


class TrainedModel(nn.Module):
    """A stock model and the head of the auxiliary CTC loss (Graves et al. 2006), which is dropped in the end."""

    def __init__(self, tokenizer: Tokenizer, size: ModelSize) -> None:
        super().__init__()
        self.model = new_model(tokenizer, size)
        self.ctc_head = nn.Linear(size.text_width, len(CTC_CLASSES) + 1)
        self._audio_id = tokenizer.token_to_id("<|audio_pad|>")

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits at the labelled positions, shape (labels, vocabulary), and the CTC loss per word."""
        thinker = self.model.thinker
        audio = encode(thinker.audio_tower, batch.mel, batch.frames)
        embeddings = thinker.model.embed_tokens(batch.ids)
        places = (batch.ids == self._audio_id).unsqueeze(-1)
        embeddings = embeddings.masked_scatter(places, audio.to(embeddings.dtype))
        # Padding is on the right and attention causal: no real position sees it, so no mask is needed.
        hidden = thinker.model(inputs_embeds=embeddings, use_cache=False).last_hidden_state
        logits = thinker.lm_head(hidden[batch.weights > 0]).float()
        return logits, self._ctc_loss(audio, batch)

    def _ctc_loss(self, audio: torch.Tensor, batch: Batch) -> torch.Tensor:
        lengths = [audio_tokens(frames) for frames in batch.frames]
        with torch.autocast("cpu", enabled=False):
            scores = self.ctc_head(audio.float()).log_softmax(-1)
        if not any(batch.ctc_targets):
            return torch.zeros(())
        padded = nn.utils.rnn.pad_sequence(list(scores.split(lengths)))
        targets = torch.tensor([word for words in batch.ctc_targets for word in words])
        target_lengths = torch.tensor([len(words) for words in batch.ctc_targets])
        loss: torch.Tensor = F.ctc_loss(padded, targets, torch.tensor(lengths), target_lengths, zero_infinity=True)
        return loss


def encode(encoder: Any, mel: torch.Tensor, frames: list[int]) -> torch.Tensor:
    """Audio embeddings of all clips one after the other, shape (tokens, width).

    `mel` has shape (clips, 128, padded frames), zero after the end of each clip. The same as the stock encoder with its
    window mask; only where a clip is shorter than a second does the stock one leave out the padding of its only chunk.
    """
    clips, bins, padded = mel.shape
    window_chunks = min(WINDOW_CHUNKS, padded // CHUNK_FRAMES)
    chunks = mel.view(clips, bins, -1, CHUNK_FRAMES).transpose(1, 2).reshape(-1, 1, bins, CHUNK_FRAMES)
    chunk_frames = torch.tensor(frames)[:, None] - torch.arange(0, padded, CHUNK_FRAMES)
    chunk_lengths = (chunk_frames.clamp(0, CHUNK_FRAMES).flatten() + 7) // 8
    used = chunk_lengths > 0
    hidden = chunks[used]
    for convolution in (encoder.conv2d1, encoder.conv2d2, encoder.conv2d3):
        hidden = F.gelu(convolution(hidden))
    hidden = encoder.conv_out(hidden.permute(0, 3, 1, 2).flatten(2))
    hidden = hidden + encoder.positional_embedding.positional_embedding[:CHUNK_TOKENS]
    all_chunks = hidden.new_zeros(len(chunks), CHUNK_TOKENS, hidden.shape[-1])
    all_chunks[used] = hidden
    # Only a clip's last chunk is not full, so the tokens of a window are its first ones.
    window_lengths = chunk_lengths.view(-1, window_chunks).sum(1)
    windows = all_chunks.view(-1, window_chunks * CHUNK_TOKENS, hidden.shape[-1])[window_lengths > 0]
    window_lengths = window_lengths[window_lengths > 0]
    valid = torch.arange(windows.shape[1]) < window_lengths[:, None]
    for layer in encoder.layers:
        windows = _encoder_layer(layer, windows, valid)
    hidden = encoder.ln_post(windows[valid])
    return encoder.proj2(encoder.act(encoder.proj1(hidden)))  # type: ignore[no-any-return, unused-ignore]


def _encoder_layer(layer: Any, windows: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """One transformer layer on windows of shape (windows, tokens, width), of which `valid` tells the real tokens."""
    attention, normed = layer.self_attn, layer.self_attn_layer_norm(windows)
    shape = (*windows.shape[:2], attention.num_heads, -1)
    query, key, value = (
        projection(normed).view(shape).transpose(1, 2) for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=valid[:, None, None], scale=attention.scaling)
    windows = windows + attention.out_proj(mixed.transpose(1, 2).flatten(2))
    normed = layer.final_layer_norm(windows)
    return windows + layer.fc2(layer.activation_fn(layer.fc1(normed)))  # type: ignore[no-any-return, unused-ignore]
