"""Checkpoints, their stock models and our runners, each made once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from asr_service.model.checkpoint import Checkpoint
from asr_service.model.config import ModelConfig
from asr_service.model.prepared import BudgetedReply, MakeReply
from asr_service.model.runner import ModelRunner
from asr_service.model.tokenizer import Tokenizer
from asr_service.request import SAMPLE_RATE, Samples, Work
from tests.model.driving import Driver, PlainReply
from tests.model.random_checkpoint import Shape, write_random_checkpoint
from tests.model.stock import Decoded, NearTies, Stock

SMALL = Path(os.environ.get("ASR_SMALL_CHECKPOINT", Path(__file__).parents[1] / "data/qwen3/small"))
"""The trained checkpoint."""

N_TOKENS = 24
"""Tokens that random weights say; they would never stop by themselves."""


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """So that sums are added up in one order, and other work on the machine does not stretch the tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def small_folder() -> Path:
    assert SMALL.is_dir(), f"no trained checkpoint in {SMALL}"
    return SMALL


def endless(_tokenizer: Tokenizer, _config: ModelConfig) -> MakeReply:
    """Replies that go on to N_TOKENS whatever comes."""
    return lambda _work: BudgetedReply(PlainReply(N_TOKENS), N_TOKENS)


def stopping(_tokenizer: Tokenizer, config: ModelConfig) -> MakeReply:
    """Replies that end at a stop token."""

    def make(work: Work) -> BudgetedReply:
        limit = token_limit(len(work.speech.samples))
        return BudgetedReply(PlainReply(limit, config.stop_ids), limit)

    return make


def token_limit(n_samples: int) -> int:
    return 16 + n_samples * 6 // SAMPLE_RATE


@dataclass(frozen=True)
class Pair:
    """A checkpoint read by both sides."""

    folder: Path
    stock: Stock
    model: ModelRunner
    driver: Driver
    config: ModelConfig

    def greedy(self, samples: Samples) -> Decoded:
        """The stock package's tokens until it stops."""
        return self.stock.greedy(samples, token_limit(len(samples)), sorted(self.config.stop_ids))


def make_pair(folder: Path, *, stops: bool, dtype: str = "float32", stock: Stock | None = None) -> Pair:
    model = ModelRunner(folder, device="cpu", dtype=dtype, kv_bytes=64 << 20, bind_replies=stopping if stops else endless)
    driver = Driver(model, model.load())
    return Pair(folder, stock or Stock(folder), model, driver, Checkpoint.open(folder).config)


@pytest.fixture(scope="session")
def mid(tmp_path_factory: pytest.TempPathFactory, small_folder: Path) -> Pair:
    """Random weights, a head of its own."""
    return make_pair(write_random_checkpoint(tmp_path_factory.mktemp("mid"), small_folder, Shape()), stops=False)


@pytest.fixture(scope="session")
def tied(tmp_path_factory: pytest.TempPathFactory, small_folder: Path) -> Pair:
    """Random weights of other sizes, windows of 3 s, the embedding as head, biases in the decoder's attention."""
    shape = Shape(3, 96, 3, 16, 3, 5, 160, 5, 5, 32, 384, 3072, is_tied=True, has_bias=True)
    return make_pair(write_random_checkpoint(tmp_path_factory.mktemp("tied"), small_folder, shape, seed=1), stops=False)


@pytest.fixture(scope="session")
def wide(tmp_path_factory: pytest.TempPathFactory, small_folder: Path) -> Pair:
    """Random weights and a vocabulary that is worth screening."""
    shape = Shape(2, 64, 2, 8, 8, 3, 192, 4, 2, 48, 384, 8192)
    return make_pair(write_random_checkpoint(tmp_path_factory.mktemp("wide"), small_folder, shape, seed=2), stops=False)


@pytest.fixture(scope="session")
def small(small_folder: Path) -> Pair:
    """The trained checkpoint."""
    return make_pair(small_folder, stops=True)


@pytest.fixture(scope="module")
def near_ties() -> Iterator[NearTies]:
    counter = NearTies()
    yield counter
    assert counter.n_ties <= 1 + counter.n_compared // 100
