"""Every metric of the service, named once.

Components get the Metrics object from the composition root and touch the attribute they own. Each process that serves requests
has one, on its own registry.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_STEP_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)


class Metrics:
    """The service's metrics. Label values are closed sets (RPC names, status names, reasons, stages, priority classes)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._count_requests(self.registry)
        self._count_engine(self.registry)
        self._count_audio(self.registry)
        self._count_live(self.registry)

    def _count_requests(self, r: CollectorRegistry) -> None:
        """The RPCs and the loop that serves them."""
        self.requests = Counter("asr_requests_total", "RPCs answered", ["rpc", "status", "reason"], registry=r)
        self.requests_in_flight = Gauge("asr_requests_in_flight", "RPCs inside the server", ["rpc"], registry=r)
        self.request_seconds = Histogram("asr_request_seconds", "RPC duration", ["rpc"], buckets=_SECONDS, registry=r)
        self.stage_seconds = Histogram(
            "asr_stage_seconds",
            "Time of one request in a stage (decode, voice_activity, queue, recognize)",
            ["stage"],
            buckets=_SECONDS,
            registry=r,
        )
        self.refusals = Counter("asr_refusals_total", "Requests refused at the door", ["reason"], registry=r)
        self.event_loop_lag_seconds = Gauge("asr_event_loop_lag_seconds", "Lag of the event loop, last probe", registry=r)

    def _count_engine(self, r: CollectorRegistry) -> None:
        """The recogniser and its queue."""
        self.queue_depth = Gauge("asr_queue_depth", "Segments waiting for the recogniser", ["priority"], registry=r)
        self.queue_wait_seconds = Histogram(
            "asr_queue_wait_seconds", "Wait of a segment until it started", ["priority"], buckets=_SECONDS, registry=r
        )
        self.queue_dropped = Counter(
            "asr_queue_dropped_total",
            "Segments that left the queue unserved (cancelled, expired, stopped)",
            ["why"],
            registry=r,
        )
        self.engine_running = Gauge("asr_engine_running", "Segments being recognised", registry=r)
        self.engine_slots = Gauge("asr_engine_slots", "Segments the engine can work on at once", registry=r)
        self.engine_calls = Counter("asr_engine_calls_total", "Segments given to the recogniser", registry=r)
        self.engine_failures = Counter("asr_engine_failures_total", "Recogniser crashes and errors", ["kind"], registry=r)
        self.engine_loaded = Gauge("asr_engine_loaded", "Is the model in memory (1) or unloaded (0)", registry=r)
        self.engine_steps = Counter("asr_engine_steps_total", "Steps of the model", registry=r)
        self.engine_step_seconds = Histogram(
            "asr_engine_step_seconds", "Duration of a step of the model", buckets=_STEP_SECONDS, registry=r
        )
        self.engine_windows = Counter("asr_engine_windows_total", "Windows of audio encoded", registry=r)
        self.engine_tokens = Counter(
            "asr_engine_tokens_total", "Tokens fed to the model (prefill: prompts; decode: its own words)", ["kind"], registry=r
        )
        self.engine_renewed_windows = Counter(
            "asr_engine_renewed_windows_total",
            "Windows of live speech encoded again because louder speech came after them",
            registry=r,
        )
        self.engine_draft_tokens = Counter(
            "asr_engine_draft_tokens_total",
            "Tokens of the text so far that live speech kept (confirmed) or took back (rejected) when it was asked again",
            ["outcome"],
            registry=r,
        )
        self.engine_evictions = Counter(
            "asr_engine_evictions_total", "Segments that lost their places in the cache and were fed again", registry=r
        )
        self.engine_kv_tokens = Gauge("asr_engine_kv_tokens", "Places in use in the model's cache", registry=r)
        self.engine_parked_tokens = Gauge(
            "asr_engine_parked_tokens",
            "Of those, kept for live speech that goes on; given up when others need them",
            registry=r,
        )
        self.engine_graphs = Gauge(
            "asr_engine_graphs",
            "Captured GPU steps by what became of them (waiting, captured, failed, mismatched); without one, steps run unfused",
            ["kind", "state"],
            registry=r,
        )

    def _count_audio(self, r: CollectorRegistry) -> None:
        """What brings the sound."""
        self.decoders_busy = Gauge("asr_decoders_busy", "Decoder processes at work", registry=r)
        self.decoders_waiting = Gauge("asr_decoders_waiting", "Sources waiting for a decoder process", registry=r)
        self.decoder_restarts = Counter("asr_decoder_restarts_total", "Decoder processes replaced", ["why"], registry=r)
        self.vad_streams_per_run = Histogram(
            "asr_vad_streams_per_run",
            "Live streams that shared a run of the voice activity detector",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
            registry=r,
        )
        self.audio_seconds = Counter("asr_audio_seconds_total", "Audio decoded", registry=r)
        self.speech_seconds = Counter("asr_speech_seconds_total", "Audio given to the recogniser", registry=r)

    def _count_live(self, r: CollectorRegistry) -> None:
        """Live sessions."""
        self.live_sessions = Gauge(
            "asr_live_sessions", "Live sessions (attached, or waiting to be resumed)", ["state"], registry=r
        )
        self.live_resumes = Counter(
            "asr_live_resumes_total", "Live sessions gone on with (here, elsewhere, gone)", ["how"], registry=r
        )
        self.live_partials = Counter("asr_live_partials_total", "Texts of utterances that went on", registry=r)
        self.live_finals = Counter(
            "asr_live_finals_total", "Utterances decided, by whether committed text was revised", ["revised"], registry=r
        )
        self.live_final_seconds = Histogram(
            "asr_live_final_seconds", "From the end of an utterance to its final", buckets=_SECONDS, registry=r
        )
