"""How near the aligner's words are to where they were said, whether its classes are the stock package's, and what it costs.

    python bench/align.py [--quick] [--out FILE]

    A1    median error of begins and ends against known times of synthetic speech, the small trained aligner
    A2    classes that the stock package would not say
    A3    audio aligned in the time that stock takes, both in float32 on one thread, pairs in turn
    A4 A5 audio seconds aligned per second, one piece at a time, and four together

Prints a table and writes bench/results/align.json. --quick measures one pair and writes nothing unless --out says where.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from measuring.report import Row, at_least, machine, row, show, write  # noqa: E402

from asr_service.decoding.word_times import settle_times  # noqa: E402
from asr_service.model.aligner import QwenAligner  # noqa: E402
from asr_service.request import SAMPLE_RATE  # noqa: E402
from tests.model.aligners import StockAligner  # noqa: E402
from tests.model.timed import ALIGNER, TimedClip, chained, errors_ms, timed_clips  # noqa: E402

RESULTS = ROOT / "bench/results/align.json"
TARGET_MS = 60.0


def measure_errors(aligner: QwenAligner, clips: list[TimedClip]) -> list[Row]:
    """A1"""
    off: dict[str, list[float]] = {}
    n_interpolated = n_words = 0
    for clip in clips:
        (said_ms,) = aligner.run([aligner.prepare(clip.samples, clip.units)])
        lengths = [len(unit) for unit in clip.units]
        times = settle_times(said_ms, lengths, len(clip.samples) * 1000 // SAMPLE_RATE, aligner.config.class_ms)
        off.setdefault(clip.language, []).extend(errors_ms([(t.start_ms, t.end_ms) for t in times], clip.spans_ms))
        n_interpolated += sum(time.interpolated for time in times)
        n_words += len(times)
    everything = [error for errors in off.values() for error in errors]
    value = median(everything)
    by_language = {language: round(median(errors)) for language, errors in off.items()}
    notes = {"by language": by_language, "words": n_words, "interpolated": n_interpolated, **machine()}
    what = "median error of a word's begin and end against known times"
    return [row("A1", what, value, "ms", target=f"< {TARGET_MS:g}", met=value < TARGET_MS, **notes)]


def measure_classes(aligner: QwenAligner, stock: StockAligner, clips: list[TimedClip]) -> list[Row]:
    """A2"""
    classes = aligner.classes([aligner.prepare(clip.samples, clip.units) for clip in clips])
    differing = sum(
        stock.differs_from(of_clip, (clip.samples, clip.text, clip.language))
        for of_clip, clip in zip(classes, clips, strict=True)
    )
    n_classes = sum(map(len, classes))
    what = f"clips of {len(clips)} with a class that the stock package would not say"
    return [row("A2", what, differing, "clips", target="0", met=differing == 0, classes=n_classes, **machine())]


def measure_cost(aligner: QwenAligner, stock: StockAligner, clips: list[TimedClip], n_pairs: int) -> list[Row]:
    """A3, A4"""
    clip = chained([clip for clip in clips if clip.language == "English"], 200)
    seconds = len(clip.samples) / SAMPLE_RATE
    given = (clip.samples, clip.text, clip.language)

    def ours() -> object:
        return aligner.run([aligner.prepare(clip.samples, clip.units)])

    def four() -> object:
        return aligner.run([aligner.prepare(clip.samples, clip.units)] * 4)

    def theirs() -> object:
        return stock.classes([given])

    for run in (ours, four, theirs):
        run()
    pairs = [(_seconds(theirs), _seconds(ours), _seconds(four)) for _ in range(n_pairs)]
    ratios = [theirs_s / ours_s for theirs_s, ours_s, _ in pairs]
    notes = {"clip": f"{seconds:.1f} s", **machine()}
    return [
        row("A3", "time of the stock package beside ours", ratios, "x", **at_least(ratios, 1.0), **notes),
        row("A4", "audio aligned in a second, one piece", [seconds / ours_s for _, ours_s, _ in pairs], "s/s", **notes),
        row("A5", "audio aligned in a second, four pieces", [4 * seconds / four_s for _, _, four_s in pairs], "s/s", **notes),
    ]


def _seconds(run: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    run()
    return time.perf_counter() - began_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one pair")
    parser.add_argument("--out", type=Path, help=f"default: {RESULTS.relative_to(ROOT)}")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    clips = timed_clips()
    aligner, stock = QwenAligner(ALIGNER, device="cpu", dtype="float32", threads=1), StockAligner(ALIGNER)
    aligner.load()
    rows = measure_errors(aligner, clips) + measure_classes(aligner, stock, clips)
    rows += measure_cost(aligner, stock, clips, 1 if arguments.quick else 7)
    show(rows)
    if arguments.out or not arguments.quick:
        write(arguments.out or RESULTS, rows)


if __name__ == "__main__":
    main()
