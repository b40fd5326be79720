"""What live speech costs in work rather than in time: exact, whatever the clock says."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from asr_service.engines.qwen3 import qwen3_engine
from asr_service.engines.qwen3_settings import Qwen3Settings
from asr_service.metrics import Metrics
from asr_service.request import SAMPLE_RATE, Priority, RecognitionOptions, Samples, Speech, Work
from measuring.listening_engine import ListeningEngine
from measuring.report import Row, row
from measuring.scripted_model import TOKENS_PER_S, UNSTABLE_TOKENS, PacedReplies

WINDOW_TOKENS, AROUND = 104, 16  # of an open window; of the prompt behind it
_CADENCES_S = (1, 2)


async def measure_work(engine: ListeningEngine, audio: Samples, trained: Path, clips: tuple[Samples, ...]) -> list[Row]:
    """C7. `audio` without a pause for what is encoded and read, trained weights and `clips` for what drafts save."""
    made: list[Row] = []
    for cadence_s in _CADENCES_S:
        made += await _without_pause(engine, audio, cadence_s)
        made += await _with_real_text(trained, clips, cadence_s)
    return made


async def _without_pause(engine: ListeningEngine, audio: Samples, cadence_s: int) -> list[Row]:
    seconds = len(audio) // SAMPLE_RATE
    listening = engine.engine.listen()
    before = asdict(engine.counters)
    beside_text: list[float] = []
    for end in range(cadence_s, seconds + 1, cadence_s):
        n_before = engine.counters.prefill_tokens
        await listening.guess(engine.work(audio[: end * SAMPLE_RATE]))
        n_text = PacedReplies().n_tokens(end - cadence_s) if end > cadence_s else 0
        beside_text.append(engine.counters.prefill_tokens - n_before - n_text)
    spent = {name: value - before[name] for name, value in asdict(engine.counters).items()}
    listening.close()
    what = f"{seconds} s without a pause, a guess each {cadence_s} s"
    facts = {"tokens per second": TOKENS_PER_S, "tokens that change each time": UNSTABLE_TOKENS, **spent}
    encoded = spent["conv_chunks"] / seconds
    stock = f"the stock recipe encodes {(seconds / cadence_s + 1) / 2:g} s"
    limit = {"target": "<= 2.5", "met": encoded <= 2.5} if cadence_s == 2 else {}
    most = WINDOW_TOKENS + AROUND
    mean = sum(beside_text) / len(beside_text)
    return [
        row("C7", f"{what}: seconds encoded for each second of audio", encoded, "s", baseline=stock, **limit, **facts),
        row(
            "C7",
            f"{what}: prompt tokens read for each guess beside the text so far, mean",
            mean,
            "tokens",
            target=f"<= {most}",
            met=mean <= most,
            **facts,
        ),
        row("C7", f"{what}: the same, most", max(beside_text), "tokens", **facts),
    ]


@dataclass
class _Tally:
    n_rounds: int = 0
    n_tokens: int = 0  # of finals


async def _with_real_text(trained: Path, clips: tuple[Samples, ...], cadence_s: int) -> list[Row]:
    """Steps of one token each, over a whole stretch, for each token of its final."""
    metrics, tally = Metrics(), _Tally()
    settings = Qwen3Settings(device="cpu", threads=1)
    engine = qwen3_engine(
        "for measuring", str(trained), settings=settings, queue_capacity=8, idle_timeout_s=0.0, metrics=metrics
    )
    await engine.start()
    try:
        for clip in clips:
            listening = engine.listen()
            for end in range(cadence_s * SAMPLE_RATE, len(clip), cadence_s * SAMPLE_RATE):
                tally.n_rounds += 1
                await listening.guess(_work(tally, clip[:end], Priority.GUESS))
            tally.n_rounds += 1
            hypothesis = await listening.decide(_work(tally, clip, Priority.REALTIME))
            tally.n_tokens += hypothesis.tokens.output if hypothesis.tokens is not None else 0
            listening.close()
    finally:
        await engine.stop()
    confirmed, rejected, steps = (
        metrics.registry.get_sample_value(name, labels) or 0.0
        for name, labels in (
            ("asr_engine_draft_tokens_total", {"outcome": "confirmed"}),
            ("asr_engine_draft_tokens_total", {"outcome": "rejected"}),
            ("asr_engine_tokens_total", {"kind": "decode"}),
        )
    )
    what = f"{len(clips)} clips in the trained checkpoint's voices, a guess each {cadence_s} s"
    per_token, held = steps / max(1, tally.n_tokens), 100 * confirmed / max(1.0, confirmed + rejected)
    facts: dict[str, Any] = {"rounds": tally.n_rounds, "tokens of finals": tally.n_tokens, "steps": steps}
    return [
        row(
            "C7",
            f"{what}: decode steps for each token of the final",
            per_token,
            "steps",
            target="<= 1.2",
            met=per_token <= 1.2,
            **facts,
        ),
        row("C7", f"{what}: drafted tokens that held", held, "%", **facts, confirmed=confirmed, rejected=rejected),
    ]


def _work(tally: _Tally, samples: Samples, priority: Priority) -> Work:
    return Work(tally.n_rounds, Speech(samples, 0), RecognitionOptions(), priority, 0.0)
