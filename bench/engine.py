"""What the Qwen3-ASR engine does on a CPU core, against the stock qwen-asr package on the same weights in the same run.

    python bench/engine.py [--pairs N] [ID ...]        all of them, or C1 C2 C3 C4 C8 C9 C10 C15 START WORK

One thread on one core for both sides, in turns. Prints a table and writes bench/results/engine.json; with ids only their rows
are replaced. Takes about half an hour with 5 pairs.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import warnings
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from measuring.live_load import measure_live_load
from measuring.mid_checkpoint import mid_checkpoint
from measuring.own_engine import OwnEngine, own_engine
from measuring.pairs import Pairs, Side, take_pairs
from measuring.report import Row, at_least, machine, row, show, write
from measuring.scheduler_cost import measure_scheduler
from measuring.stock_process import StockProcess, stock_process

from asr_service.request import SAMPLE_RATE, Samples

RESULTS = Path(__file__).parent / "results/engine.json"
AS_SHIPPED = "stock qwen-asr 0.0.6 `generate`, as shipped"
WINDOWED = "stock qwen-asr 0.0.6 `generate`, with the mask of its windows"
MIXED_S = (2, 4, 6, 9, 13, 18, 24, 30)
TOKENS_PER_S = 4
FILE_S, SEGMENT_S, FILE_TOKENS_PER_S = 300, 30, 1


@dataclass(frozen=True)
class Bench:
    """What is measured, started as far as it is needed."""

    own: OwnEngine
    int8: OwnEngine
    bfloat16: OwnEngine
    stock: StockProcess
    n_pairs: int

    def stock_side(self, clips: Sequence[Samples], n_tokens: Sequence[int], *, windows: bool = False) -> Side:
        """One clip after the other."""

        async def run() -> float:
            return sum(self.stock.generate([clip], n, windows=windows)[0] for clip, n in zip(clips, n_tokens, strict=True))

        return run

    def stock_batch_side(self, clips: Sequence[Samples], n_tokens: int) -> Side:
        async def run() -> float:
            return self.stock.generate(clips, n_tokens)[0]

        return run

    async def pairs(self, sides: dict[str, Side]) -> Pairs:
        return await take_pairs(sides, self.n_pairs)


def own_side(engine: OwnEngine, clips: Sequence[Samples], n_tokens: Sequence[int]) -> Side:
    """All clips at once, through the engine's whole path: features, queue, steps, answers."""

    async def run() -> float:
        return (await engine.all_at_once(clips, n_tokens))[0]

    return run


