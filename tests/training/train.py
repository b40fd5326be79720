"""Command line of the package: speak the training data, train, export, speak the fixtures, measure."""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name everybody uses

from tests.training import evaluate, export, fixtures
from tests.training.dataset import IGNORED, Batch, Collator, Composer, Item, Mixture, mixture_for, plan_round, single
from tests.training.network import TrainedModel, begin_from
from tests.training.shards import ShardReader, Utterance, make_shard
from tests.training.speech import CLEAR_MANNER, Manner
from tests.training.tokenizer import SIZES, build_tokenizer

DEVELOPMENT_SHARD = 9000
"""Training shards count from 0; this one is for watching the training."""


@dataclass(frozen=True)
class Settings:
    """How one training run goes."""

    size: str
    data: Path
    output: Path
    minutes: float
    rate: float
    """Learning rate after the warm-up; it falls to 2 % along a cosine over the minutes given."""
    initial: Path | None = None
    """Weights to begin from: a file of an earlier run, or the folder of a checkpoint of the same dimensions."""
    mixture: Mixture | None = None
    """The shares of longer clips; by default they grow with what the model can read."""
    threads: int = 1
    seed: int = 0
    warm_up_steps: int = 100
    batch_frames: int = 14_000
    batch_items: int = 48
    round_singles: int = 4000
    report_steps: int = 50
    evaluation_minutes: float = 5.0


@dataclass
class Averages:
    """Means of what each step reports, since they were last taken."""

    _sums: dict[str, float] = field(default_factory=dict)
    _steps: int = 0

    def add(self, **values: float) -> None:
        """Adds one step."""
        self._steps += 1
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def take(self) -> dict[str, float]:
        """The means, beginning anew."""
        means = {name: round(total / max(1, self._steps), 4) for name, total in self._sums.items()}
        self._sums, self._steps = {}, 0
        return means


