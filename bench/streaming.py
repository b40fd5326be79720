"""What live speech costs and how long it takes, beside the stock package's streaming recipe and a bare echo in the same run.

    python bench/streaming.py [--quick] [ID ...]       everything, in about a quarter of an hour; or some of

    C5 C6     processor time of a session by its length, ours and the stock recipe, and the chart of it
    C7        work counters: exact
    C8        finals of live sessions while uploads run
    C12       a packet over gRPC beside a bare echo; streams per core that follow
    C13       memory of an hour in one session, and of idle sessions
    C16       how long the engine works for a client that has left
    STREAMS   64 people at the pace of speech: finals, commits, revisions

Prints a table and writes bench/results/streaming.json and streaming.svg; with ids only their rows are replaced. --quick tries
everything out at small size in about a minute, tells no verdicts, and writes nothing unless --out says where.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import warnings
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from measuring.chart import chart  # noqa: E402
from measuring.growing_cost import (  # noqa: E402
    CHUNK_S,
    Segmented,
    Walk,
    sample_points,
    segmented,
    slope_s,
    walk,
    whole_ours,
    whole_stock,
)
from measuring.leaving import measure_leaving  # noqa: E402
from measuring.listening_engine import listening_engine  # noqa: E402
from measuring.mid_checkpoint import mid_checkpoint  # noqa: E402
from measuring.packet_cost import Load, measure_packets  # noqa: E402
from measuring.refeed import UNFIXED_CHUNKS, UNFIXED_TOKENS, refeed_process  # noqa: E402
from measuring.report import Row, at_least, machine, row, show, write  # noqa: E402
from measuring.scripted_model import TOKENS_PER_S, UNSTABLE_TOKENS, PacedReplies  # noqa: E402
from measuring.service_process import cores_apart, on_cores  # noqa: E402
from measuring.session_memory import MemoryScale, measure_memory  # noqa: E402
from measuring.spoken import own_clips, people, talk, trained_voices, without_pauses  # noqa: E402
from measuring.talks_rows import SMALL, TalkScale, measure_beside_uploads, measure_many  # noqa: E402
from measuring.work_counts import measure_work  # noqa: E402

RESULTS = ROOT / "bench/results/streaming.json"
RECIPE = "stock qwen-asr 0.0.6, its streaming recipe by its own `generate`, as shipped"
_BREATH_S = 0.7


@dataclass(frozen=True)
class Scale:
    """`whole_s`: sessions measured whole on both sides, `n_pairs` times. `lengths_s`: of the one that stock is sampled in, with
    the targets of their ratios; stock's chunks are taken at `n_samples` places. `talk_s`: of talks with pauses.
    `is_trial`: with the small checkpoint, and fewer loads."""

    n_pairs: int = 2
    whole_s: int = 60
    lengths_s: tuple[tuple[int, float], ...] = ((60, 3.5), (120, 5.0), (300, 8.0))
    n_samples: int = 5
    talk_s: int = 300
    work_s: int = 60
    packet_rounds: int = 2
    packet_s: float = 4.0
    n_streams: int = 200
    memory: MemoryScale = field(default_factory=MemoryScale)
    talks: TalkScale = field(default_factory=TalkScale)
    n_leave: int = 10
    is_trial: bool = False

    @property
    def checkpoint(self) -> Path:
        return SMALL if self.is_trial else mid_checkpoint()


FULL = Scale()
QUICK = Scale(
    n_pairs=1,
    whole_s=5,
    lengths_s=((5, 3.5), (12, 5.0)),
    n_samples=3,
    talk_s=8,
    work_s=12,
    packet_rounds=1,
    packet_s=1.0,
    n_streams=10,
    memory=MemoryScale(minutes=1, n_idle=20),
    talks=TalkScale(n_streams=4, seconds=3.0, n_beside=1, phase_s=3.0, n_rounds=1, n_uploads=1),
    n_leave=2,
    is_trial=True,
)

Measure = Callable[[Scale, Path | None], Awaitable[list[Row]]]


async def by_length(scale: Scale, chart_path: Path | None) -> list[Row]:
    """C5, C6"""
    own = own_clips().clips
    longest_s = max(seconds for seconds, _ in scale.lengths_s)
    dense = [without_pauses(clip) for clip in own]
    steady = talk(dense, longest_s, breath_s=0)
    spoken = {
        "pauses that end utterances": talk(own, scale.talk_s, breath_s=_BREATH_S),
        "no pauses, cut from 30 s on": talk(dense, scale.talk_s, breath_s=0),
    }
    cores, _ = cores_apart()
    async with AsyncExitStack() as stack:
        stack.enter_context(on_cores(cores))
        stock = stack.enter_context(refeed_process(scale.checkpoint, cores))
        engine = await stack.enter_async_context(listening_engine(scale.checkpoint))
        await whole_ours(engine, steady, 3)  # warm
        whole_stock(stock, PacedReplies(), steady, 3)
        pairs = []
        for n_pair in range(scale.n_pairs):
            first = await whole_ours(engine, steady, scale.whole_s) if n_pair % 2 == 0 else 0.0
            theirs = whole_stock(stock, PacedReplies(), steady, scale.whole_s)
            pairs.append((theirs, first or await whole_ours(engine, steady, scale.whole_s)))
        ends = [seconds for seconds, _ in scale.lengths_s]
        walked = await walk(engine, stock, steady, ends, sample_points(longest_s, scale.n_samples))
        talks = {what: await segmented(engine, audio) for what, audio in spoken.items()}
    if chart_path is not None:
        save(chart_path, cost_chart(walked, talks))
    return [*whole_rows(scale, pairs), *walk_rows(scale, walked), *talk_rows(scale, walked, talks), *growth_rows(walked, talks)]


def save(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def facts(scale: Scale) -> dict[str, Any]:
    return {
        "what is timed": "seconds of the processor, one thread",
        "chunk s": CHUNK_S,
        "checkpoint": "the small one" if scale.is_trial else "121 M, random weights, float32",
        "tokens per second": TOKENS_PER_S,
        "ours: tokens of the text so far that change each time": UNSTABLE_TOKENS,
        "stock: tokens taken back each time, chunks before that": [UNFIXED_TOKENS, UNFIXED_CHUNKS],
    }


def whole_rows(scale: Scale, pairs: Sequence[tuple[float, float]]) -> list[Row]:
    ratios = [theirs / ours for theirs, ours in pairs]
    what = f"session of {scale.whole_s} s without a pause, whole on both sides: stock over ours"
    seconds: dict[str, Any] = {
        "stock s": [round(theirs, 2) for theirs, _ in pairs],
        "ours s": [round(ours, 2) for _, ours in pairs],
    }
    return [row("C5", what, ratios, "x", baseline=RECIPE, **at_least(ratios, 3.5), **facts(scale), **seconds)]


def walk_rows(scale: Scale, walked: Walk) -> list[Row]:
    made = []
    fitted = walked.fitted
    sampled: dict[str, Any] = {
        "stock sampled at s": [at for at, _ in walked.stock],
        "fit misses a sample by at most %": round(100 * fitted.worst_miss, 1),
    }
    for seconds, wanted in scale.lengths_s:
        ours, theirs = walked.ours.until(seconds), fitted.until(seconds)
        ratio = [theirs / ours]
        what = f"session of {seconds} s without a pause, stock from sampled chunks: stock over ours"
        costs: dict[str, Any] = {
            "stock s": round(theirs, 2),
            "ours s": round(ours, 2),
            "ours s, the end's decision": round(walked.ours.decide_s[seconds], 2),
        }
        made.append(
            row("C5", what, ratio[0], "x", baseline=RECIPE, **at_least(ratio, wanted), **facts(scale), **sampled, **costs)
        )
    return made


def talk_rows(scale: Scale, walked: Walk, talks: dict[str, Segmented]) -> list[Row]:
    """Against the recipe on as much audio: it has no segments."""
    made = []
    theirs = walked.fitted.until(scale.talk_s)
    for what, ours in talks.items():
        costs: dict[str, Any] = {
            "stock s": round(theirs, 2),
            "ours s, detector included": round(ours.total_s, 2),
            "detector s": round(ours.detector_s, 2),
        }
        spoken: dict[str, Any] = {"utterances": ours.n_finals, "longest s": round(ours.longest_s, 1)}
        ratio = [theirs / ours.total_s]
        named = f"talk of {scale.talk_s} s, {what}: stock over ours"
        made.append(row("C5", named, ratio[0], "x", baseline=RECIPE, **at_least(ratio, 15), **facts(scale), **costs, **spoken))
    return made


def growth_rows(walked: Walk, talks: dict[str, Segmented]) -> list[Row]:
    made = []
    for what, ours in talks.items():
        growth = ours.quarter_s(3) / ours.quarter_s(1)
        named = f"talk, {what}: a second of the last quarter over one of the second"
        made.append(row("C6", named, growth, "x", target="<= 1.1", met=growth <= 1.1))
    first = next(iter(walked.ours.guess_s)) + 8  # a window has been closed by then
    ours_slope = slope_s(item for item in walked.ours.guess_s.items() if item[0] >= first)
    stock_slope = slope_s((at, walked.fitted.at(at)) for at in walked.ours.guess_s if at >= first)
    share = ours_slope / stock_slope
    slopes: dict[str, Any] = {"ours ms": round(1000 * ours_slope, 3), "stock ms": round(1000 * stock_slope, 3)}
    named = "without a pause: what each chunk costs more than the one before, ours over stock"
    return [*made, row("C6", named, share, "x", target="<= 0.2", met=share <= 0.2, baseline=RECIPE, **slopes)]


def cost_chart(walked: Walk, talks: dict[str, Segmented], mean_over: int = 8) -> str:
    """Ours as means over the windows, since a chunk costs more the fuller the open one is."""
    lines = {
        "stock recipe, sampled": list(walked.stock),
        "ours, no pause (means over 8 s)": _means(sorted(walked.ours.guess_s.items()), mean_over),
    }
    for what, ours in talks.items():
        lines[f"ours, {what} (means over 30 s)"] = _means(list(enumerate(ours.spent_s, 1)), 30)
    return chart("One more second of live speech", "seconds of the session so far", "processor seconds", lines)


def _means(points: Sequence[tuple[float, float]], n: int) -> list[tuple[float, float]]:
    groups = [points[first : first + n] for first in range(0, len(points), n)]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups if len(group) == n or len(groups) == 1]


async def work(scale: Scale, _chart: Path | None) -> list[Row]:
    """C7"""
    audio = talk([without_pauses(clip) for clip in own_clips().clips], scale.work_s, breath_s=0)
    voices = trained_voices().clips
    async with listening_engine(SMALL) as engine:
        return await measure_work(engine, audio, SMALL, voices[:3] if scale.is_trial else voices)


async def beside_uploads(scale: Scale, _chart: Path | None) -> list[Row]:
    """C8"""
    return await measure_beside_uploads(scale.talks, people())


async def packets(scale: Scale, _chart: Path | None) -> list[Row]:
    """C12"""
    many, few = scale.n_streams, max(1, scale.n_streams // 4)
    loads = [
        Load(f"{many} streams of silence, 100-ms packets, no detector", many, 100, detector=False),
        Load(f"{many} streams of silence, 100-ms packets", many, 100),
    ]
    if not scale.is_trial:
        loads.append(Load(f"{many} streams of speech, 100-ms packets", many, 100, is_speech=True))
        loads.append(Load(f"{few} streams of silence, 20-ms packets, no detector", few, 20, detector=False))
        loads.append(Load(f"{few} streams of silence, 20-ms packets", few, 20))
    return await measure_packets(loads, scale.packet_rounds, scale.packet_s)


async def memory(scale: Scale, _chart: Path | None) -> list[Row]:
    """C13"""
    return await measure_memory(scale.memory)


async def leaving(scale: Scale, _chart: Path | None) -> list[Row]:
    """C16"""
    return await measure_leaving(scale.checkpoint, scale.n_leave)


async def streams(scale: Scale, _chart: Path | None) -> list[Row]:
    """STREAMS"""
    rows = await measure_many(scale.talks, trained_voices())
    return rows if scale.is_trial else rows + await measure_many(scale.talks, people())


MEASURES: dict[tuple[str, ...], Measure] = {
    ("C5", "C6"): by_length,
    ("C7",): work,
    ("C8",): beside_uploads,
    ("C12",): packets,
    ("C13",): memory,
    ("C16",): leaving,
    ("STREAMS",): streams,
}


async def measure(wanted: set[str], scale: Scale, out: Path | None, conditions: dict[str, Any]) -> None:
    """Written after every part, so that little is lost when one breaks."""
    for ids, run in MEASURES.items():
        if not wanted.intersection(ids):
            continue
        began_s = monotonic()
        made = await run(scale, out.with_suffix(".svg") if out is not None else None)
        if scale.is_trial:  # too small to be held against a target
            made = [entry | {"target": "", "met": None} for entry in made]
        show(made)
        print(f"      {' '.join(ids)}: {monotonic() - began_s:.0f} s", flush=True)
        if out is not None:
            write(out, [entry | {"conditions": conditions | entry["conditions"]} for entry in made])


def main() -> None:
    warnings.simplefilter("ignore")  # the stock package and what it imports warn about themselves
    known = [id_ for ids in MEASURES for id_ in ids]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ids", nargs="*", metavar="ID", help=f"some of {' '.join(known)}")
    parser.add_argument("--quick", action="store_true", help="everything at small size; measures little")
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    parser.add_argument("--note", default="", help="goes into the conditions")
    arguments = parser.parse_args()
    if unknown := set(arguments.ids) - set(known):
        parser.error(f"unknown: {' '.join(sorted(unknown))}; known: {' '.join(known)}")
    conditions = machine() | ({"note": arguments.note} if arguments.note else {})
    torch.set_num_threads(1)
    out = arguments.out or (None if arguments.quick else RESULTS)
    asyncio.run(measure(set(arguments.ids) or set(known), QUICK if arguments.quick else FULL, out, conditions))


if __name__ == "__main__":
    main()
