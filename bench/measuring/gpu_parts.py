"""The measurements of one model, each giving its rows. Ids are those of the targets (H1, H2, ...)."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch

from asr_service.model.decode_step import DecodeRow
from asr_service.model.features import Window
from asr_service.model.graphs import GraphState
from asr_service.model.kv_cache import bytes_per_token
from asr_service.model.sampling import Rule
from asr_service.scheduler.plan import EncodeItem, Extent, FeedItem, StepPlan
from measuring.fixed_replies import FixedReply
from measuring.gpu_baseline import Baseline
from measuring.gpu_checks import worst_of
from measuring.gpu_clock import Clock
from measuring.gpu_models import bytes_of
from measuring.gpu_rig import Rig
from measuring.gpu_scale import Scale, Targets
from measuring.report import Row, row

_BASELINE_TOKENS = (4, 36)  # of two replies, whose difference is the time of steps alone


@dataclass
class Subject:
    """One model under measurement, and what is known of it so far. `rate`: GB/s of a copy on this device."""

    name: str
    rig: Rig
    scale: Scale
    targets: Targets
    clock: Clock
    rate: float

    def row(
        self, id_: str, what: str, values: list[float] | float, unit: str, limit: float | None = None, **more: object
    ) -> Row:
        """`limit`: the target; more is better for shares, ratios and rates, less for times."""
        made = row(id_, f"{self.name}: {what}", values, unit, **more)  # type: ignore[arg-type]
        if limit is not None and self.scale.has_targets:
            is_rate = unit in ("x", "share", "audio-s/s")
            met = made["value"] >= limit if is_rate else made["value"] <= limit
            made |= {"target": f"{'>=' if is_rate else '<='} {limit:g}", "met": met}
        return made


def warm_up(subject: Subject) -> Iterator[Row]:
    """H12. Graphs of the first sizes are captured while the model loads, the others when it is idle."""
    rig, captures = subject.rig, subject.rig.captures
    first_s = captures.times_s[-1] - captures.times_s[0]
    later_s = rig.capture_all()
    yield subject.row("H12", "loading with the first graphs, random weights", rig.load_s, "s")
    yield subject.row("H12", "capturing all graphs, kernels compiled where they were not", first_s + later_s, "s", 30.0)
    gib = (captures.reserved[-1] - captures.reserved[0]) / 2**30
    yield subject.row("H12", "memory that capturing took, workspaces included", gib, "GiB", 1.0)
    n_bad = captures.n_in(GraphState.FAILED) + captures.n_in(GraphState.MISMATCHED)
    yield subject.row("H12", "graphs that are not used", n_bad, "graphs", 0)
    assert rig.runner.graphs is not None
    for captured in rig.runner.graphs.families:
        yield subject.row("H12", f"largest difference of {captured.kind} graphs from plain steps", *worst_of(captured))


def decode_steps(subject: Subject) -> Iterator[Row]:
    """H1 to H3: one replay on the device, and as the engine's thread sees it, with the reading of the tokens."""
    rig, scale, clock, text = subject.rig, subject.scale, subject.clock, subject.rig.config.text
    assert rig.runner.graphs is not None
    decode = rig.runner.graphs.decode
    dtype = getattr(torch, scale.dtype)
    per_token = bytes_per_token(text, dtype)
    # The head reads the whole embedding; the rows that are looked up are nothing beside it.
    weights = bytes_of(rig.config, dtype, "model.") + bytes_of(rig.config, dtype, "lm_head.")
    for batch in scale.batches:
        span = min(scale.context, rig.kv_tokens // batch)
        rows = [DecodeRow(index % text.vocab_size, span - 1, index * span) for index in range(batch)]
        with torch.inference_mode():
            waited_ms = clock.waited_ms(lambda rows=rows: _tokens(decode.start(rows, [Rule()] * len(rows))))
            captured = decode.families[0]
            sizes = [size for _, size in captured.split(batch)]
            if sizes != [batch]:
                print(f"left out: {subject.name}: H1 of batch {batch}: no graph of that size")
                continue
            device_ms = clock.on_device_ms(partial(captured.replay, batch))
        id_ = "H1" if batch == 1 else "H2"
        floor_ms = (weights + batch * span * per_token) / subject.rate / 1e6
        ratio = floor_ms / statistics.median(device_ms)
        yield subject.row(
            id_,
            f"decode step, batch {batch}, context {span}, on the device",
            device_ms,
            "ms",
            subject.targets.step_ms.get(batch),
        )
        yield subject.row(id_, f"decode step, batch {batch}, context {span}, until the tokens are read", waited_ms, "ms")
        yield subject.row(
            "H3",
            f"share of the step's floor, batch {batch}",
            ratio,
            "share",
            subject.targets.roofline.get(batch),
            floor_ms=round(floor_ms, 4),
            copy_gb_s=round(subject.rate),
        )


def encoder_windows(subject: Subject) -> Iterator[Row]:
    """H4."""
    rig = subject.rig
    assert rig.runner.graphs is not None
    encoder = rig.runner.graphs.encoder
    for n in subject.scale.windows:
        audio = rig.config.audio
        windows = [Window(torch.randn(audio.n_mels, audio.window_frames), fills_chunk=True) for _ in range(n)]
        with torch.inference_mode():
            waited_ms = subject.clock.waited_ms(lambda windows=windows: encoder.encode(windows))
            if [size for _, size in encoder.captured.split(n)] != [n]:
                print(f"left out: {subject.name}: H4 of {n} windows: no graph of that size")
                continue
            device_ms = subject.clock.on_device_ms(lambda n=n: encoder.captured.replay(n))
        yield subject.row(
            "H4", f"encoder, {n} windows of 8 s, on the device", device_ms, "ms", subject.targets.window_ms.get(n)
        )
        yield subject.row("H4", f"encoder, {n} windows of 8 s, frames on the host", waited_ms, "ms")


def first_token(subject: Subject) -> Iterator[Row]:
    """H5."""
    scale, rig = subject.scale, subject.rig
    clip = rig.prepare(scale.clip_s, 8)
    rig.first_token(clip)
    ready_ms = subject.clock.waited_ms(lambda: rig.first_token(clip), 2 * scale.waits)
    whole_ms = subject.clock.waited_ms(lambda: rig.first_token(rig.prepare(scale.clip_s, 8)), 2 * scale.waits)
    what = f"first token of a clip of {scale.clip_s:g} s"
    yield subject.row("H5", f"{what}, features ready", ready_ms, "ms", subject.targets.first_token_ms)
    yield subject.row("H5", f"{what}, from the samples (features on the CPU, noise made in between)", whole_ms, "ms")


def throughput(subject: Subject) -> Iterator[Row]:
    """H6: clips side by side, features ready, a set number of tokens each; the median of some runs."""
    scale, rig = subject.scale, subject.rig
    n_tokens = round(scale.clip_s * scale.tokens_per_s)
    clips = [rig.prepare(scale.clip_s, n_tokens, seed) for seed in range(4)]
    for batch in scale.batches:
        several = [clips[index % len(clips)] for index in range(max(2, 2 * batch))]
        rig.serve(several[:batch], batch)
        served = [rig.serve(several, batch) for _ in range(min(3, scale.waits))]
        rates = [len(several) * scale.clip_s / each.seconds for each in served]
        what = f"clips of {scale.clip_s:g} s with {n_tokens} tokens, batch {batch}"
        yield subject.row("H6", what, rates, "audio-s/s", subject.targets.throughput.get(batch))
        steps_ms = [1000 * step for each in served for step in each.decode_s]
        yield subject.row("H6", f"a step of decode rows in that run, batch {batch}", steps_ms or 0.0, "ms")


def long_clips(subject: Subject) -> Iterator[Row]:
    """H7."""
    scale, rig = subject.scale, subject.rig
    n_tokens = round(scale.long_s * scale.tokens_per_s)
    clip = rig.prepare(scale.long_s, n_tokens)
    at_once = min(scale.long_clips, rig.max_sequences, rig.kv_tokens // (clip.n_prompt + n_tokens + 64))
    served = rig.serve([clip] * scale.long_clips, at_once)
    what = f"{scale.long_clips} clips of {scale.long_s:g} s with {n_tokens} tokens, {at_once} at once"
    rate = scale.long_clips * scale.long_s / served.seconds
    yield subject.row("H7", what, rate, "audio-s/s", subject.targets.long_throughput)


def live_chunks(subject: Subject) -> Iterator[Row]:
    """H10: what one more chunk of a stream costs where the earlier windows' cache is kept: its open window is encoded again,
    that window, the prompt's end and all text so far are read again, and six tokens follow."""
    medians = []
    for seconds in subject.scale.live_s:
        taken_ms = subject.clock.waited_ms(_chunk_of(subject, seconds), 2 * subject.scale.waits)
        medians.append(statistics.median(taken_ms))
        yield subject.row("H10", f"one more chunk of a stream after {seconds:g} s, without segments", taken_ms, "ms")
    first_s, last_s = subject.scale.live_s
    yield subject.row("H10", f"the same, after {last_s:g} s by after {first_s:g} s", medians[1] / medians[0], "of it", 1.5)


def _chunk_of(subject: Subject, seconds: float) -> Callable[[], None]:
    rig = subject.rig
    n_text = round(seconds * subject.scale.tokens_per_s)
    clip = rig.prepare(seconds, n_text + 8)
    begin = len(clip.prompt.before) + (clip.n_windows - 1) * rig.config.audio.window_tokens
    extent = Extent(0, clip.n_prompt + n_text + 8)
    rig.runner.open(0, replace(clip, reply=FixedReply(n_text + 8)))
    rig.runner.run(StepPlan(encode=(EncodeItem(0, 0, clip.n_windows),)))
    rig.runner.run(StepPlan(feed=(FeedItem(0, 0, begin, False, extent),)))
    rig.runner.close(0)

    def chunk() -> None:
        reply = FixedReply(n_text + 8, [65] * n_text)
        rig.runner.open(0, replace(clip, reply=reply))
        # Only the open window; the tokens of the others are not read again, so their embeddings may be missing.
        rig.runner.run(StepPlan(encode=(EncodeItem(0, clip.n_windows - 1, 1),)))
        known = clip.n_prompt + n_text
        token = rig.runner.run(StepPlan(feed=(FeedItem(0, begin, known - begin, True, extent),)))[0]
        for position in range(known, known + 6):
            reply.accept(token.id, token.logprob)
            token = rig.runner.run(StepPlan(feed=(FeedItem(0, position, 1, True, extent),)))[0]
        rig.runner.close(0)

    return chunk


def waits_for_the_device(subject: Subject) -> Iterator[Row]:
    """H15: how often the host waits, by the profiler's count of the runtime's calls."""
    from torch.profiler import ProfilerActivity, profile

    rig, n = subject.rig, 20
    clip = rig.prepare(subject.scale.clip_s, n + 8)
    encode = StepPlan(encode=(EncodeItem(0, 0, clip.n_windows),))
    extent = Extent(0, clip.n_prompt + n + 8)
    reply = FixedReply(n + 8)
    rig.runner.open(0, replace(clip, reply=reply))
    rig.runner.run(encode)
    token = rig.runner.run(StepPlan(feed=(FeedItem(0, 0, clip.n_prompt, True, extent),)))[0]
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if subject.clock.is_gpu else [])]
    with profile(activities=activities) as decoding:
        for position in range(clip.n_prompt, clip.n_prompt + n):
            reply.accept(token.id, token.logprob)
            token = rig.runner.run(StepPlan(feed=(FeedItem(0, position, 1, True, extent),)))[0]
    with profile(activities=activities) as encoding:
        for _ in range(n):
            rig.runner.run(encode)
        subject.clock.wait()
    rig.runner.close(0)
    yield subject.row(
        "H15", "waits for the device per decode step (reading the tokens is one)", _waits(decoding) / n, "calls", 1
    )
    yield subject.row("H15", "waits for the device per encoder step", max(0, _waits(encoding) - 1) / n, "calls", 0)


