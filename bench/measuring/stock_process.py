"""The baseline in a process of its own: its memory allocator, its threads and its caches are as its users have them."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter

import torch

from asr_service.request import Samples
from measuring.stock import Stock

Timed = tuple[float, list[list[int]]]
"""Seconds, and the tokens of each clip."""


class StockProcess:
    """One request at a time: the caller waits while it works."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def generate(self, clips: Sequence[Samples], n_tokens: int, *, windows: bool = False) -> Timed:
        """See Stock.generate. Timed inside, so the pipe costs nothing."""
        self._connection.send((list(clips), n_tokens, windows))
        answer: Timed = self._connection.recv()
        return answer


@contextmanager
def stock_process(folder: Path, cores: set[int], threads: int) -> Iterator[StockProcess]:
    """Started, loaded and warmed up."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, folder, cores, threads), daemon=True)
    process.start()
    there.close()
    try:
        here.recv()
        yield StockProcess(here)
    finally:
        here.close()
        process.join(10)
        process.terminate()


def _serve(connection: Connection, folder: Path, cores: set[int], threads: int) -> None:
    os.sched_setaffinity(0, cores)
    torch.set_num_threads(threads)
    stock = Stock(folder)
    connection.send("ready")
    while True:
        try:
            clips, n_tokens, windows = connection.recv()
        except EOFError:
            return
        started_s = perf_counter()
        ids = stock.generate(clips, n_tokens, windows=windows)
        connection.send((perf_counter() - started_s, ids))
