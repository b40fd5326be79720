"""Trains the small forced aligner from the weights of a small checkpoint: the same encoder and decoder, another output layer.

    <|audio_start|>{audio}<|audio_end|>turn<timestamp><timestamp>on<timestamp><timestamp>...

At the two <timestamp> of a word the output layer says the class of its begin and of its end: time / 80 ms. All in one pass.

    python -m tests.training.aligner generate --data FOLDER
    python -m tests.training.aligner train --data FOLDER --initial tests/data/qwen3/small --minutes 30
    python -m tests.training.aligner export --weights FOLDER/aligner/last.pt --output tests/data/qwen3/aligner
    python -m tests.training.aligner fixtures --output tests/data/qwen3/timed
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from qwen_asr.core.transformers_backend import (  # type: ignore[import-untyped, unused-ignore]
    Qwen3ASRConfig,
    Qwen3ASRForConditionalGeneration,
)
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer  # type: ignore[import-untyped, unused-ignore]
from torch import nn

from tests.training.dataset import Composer, Item, Mixture, audio_tokens, blur, padded_frames, plan_round, single
from tests.training.network import encode
from tests.training.shards import Utterance
from tests.training.speech import CLEAR_MANNER, Manner, log_mel, no_speech
from tests.training.timed import Span, TimedUtterance, make_timed_shard, read_timed_shard
from tests.training.timed_fixtures import write_timed_clips
from tests.training.tokenizer import SIZES, build_tokenizer, make_config, write_files

SIZE = "small"
N_CLASSES = 800
"""64 seconds."""
CLASS_MS = 80
MIXTURE = Mixture(0.2, 0.1)
"""Shares of longer clips, in frames."""
_FRAME_S = 0.01
_DEVELOPMENT_SHARD = 9000
_OUTPUT_LAYER = "thinker.lm_head.weight"


def aligner_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """The contents of config.json."""
    config = make_config(tokenizer, SIZES[SIZE])
    config["thinker_config"] |= {"model_type": "qwen3_forced_aligner", "classify_num": N_CLASSES}
    return config | {"timestamp_token_id": tokenizer.token_to_id("<timestamp>"), "timestamp_segment_time": CLASS_MS}


def timed_units(item: Item) -> list[tuple[str, Span]]:
    """What is said in an item, and when, in seconds from its begin."""
    units: list[tuple[str, Span]] = []
    at_s = 0.0
    for pause, piece in zip(item.pauses, cast("tuple[TimedUtterance, ...]", item.pieces), strict=True):
        at_s += pause * _FRAME_S
        units += [(u, (b + at_s, e + at_s)) for u, (b, e) in zip(piece.units, piece.spans, strict=True)]
        at_s += piece.frames * _FRAME_S
    return units


@dataclass(frozen=True)
class Batch:
    """What a step reads."""

    mel: torch.Tensor
    """Shape (items, 128, padded frames)."""
    frames: list[int]
    ids: torch.Tensor
    """Shape (items, tokens), padded on the right."""
    times: torch.Tensor
    """In classes, not rounded, where a known time is asked for; NaN elsewhere. Shape (items, tokens)."""


class Collator:
    """Makes batches of items."""

    def __init__(self, rng: random.Random, tokenizer: Tokenizer) -> None:
        self._rng = rng
        self._tokenizer = tokenizer
        named = ("<|audio_start|>", "<|audio_end|>", "<|audio_pad|>", "<timestamp>", "<|endoftext|>")
        self._begin, self._end, self._audio, self._slot, self._pad = map(tokenizer.token_to_id, named)

    def batch(self, items: Sequence[Item], *, augmented: bool) -> Batch:
        """`augmented`: features blurred, and a word here and there with a capital letter."""
        frames = [item.frames for item in items]
        features = np.zeros((len(items), 128, padded_frames(max(frames))), np.float32)
        for row, item in enumerate(items):
            features[row, :, : item.frames] = blur(self._rng, item.mel()) if augmented else item.mel()
        rows = [self._row(item, augmented) for item in items]
        length = max(len(ids) for ids, _ in rows)
        ids, times = np.full((len(items), length), self._pad), np.full((len(items), length), np.nan, np.float32)
        for row, (tokens, slots) in enumerate(rows):
            ids[row, : len(tokens)], times[row, : len(tokens)] = tokens, slots
        return Batch(torch.from_numpy(features), frames, torch.from_numpy(ids), torch.from_numpy(times))

    def _row(self, item: Item, augmented: bool) -> tuple[list[int], list[float]]:
        ids = [self._begin, *[self._audio] * audio_tokens(item.frames), self._end]
        times = [math.nan] * len(ids)
        for unit, (begin_s, end_s) in timed_units(item):
            spelled = unit.capitalize() if augmented and self._rng.random() < 0.08 else unit
            tokens: list[int] = self._tokenizer.encode(spelled).ids
            ids += [*tokens, self._slot, self._slot]
            times += [*[math.nan] * len(tokens), begin_s * 1000 / CLASS_MS, end_s * 1000 / CLASS_MS]
        return ids, times


class TrainedAligner(nn.Module):
    """A stock model with the aligner's output layer."""

    def __init__(self, tokenizer: Tokenizer, initial: Path) -> None:
        super().__init__()
        self.model = Qwen3ASRForConditionalGeneration(Qwen3ASRConfig(**aligner_config(tokenizer))).float()
        saved = load_file(initial / "model.safetensors") if initial.is_dir() else torch.load(initial)
        own = self.model.state_dict()
        saved = {_OUTPUT_LAYER: ordered_rows(*own[_OUTPUT_LAYER].shape)} | {
            name: tensor for name, tensor in saved.items() if tensor.shape == own[name].shape
        }
        with torch.no_grad():
            for name, tensor in saved.items():
                own[name].copy_(tensor)
        self._audio_id = tokenizer.token_to_id("<|audio_pad|>")

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits where a known time is asked for, shape (times, classes)."""
        thinker = self.model.thinker
        audio = encode(thinker.audio_tower, batch.mel, batch.frames)
        embeddings = thinker.model.embed_tokens(batch.ids)
        places = (batch.ids == self._audio_id).unsqueeze(-1)
        embeddings = embeddings.masked_scatter(places, audio.to(embeddings.dtype))
        # Padding is on the right and attention causal: no real position sees it, so no mask is needed.
        hidden = thinker.model(inputs_embeds=embeddings, use_cache=False).last_hidden_state
        logits: torch.Tensor = thinker.lm_head(hidden[~batch.times.isnan()]).float()
        return logits


def ordered_rows(classes: int, width: int) -> torch.Tensor:
    """An output layer to begin with, in which near classes are alike: sines and cosines of the class with many periods.

    With random rows a network of this size tells only some of the classes, which it has met often.
    """
    periods = torch.logspace(math.log10(2.5), math.log10(2.5 * classes), width // 2)
    angles = 2 * math.pi * torch.arange(classes)[:, None] / periods
    return torch.cat((angles.sin(), angles.cos()), dim=1) / math.sqrt(width / 2)


def class_loss(logits: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    """Cross-entropy with both neighbouring classes of each time, by nearness."""
    times = times.clamp(0, N_CLASSES - 1)
    low = times.floor().long()
    share = (times - low)[:, None]
    log_probabilities = logits.log_softmax(-1)
    below = log_probabilities.gather(1, low[:, None])
    above = log_probabilities.gather(1, (low[:, None] + 1).clamp(max=N_CLASSES - 1))
    return -(below * (1 - share) + above * share).mean()


@dataclass(frozen=True)
class Settings:
    """How one training run goes. `rate` falls along a cosine."""

    data: Path
    initial: Path
    minutes: float
    mixture: Mixture
    rate: float = 1.5e-3
    threads: int = 1
    seed: int = 0
    warm_up_steps: int = 100
    batch_frames: int = 14_000
    batch_items: int = 48
    round_singles: int = 1500
    evaluation_minutes: float = 3.0


class Trainer:
    """One training run; keeps `last.pt` and `best.pt`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._rng = random.Random(settings.seed)  # noqa: S311 - a reproducible run, not a secret
        torch.manual_seed(settings.seed)
        torch.set_num_threads(settings.threads)
        self._output = settings.data / "aligner"
        self._output.mkdir(parents=True, exist_ok=True)
        tokenizer = build_tokenizer()
        self._network = TrainedAligner(tokenizer, settings.initial)
        self._collator = Collator(self._rng, tokenizer)
        self._optimizer = torch.optim.AdamW(self._network.parameters(), betas=(0.9, 0.98), weight_decay=0.02)
        self._read: set[Path] = set()
        self._utterances: list[Utterance] = _quiet(self._rng, 60)
        self._development = _development_items(settings.data / "development")
        self._best = math.inf
        self._begun = time.monotonic()

    @property
    def _progress(self) -> float:
        return min(1.0, (time.monotonic() - self._begun) / 60 / self._settings.minutes)

    def run(self) -> None:
        """Trains until the time is over."""
        settings, step, evaluated, losses = self._settings, 0, 0.0, list[float]()
        while self._progress < 1:
            self._read_shards()
            singles, frames, items = settings.round_singles, settings.batch_frames, settings.batch_items
            for batch in plan_round(self._rng, self._utterances, settings.mixture, singles, frames, items):
                losses.append(self._step(batch, step))
                step += 1
                if step % 50 == 0:
                    self._log(step=step, utterances=len(self._utterances), loss=round(sum(losses) / len(losses), 4))
                    losses = []
                if self._progress >= 1 or (self._progress - evaluated) * settings.minutes > settings.evaluation_minutes:
                    evaluated = self._progress
                    self._evaluate(step)
                if self._progress >= 1:
                    break
        self._evaluate(step)

    def _read_shards(self) -> None:
        for path in sorted(set((self._settings.data / "shards").glob("*.json")) - self._read):
            self._read.add(path)
            self._utterances += read_timed_shard(path)

    def _step(self, items: Sequence[Item], step: int) -> float:
        batch = self._collator.batch(items, augmented=True)
        falling = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * self._progress))
        for group in self._optimizer.param_groups:
            group["lr"] = self._settings.rate * min(1.0, (step + 1) / self._settings.warm_up_steps) * falling
        if batch.times.isnan().all():
            return 0.0
        with torch.autocast("cpu", torch.bfloat16):
            logits = self._network(batch)
        loss = class_loss(logits, batch.times[~batch.times.isnan()])
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if torch.isfinite(nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)):
            self._optimizer.step()
        return loss.item()

    def _evaluate(self, step: int) -> None:
        errors = {name: self._errors_ms(items) for name, items in self._development.items()}
        self._log(step=step, **errors)
        torch.save(self._network.model.state_dict(), self._output / "last.pt")
        if (score := sum(found["median"] + found["p90"] for found in errors.values())) < self._best:
            self._best = score
            torch.save(self._network.model.state_dict(), self._output / "best.pt")

    @torch.no_grad()
    def _errors_ms(self, items: Sequence[Item]) -> dict[str, float]:
        self._network.eval()
        errors = []
        for first in range(0, len(items), 12):
            batch = self._collator.batch(items[first : first + 12], augmented=False)
            with torch.autocast("cpu", torch.bfloat16):
                logits = self._network(batch)
            errors.append((logits.argmax(-1) - batch.times[~batch.times.isnan()]).abs() * CLASS_MS)
        self._network.train()
        found = torch.cat(errors)
        return {"median": round(found.median().item(), 1), "p90": round(found.quantile(0.9).item(), 1)}

    def _log(self, **values: object) -> None:
        line = json.dumps({"minutes": round(self._progress * self._settings.minutes, 2), **values})
        print(line, flush=True)  # noqa: T201 - the program's output
        with (self._output / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(line + "\n")


def _quiet(rng: random.Random, n: int) -> list[Utterance]:
    """Noises for the pauses of long clips."""
    mels = (log_mel(no_speech(rng, rng.uniform(0.5, 5))).to(torch.float16).numpy() for _ in range(n))
    return [TimedUtterance(mel, None, ()) for mel in mels]


def _development_items(folder: Path) -> dict[str, list[Item]]:
    rng = random.Random(1)  # noqa: S311 - the same clips in every run
    timed = read_timed_shard(folder / f"{_DEVELOPMENT_SHARD:04d}.json")
    utterances = [*timed, *_quiet(rng, 10)]
    composer = Composer(rng, utterances)
    return {
        "single": sorted((single(utterance) for utterance in timed[:240]), key=lambda item: item.frames),
        "middle": [composer.compose(rng.randint(800, 2000)) for _ in range(24)],
        "long": [composer.compose(rng.randint(3000, 6000)) for _ in range(12)],
    }


def write_aligner(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    """Writes a whole checkpoint in bfloat16."""
    if folder.exists():
        shutil.rmtree(folder)
    write_files(folder, SIZES[SIZE])
    config = json.dumps(aligner_config(build_tokenizer()), indent=1, ensure_ascii=False)
    (folder / "config.json").write_text(config + "\n", encoding="utf-8")
    tensors = {name: tensor.detach().to(torch.bfloat16).contiguous() for name, tensor in weights.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)


def _generate(arguments: argparse.Namespace) -> None:
    make_timed_shard(arguments.data / "development", _DEVELOPMENT_SHARD, 400, Manner())
    for index in range(arguments.shards):
        manner = CLEAR_MANNER if index % 4 == 3 else Manner()
        print(make_timed_shard(arguments.data / "shards", index, 1500, manner), flush=True)  # noqa: T201


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.training.aligner", description=__doc__)
    commands = parser.add_subparsers(required=True)
    generate = commands.add_parser("generate", help="speak training data")
    generate.add_argument("--data", type=Path, required=True, help="folder for shards, logs and weights")
    generate.add_argument("--shards", type=int, default=24, help="of 1500 utterances")
    generate.set_defaults(run=_generate)

    train = commands.add_parser("train", help="train; shards made meanwhile are used too")
    train.add_argument("--data", type=Path, required=True)
    train.add_argument("--initial", type=Path, required=True, help="weights of a run, or a checkpoint of these sizes")
    train.add_argument("--minutes", type=float, required=True)
    train.add_argument("--rate", type=float, default=1.5e-3)
    train.add_argument("--threads", type=int, default=1)
    train.add_argument(
        "--mixture", type=float, nargs=2, default=(MIXTURE.middle, MIXTURE.long), metavar=("MIDDLE", "LONG"),
        help="shares of clips of 8 to 20 s and of 20 to 60 s",
    )  # fmt: skip
    train.set_defaults(
        run=lambda a: Trainer(Settings(a.data, a.initial, a.minutes, Mixture(*a.mixture), a.rate, a.threads)).run()
    )

    exporting = commands.add_parser("export", help="write a checkpoint from the weights of a run")
    exporting.add_argument("--weights", type=Path, required=True)
    exporting.add_argument("--output", type=Path, required=True)
    exporting.set_defaults(run=lambda a: write_aligner(a.output, torch.load(a.weights)))

    speech = commands.add_parser("fixtures", help="speak the held-out clips with known times")
    speech.add_argument("--output", type=Path, required=True)
    speech.set_defaults(run=lambda a: write_timed_clips(a.output))
    return parser


def main() -> None:
    """Runs the subcommand asked for."""
    arguments = _parser().parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
