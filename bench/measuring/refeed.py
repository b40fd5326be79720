"""The baseline of live speech: the stock qwen-asr package by its own streaming recipe, in a process of its own.

For each chunk the whole audio so far goes in again, behind it as the beginning of the answer the text so far without its last
five tokens, and the rest is generated; in the first two chunks nothing is kept. The recipe's bookkeeping (text to tokens and
back) is left out in its favour. Costs are seconds of the processor, so neighbours on the machine add little to them.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from asr_service.request import Samples
from measuring.stock import Stock

UNFIXED_CHUNKS, UNFIXED_TOKENS = 2, 5


class RefeedStock(Stock):
    """One chunk of the recipe."""

    @torch.inference_mode()
    def answer(self, samples: Samples, begun: Sequence[int], n_tokens: int) -> list[int]:
        """So many tokens behind those that are given as the answer's beginning; all of them are returned."""
        asr: Any = self._asr
        text = asr._build_text_prompt(context="", force_language=None)  # noqa: SLF001 - as the package does
        inputs = asr.processor(text=[text], audio=[samples], return_tensors="pt", padding=True)
        ids = torch.cat((inputs["input_ids"], torch.tensor([list(begun)], dtype=torch.long)), dim=1)
        inputs["input_ids"], inputs["attention_mask"] = ids, torch.ones_like(ids)
        made = asr.model.generate(**inputs, max_new_tokens=n_tokens, min_new_tokens=n_tokens, do_sample=False, pad_token_id=0)
        said: list[int] = made.sequences[0, ids.shape[1] :].tolist()
        return [*begun, *said]


class RefeedProcess:
    """One chunk at a time: the caller waits while it works."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def chunk(self, samples: Samples, n_tokens: int, said: Sequence[int], n_chunk: int) -> tuple[float, list[int]]:
        """Seconds of the processor, and the answer of `n_tokens` in all. `said`: the answer to the chunk before."""
        begun = list(said[:-UNFIXED_TOKENS]) if n_chunk >= UNFIXED_CHUNKS else []
        self._connection.send((samples, begun[: n_tokens - 1], n_tokens))
        answer: tuple[float, list[int]] = self._connection.recv()
        return answer


@contextmanager
def refeed_process(folder: Path, cores: set[int], threads: int = 1) -> Iterator[RefeedProcess]:
    """Started and loaded."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, folder, cores, threads), daemon=True)
    process.start()
    there.close()
    try:
        here.recv()
        yield RefeedProcess(here)
    finally:
        here.close()
        process.join(10)
        process.terminate()


def _serve(connection: Connection, folder: Path, cores: set[int], threads: int) -> None:
    os.sched_setaffinity(0, cores)
    torch.set_num_threads(threads)
    stock = RefeedStock(folder)
    connection.send("ready")
    while True:
        try:
            samples, begun, n_tokens = connection.recv()
        except EOFError:
            return
        began_s = time.process_time()
        ids = stock.answer(samples, begun, n_tokens - len(begun))
        connection.send((time.process_time() - began_s, ids))
