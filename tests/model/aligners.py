"""Aligner checkpoints with random weights, and the stock package's aligner as the judge."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from asr_service.request import SAMPLE_RATE, Samples
from tests.model.random_checkpoint import Shape, write_random_checkpoint
from tests.model.stock import NEAR_TIE, quiet

N_CLASSES = 300


def write_random_aligner(folder: Path, small: Path, shape: Shape, seed: int = 0) -> Path:
    """A folder in the layout of Qwen3-ForcedAligner, with the tokenizer of the checkpoint in `small`."""
    write_random_checkpoint(folder, small, shape, seed)
    config = json.loads((folder / "config.json").read_text())
    config["thinker_config"] |= {"model_type": "qwen3_forced_aligner", "classify_num": N_CLASSES}
    config["timestamp_token_id"] = _id_of(small, "<timestamp>")
    config["timestamp_segment_time"] = 80
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    tensors = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(seed)
    tensors["thinker.lm_head.weight"] = torch.randn(N_CLASSES, shape.hidden, generator=generator) / shape.hidden**0.5
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def _id_of(small: Path, name: str) -> int:
    added = json.loads((small / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    return next(int(key) for key, entry in added.items() if entry["content"] == name)


class StockAligner:
    """The unchanged `Qwen3ForcedAligner`, with the window mask that it forgets to pass."""

    def __init__(self, folder: Path) -> None:
        from qwen_asr import Qwen3ForcedAligner

        from tests.training.stock import keep_in_windows

        with quiet():
            self.aligner: Any = Qwen3ForcedAligner.from_pretrained(str(folder), dtype=torch.float32)
        keep_in_windows(self.aligner.model.thinker.audio_tower)

    def units(self, text: str, language: str) -> list[str]:
        """How it cuts a text into words."""
        words: list[str] = self.aligner.aligner_processor.encode_timestamp(text, language)[0]
        return words

    def differs_from(self, ours: Sequence[int], clip: tuple[Samples, str, str]) -> bool:
        """Whether these are not its classes of the clip alone, other than where two classes are as likely to it."""
        scores = self._scores([clip])[0]
        best = scores.topk(2)
        margins = (best.values[:, 0] - best.values[:, 1]).tolist()
        pairs = zip(ours, best.indices[:, 0].tolist(), margins, strict=True)
        return any(class_ != likeliest and margin >= NEAR_TIE for class_, likeliest, margin in pairs)

    def classes(self, clips: Sequence[tuple[Samples, str, str]]) -> list[list[int]]:
        """The classes of all clips in one batch, each of samples, text and language name."""
        return [scores.argmax(-1).tolist() for scores in self._scores(clips)]

    @torch.inference_mode()
    def _scores(self, clips: Sequence[tuple[Samples, str, str]]) -> list[torch.Tensor]:
        """Of the classes at each slot of each clip, (slots, classes)."""
        model = self.aligner
        texts = [model.aligner_processor.encode_timestamp(text, language)[1] for _, text, language in clips]
        with quiet():
            inputs = model.processor(text=texts, audio=[clip[0] for clip in clips], return_tensors="pt", padding=True)
        logits = model.model.thinker(**inputs).logits
        slots = inputs["input_ids"] == model.timestamp_token_id
        return [row[is_slot] for row, is_slot in zip(logits, slots, strict=True)]

    def align(self, samples: Samples, text: str, language: str) -> list[tuple[str, float, float]]:
        """Its own answer: words with begin and end in seconds."""
        with quiet():
            (result,) = self.aligner.align((samples, SAMPLE_RATE), text, language)
        return [(item.text, item.start_time, item.end_time) for item in result]