def _waits(profiled: torch.profiler.profile) -> int:
    names = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy")
    return sum(event.count for event in profiled.key_averages() if event.key in names)


def baseline_ratios(subject: Subject, baseline: Baseline) -> Iterator[Row]:
    """H1, H5 and H6c beside the baseline, which is given ready features too."""
    scale, rig, clock = subject.scale, subject.rig, subject.clock
    short, long = _BASELINE_TOKENS
    clip = rig.prepare(scale.clip_s, long)
    baseline.generate([clip], 2)
    theirs_first = statistics.median(clock.waited_ms(lambda: baseline.generate([clip], 1), scale.waits))
    ours_first = statistics.median(clock.waited_ms(lambda: rig.first_token(clip), scale.waits))
    few, many = (
        statistics.median(clock.waited_ms(lambda n=n: baseline.generate([clip], n), scale.waits)) for n in _BASELINE_TOKENS
    )
    theirs_step = (many - few) / (long - short)
    ours_step = 1000 * statistics.median(rig.serve([clip], 1).decode_s)
    yield subject.row("H1", "the baseline's decode step, batch 1", theirs_step, "ms", baseline=baseline.version)
    yield subject.row(
        "H1", "baseline / ours, decode step of batch 1", theirs_step / ours_step, "x", 18, baseline=baseline.version
    )
    yield subject.row("H5", "the baseline's first token, features ready", theirs_first, "ms", baseline=baseline.version)
    yield subject.row("H5", "baseline / ours, first token", theirs_first / ours_first, "x", 7, baseline=baseline.version)
    n_tokens = round(scale.clip_s * scale.tokens_per_s)
    clip = rig.prepare(scale.clip_s, n_tokens)
    for batch, limit in zip(scale.batches[:2], (20, 12), strict=True):
        theirs_s = statistics.median(clock.waited_ms(lambda batch=batch: baseline.generate([clip] * batch, n_tokens), 1)) / 1000
        ours_s = statistics.median(rig.serve([clip] * batch, batch).seconds for _ in range(min(3, scale.waits)))
        yield subject.row(
            "H6c", f"baseline / ours, one batch of {batch} clips", theirs_s / ours_s, "x", limit, baseline=baseline.version
        )


def _tokens(pending: object) -> object:
    assert callable(pending), "a graph serves these rows"
    return pending()