class Trainer:
    """One training run."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._rng = random.Random(settings.seed)  # noqa: S311 - a reproducible run, not a secret
        torch.manual_seed(settings.seed)
        torch.set_num_threads(settings.threads)
        tokenizer = build_tokenizer()
        self._network = TrainedModel(tokenizer, SIZES[settings.size])
        if settings.initial and settings.initial.is_dir():
            begin_from(self._network.model, tokenizer, settings.initial)
        elif settings.initial:
            self._network.load_state_dict(torch.load(settings.initial))
        self._collator = Collator(self._rng, tokenizer)
        self._optimizer = torch.optim.AdamW(self._network.parameters(), betas=(0.9, 0.98), weight_decay=0.02)
        self._shards = ShardReader(settings.data / "shards")
        self._utterances: list[Utterance] = []
        self._development = _development_items(settings.data / "development")
        self._exact = 0.0
        self._best = -1.0
        self._begun = time.monotonic()
        settings.output.mkdir(parents=True, exist_ok=True)

    @property
    def _minutes(self) -> float:
        return (time.monotonic() - self._begun) / 60

    @property
    def _progress(self) -> float:
        return min(1.0, self._minutes / self._settings.minutes)

    def run(self) -> None:
        """Trains until the time is over; keeps `last.pt` and `best.pt` in the output folder."""
        settings, step, evaluated, averages = self._settings, 0, 0.0, Averages()
        if settings.initial:
            self._evaluate(step)
        while self._progress < 1:
            self._utterances += self._shards.new_utterances()
            mixture = settings.mixture or mixture_for(self._exact)
            for items in plan_round(
                self._rng, self._utterances, mixture, settings.round_singles, settings.batch_frames, settings.batch_items
            ):
                averages.add(**self._step(items, step), items=len(items))
                step += 1
                if step % settings.report_steps == 0:
                    self._log(step=step, utterances=len(self._utterances), **averages.take())
                if self._minutes - evaluated > settings.evaluation_minutes:
                    evaluated = self._minutes
                    self._evaluate(step)
                if self._progress >= 1:
                    break
        self._evaluate(step)

    def _step(self, items: Sequence[Item], step: int) -> dict[str, float]:
        """One step of AdamW; returns what to report of it."""
        progress, batch = self._progress, self._collator.training_batch(items)
        falling = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))
        for group in self._optimizer.param_groups:
            group["lr"] = self._settings.rate * min(1.0, (step + 1) / self._settings.warm_up_steps) * falling
        with torch.autocast("cpu", torch.bfloat16):
            logits, ctc_loss = self._network(batch)
        labelled = batch.weights > 0
        weights = batch.weights[labelled]
        loss = (F.cross_entropy(logits, batch.labels[labelled], reduction="none") * weights).sum() / weights.sum()
        total = loss + (0.7 if self._exact < 0.65 else 0.3) * ctc_loss
        self._optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)
        if torch.isfinite(norm):
            self._optimizer.step()
        return {"loss": loss.item(), "ctc": ctc_loss.item(), "norm": norm.item()}

    def _evaluate(self, step: int) -> None:
        scores = {name: self._score(items) for name, items in self._development.items()}
        self._log(step=step, **{f"{name}_{key}": value for name, score in scores.items() for key, value in score.items()})
        torch.save(self._network.state_dict(), self._settings.output / "last.pt")
        self._exact = scores["single"]["exact"]
        judged = self._exact + scores["long"]["tokens"]
        if judged > self._best:
            self._best = judged
            torch.save(self._network.state_dict(), self._settings.output / "best.pt")

    @torch.no_grad()
    def _score(self, items: Sequence[Item]) -> dict[str, float]:
        """Shares of right tokens and of answers without a wrong token, each given the true tokens before it."""
        right_tokens = tokens = exact = 0
        ordered = sorted(items, key=lambda item: item.frames)
        self._network.eval()
        for first in range(0, len(ordered), 12):
            batch: Batch = self._collator.plain_batch(ordered[first : first + 12])
            with torch.autocast("cpu", torch.bfloat16):
                logits, _ = self._network(batch)
            labelled = batch.labels != IGNORED
            right = torch.ones_like(labelled)
            right[labelled] = logits.argmax(-1) == batch.labels[labelled]
            right_tokens += int(right[labelled].sum())
            tokens += int(labelled.sum())
            exact += int(right.all(1).sum())
        self._network.train()
        return {"tokens": round(right_tokens / tokens, 4), "exact": round(exact / len(items), 4)}

    def _log(self, **values: float) -> None:
        line = json.dumps({"minutes": round(self._minutes, 2), **values})
        print(line, flush=True)  # noqa: T201 - the program's output
        with (self._settings.output / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(line + "\n")


def _development_items(folder: Path) -> dict[str, list[Item]]:
    utterances = ShardReader(folder).new_utterances()
    rng = random.Random(1)  # noqa: S311 - the same clips in every run
    composer = Composer(rng, utterances)
    return {
        "single": [single(utterance) for utterance in utterances[:240]],
        "middle": [composer.compose(rng.randint(800, 2000)) for _ in range(24)],
        "long": [composer.compose(rng.randint(3000, 6000)) for _ in range(12)],
    }


def _generate(arguments: argparse.Namespace) -> None:
    first, last = arguments.shards
    manner = CLEAR_MANNER if arguments.clear else Manner()
    for index in range(first, last):
        print(make_shard(arguments.data / "shards", index, arguments.utterances, manner), flush=True)  # noqa: T201
    if first == 0:
        make_shard(arguments.data / "development", DEVELOPMENT_SHARD, 1000, Manner())


def _train(arguments: argparse.Namespace) -> None:
    output = arguments.data / (arguments.name or arguments.size)
    names = ("size", "data", "minutes", "rate", "initial", "threads", "seed")
    chosen = {name: getattr(arguments, name) for name in names}
    Trainer(Settings(output=output, mixture=Mixture(*arguments.mixture) if arguments.mixture else None, **chosen)).run()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.training.train", description=__doc__)
    commands = parser.add_subparsers(required=True)
    data = argparse.ArgumentParser(add_help=False)
    data.add_argument("--data", type=Path, required=True, help="folder for shards, logs and weights, outside the repository")

    generate = commands.add_parser("generate", parents=[data], help="speak training data")
    generate.add_argument("--shards", type=int, nargs=2, default=(0, 36), metavar=("FIRST", "END"))
    generate.add_argument("--utterances", type=int, default=2000, help="per shard")
    generate.add_argument("--clear", action="store_true", help="mostly default and other clear voices")
    generate.set_defaults(run=_generate)

    train = commands.add_parser("train", parents=[data], help="train one size; shards made meanwhile are used too")
    train.add_argument("--size", choices=SIZES, required=True)
    train.add_argument("--name", help="folder for the results under --data (default: the size)")
    train.add_argument("--minutes", type=float, required=True)
    train.add_argument("--rate", type=float, default=1.5e-3)
    train.add_argument(
        "--initial", type=Path, help="weights of a run, or the folder of a checkpoint of this size, to begin from"
    )
    train.add_argument(
        "--mixture", type=float, nargs=2, metavar=("MIDDLE", "LONG"), help="shares of clips of 8 to 20 s and of 20 to 60 s"
    )
    train.add_argument("--threads", type=int, default=1)
    train.add_argument("--seed", type=int, default=0)
    train.set_defaults(run=_train)

    exporting = commands.add_parser("export", help="write a checkpoint from the weights of a run")
    exporting.add_argument("--size", choices=SIZES, required=True)
    exporting.add_argument("--weights", type=Path, required=True)
    exporting.add_argument("--output", type=Path, required=True)
    exporting.set_defaults(run=lambda a: export.write_checkpoint(a.output, a.size, torch.load(a.weights)))

    speech = commands.add_parser("fixtures", help="speak the held-out clips")
    speech.add_argument("--output", type=Path, required=True)
    speech.set_defaults(run=lambda a: fixtures.write_clips(a.output))

    measure = commands.add_parser("evaluate", help="measure a checkpoint through the stock package")
    measure.add_argument("--checkpoint", type=Path, required=True)
    measure.add_argument("--speech", type=Path, required=True)
    measure.set_defaults(run=lambda a: evaluate.report(a.checkpoint, a.speech))
    return parser


def main() -> None:
    """Runs the subcommand asked for."""
    arguments = _parser().parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