def clip(seconds: float, seed: int = 0) -> Samples:
    """Noise whose colour and level change every tenth of a second, with pauses."""
    rng = np.random.default_rng(seed)
    block, n_samples = SAMPLE_RATE // 10, round(seconds * SAMPLE_RATE)
    parts = []
    for _ in range(-(-n_samples // block)):
        tone = np.sin(2 * np.pi * rng.uniform(100, 4000) * np.arange(block) / SAMPLE_RATE)
        parts.append(rng.choice([0.0, 0.001, 0.05, 0.2, 0.4]) * (tone + 0.3 * rng.standard_normal(block)))
    return np.asarray(np.clip(np.concatenate(parts)[:n_samples], -1, 1), np.float32)


def ratio_row(id_: str, what: str, pairs: Pairs, names: tuple[str, str], target: float | None, baseline: str) -> Row:
    stock, ours = names
    ratios = pairs.ratios(stock, ours)
    verdict = at_least(ratios, target) if target is not None else {}
    seconds = {"baseline seconds": round(pairs.median_s(stock), 3), "seconds": round(pairs.median_s(ours), 3)}
    return row(id_, what, ratios, "x", baseline=baseline, **verdict, **seconds, **{"pairs discarded": pairs.n_discarded})


async def first_token(bench: Bench) -> list[Row]:
    """C1"""
    clips = [clip(30)]
    sides = {
        "stock": bench.stock_side(clips, [1]),
        "masked": bench.stock_side(clips, [1], windows=True),
        "float32": own_side(bench.own, clips, [1]),
        "int8": own_side(bench.int8, clips, [1]),
        "bfloat16": own_side(bench.bfloat16, clips, [1]),
    }
    pairs = await bench.pairs(sides)
    what = "first token of 30 s, alone"
    return [
        ratio_row("C1", f"{what}, float32", pairs, ("stock", "float32"), 2.5, AS_SHIPPED),
        ratio_row("C1", f"{what}, float32, stock masked", pairs, ("masked", "float32"), None, WINDOWED),
        ratio_row("C1", f"{what}, int8", pairs, ("stock", "int8"), None, AS_SHIPPED),
        ratio_row("C1", f"{what}, bfloat16", pairs, ("stock", "bfloat16"), None, AS_SHIPPED),
    ]


async def whole_reply(bench: Bench) -> list[Row]:
    """C2"""
    clips = [clip(30)]
    sides = {
        "stock": bench.stock_side(clips, [100]),
        "float32": own_side(bench.own, clips, [100]),
        "int8": own_side(bench.int8, clips, [100]),
        "bfloat16": own_side(bench.bfloat16, clips, [100]),
    }
    pairs = await bench.pairs(sides)
    return [
        ratio_row("C2", "30 s and 100 tokens, alone, float32", pairs, ("stock", "float32"), 1.3, AS_SHIPPED),
        ratio_row("C2", "30 s and 100 tokens, alone, int8", pairs, ("stock", "int8"), 2.2, AS_SHIPPED),
        ratio_row("C2", "30 s and 100 tokens, alone, bfloat16", pairs, ("stock", "bfloat16"), None, AS_SHIPPED),
    ]


async def side_by_side(bench: Bench) -> list[Row]:
    """C3. A static batch runs until its longest member is done."""
    clips = [clip(seconds, seed) for seed, seconds in enumerate(MIXED_S)]
    n_tokens = [TOKENS_PER_S * seconds for seconds in MIXED_S]
    sides = {
        "sequential": bench.stock_side(clips, n_tokens),
        "batch": bench.stock_batch_side(clips, max(n_tokens)),
        "float32": own_side(bench.own, clips, n_tokens),
        "int8": own_side(bench.int8, clips, n_tokens),
    }
    pairs = await bench.pairs(sides)
    rows = []
    for ours, sequential, batch in (("float32", 4.0, 1.8), ("int8", 8.0, 3.0)):
        what = f"8 at once, 2 to 30 s, {TOKENS_PER_S} tokens per second, {ours}"
        one, all_ = f"{AS_SHIPPED}, one by one", f"{AS_SHIPPED}, batch of 8 until the longest is done"
        rows.append(ratio_row("C3", f"{what}; one by one", pairs, ("sequential", ours), sequential, one))
        rows.append(ratio_row("C3", f"{what}; stock batch", pairs, ("batch", ours), batch, all_))
    return rows


async def long_file(bench: Bench) -> list[Row]:
    """C4. Stock takes the file whole, as it does up to 20 minutes; so does its user."""
    whole = clip(FILE_S)
    segments = np.split(whole, FILE_S // SEGMENT_S)
    each = [SEGMENT_S * FILE_TOKENS_PER_S] * len(segments)
    sides = {
        "stock": bench.stock_side([whole], [sum(each)]),
        "float32": own_side(bench.own, segments, each),
        "int8": own_side(bench.int8, segments, each),
    }
    pairs = await bench.pairs(sides)
    what = f"{FILE_S} s file, {FILE_TOKENS_PER_S} token per second, segments of {SEGMENT_S} s"
    return [
        ratio_row("C4", f"{what}, float32", pairs, ("stock", "float32"), 5.0, AS_SHIPPED),
        ratio_row("C4", f"{what}, int8", pairs, ("stock", "int8"), None, AS_SHIPPED),
    ]


async def same_tokens(bench: Bench) -> list[Row]:
    """C15. Side by side in our engine, one by one in the baseline."""
    lengths_s = [0.5, 1.0, 3.3, 7.9, 8.0, 9.5, 12.2, 17.0, 21.4, 30.0]
    clips = [clip(seconds, 100 + seed) for seed, seconds in enumerate(lengths_s)]
    n_tokens = [20] * len(clips)
    expected = [bench.stock.generate([samples], 20, windows=True)[1][0] for samples in clips]
    _, ids = await bench.own.all_at_once(clips, n_tokens)
    pairs = [(a, b) for ours, stock in zip(ids, expected, strict=True) for a, b in zip(ours, stock, strict=True)]
    share = 100 * sum(a == b for a, b in pairs) / len(pairs)
    facts = {"tokens": len(pairs), "distinct tokens": len({b for _, b in pairs}), "clips": len(clips)}
    what = "equal tokens, float32, 10 clips of 0.5 to 30 s at once"
    return [row("C15", what, share, "%", target="100 %", met=share == 100, baseline=WINDOWED, **facts)]


async def start(bench: Bench) -> list[Row]:
    rows = []
    for name, engine in (("float32", bench.own), ("int8", bench.int8)):
        rows.append(row("START", f"load and warm up, {name}", engine.start_s, "s", checkpoint="121 M, files in memory"))
    return rows


async def work(bench: Bench) -> list[Row]:
    """Exact, whatever the clock says."""
    before = asdict(bench.own.counters)
    await bench.own.all_at_once([clip(seconds, seed) for seed, seconds in enumerate(MIXED_S)], [20] * len(MIXED_S))
    after = asdict(bench.own.counters)
    what = f"8 at once, {sum(MIXED_S)} s of audio, 20 tokens each"
    return [row("WORK", f"{what}: {name.replace('_', ' ')}", after[name] - before[name], "") for name in after]


async def live(bench: Bench) -> list[Row]:
    """C8, C9"""
    return await measure_live_load(bench.own, clip, bench.n_pairs)


async def scheduler(bench: Bench) -> list[Row]:
    """C10"""
    return measure_scheduler(bench.n_pairs)


MEASURES: dict[tuple[str, ...], Callable[[Bench], Awaitable[list[Row]]]] = {
    ("C1",): first_token,
    ("C2",): whole_reply,
    ("C3",): side_by_side,
    ("C4",): long_file,
    ("C8", "C9"): live,
    ("C10",): scheduler,
    ("C15",): same_tokens,
    ("START",): start,
    ("WORK",): work,
}


async def measure(wanted: set[str], n_pairs: int, core: int) -> list[Row]:
    folder = mid_checkpoint()
    rows: list[Row] = []
    async with AsyncExitStack() as stack:
        stock = stack.enter_context(stock_process(folder, {core}, threads=1))
        own = await stack.enter_async_context(own_engine(folder))
        int8 = await stack.enter_async_context(own_engine(folder, quantize="int8"))
        bfloat16 = await stack.enter_async_context(own_engine(folder, dtype="bfloat16"))
        bench = Bench(own, int8, bfloat16, stock, n_pairs)
        for ids, run in MEASURES.items():
            if wanted.intersection(ids):
                made = await run(bench)
                show(made)
                rows += made
    return rows


def main() -> None:
    warnings.simplefilter("ignore")  # the stock package and what it imports warn about themselves
    known = [id_ for ids in MEASURES for id_ in ids]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("ids", nargs="*", metavar="ID", help=f"some of {' '.join(known)}")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--note", default="", help="goes into the conditions")
    arguments = parser.parse_args()
    if unknown := set(arguments.ids) - set(known):
        parser.error(f"unknown: {' '.join(sorted(unknown))}; known: {' '.join(known)}")
    shared = machine() | {"threads": 1, "cores used": 1, "pairs": arguments.pairs}
    shared |= {"note": arguments.note} if arguments.note else {}
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    torch.set_num_threads(1)
    rows = asyncio.run(measure(set(arguments.ids) or set(known), arguments.pairs, core))
    write(RESULTS, [entry | {"conditions": shared | entry["conditions"]} for entry in rows])


if __name__ == "__main__":
    main()
