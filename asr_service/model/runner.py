"""The step model of Qwen3-ASR: weights, key-value cache and open sequences on one device.

    prepare (any thread)     samples -> windows of mel frames; options -> prompt ids; an empty reply
    run (engine's thread)    encode: windows of all sequences in one batch -> audio embeddings
                             feed: rows of all sequences in one pass -> cache, and the next token where the last row is known

A step writes embeddings and cache places and nothing else, so it may be run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch

from asr_service.engine.protocol import EngineFailed
from asr_service.engine.step_model import Capacity, Memory, Prepared, Round, StepOutOfMemory, Token
from asr_service.failpoints import Failpoints
from asr_service.model.allocator import give_back_freed_memory
from asr_service.model.config import ModelConfig
from asr_service.model.decode_graphs import Tokens, rows_of
from asr_service.model.decode_step import DecodeRow
from asr_service.model.decoder import Decoder, Rows
from asr_service.model.device import choose_device, choose_dtype, is_out_of_memory
from asr_service.model.features import Window
from asr_service.model.graphs import CudaGraphs
from asr_service.model.growing import GrowingSpeech
from asr_service.model.kv_cache import KvCache, bytes_per_token
from asr_service.model.layers import to_device
from asr_service.model.mel import MelExtractor
from asr_service.model.model_graphs import GraphPlan, ModelGraphs
from asr_service.model.network import Network
from asr_service.model.parts import ModelParts, OpenParts
from asr_service.model.prepared import Embeddings, LiveSequence, MakeReply, PreparedSpeech
from asr_service.model.prompt import PromptBuilder
from asr_service.model.reader import Reader
from asr_service.model.sampling import Rule, draw_seed
from asr_service.model.tokenizer import Tokenizer
from asr_service.request import Work
from asr_service.scheduler.plan import EncodeItem, FeedItem, StepPlan

BindReplies = Callable[[Tokenizer, ModelConfig], MakeReply]
"""Called once per load: how replies are made with this checkpoint's tokens."""

_HEAD_ROWS = 64  # for which the vocabulary is scored at once


@dataclass(slots=True)
class WorkCounters:
    """What the model has computed since it was made. The same work always costs the same, whatever the clock says."""

    steps: int = 0
    encoder_windows: int = 0
    conv_chunks: int = 0
    prefill_tokens: int = 0  # rows of a prompt, or of a reply that is fed again
    decode_rows: int = 0  # single rows that gave the next token
    heads: int = 0  # rows for which the vocabulary was scored
    graph_windows: int = 0  # of encoder_windows, those that a graph encoded
    graph_rows: int = 0  # of decode_rows, those that a graph decoded
    moved_tokens: int = 0  # keys and values taken over from an earlier round
    draft_tokens: int = 0  # of prefill_tokens, those that were only expected


@dataclass(frozen=True, slots=True, eq=False)
class _Loaded:
    """All that stands between `load` and `unload`."""

    config: ModelConfig
    device: torch.device
    reader: Reader
    network: Network
    cache: KvCache
    graphs: ModelGraphs | None


class ModelRunner:
    """The StepModel over a checkpoint folder.

    `device`: "cpu", "cuda" or "cuda:N". `dtype`: "float32", "bfloat16", "float16", or "auto" for bfloat16 on a GPU and float32
    elsewhere. `kv_bytes`: size of the key-value cache. `threads`: torch's, within one operation; None for its own choice.
    `quantize`: "int8" for the decoder's layers in 8 bits, on a CPU, or "".
    `graphs`: what is captured to be replayed; None for nothing. `live_window_s`: the encoder's window for stretches that grow,
    in seconds; the checkpoint's own where that is shorter. `open_parts`: what is in the folder.
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: str,
        dtype: str,
        kv_bytes: int,
        bind_replies: BindReplies,
        threads: int | None = None,
        quantize: str = "",
        graphs: GraphPlan | None = None,
        live_window_s: int = 8,
        open_parts: OpenParts = ModelParts.of,
        failpoints: Failpoints | None = None,
    ) -> None:
        self._folder = folder
        self._device_name = device
        self._dtype_name = dtype
        self._kv_bytes = kv_bytes
        self._bind_replies = bind_replies
        self._threads = threads
        self._quantize = quantize
        self._graph_plan = graphs
        self._live_window_s = live_window_s
        self._open_parts = open_parts
        self._failpoints = failpoints or Failpoints()
        self._counters = WorkCounters()
        self._reader: Reader | None = None  # of the last load
        self._state: _Loaded | None = None
        self._open: dict[int, LiveSequence] = {}
        self._streams: dict[int, Embeddings] = {}

    @property
    def counters(self) -> WorkCounters:
        """A copy, as of now."""
        return replace(self._counters)

    @property
    def graphs(self) -> ModelGraphs | None:
        """Of the loaded model; None where there is none, or it has none."""
        return self._state.graphs if self._state is not None else None

    # Life

    def load(self) -> Capacity:
        """See StepModel."""
        self._failpoints.hit("model.load")
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        try:
            with torch.inference_mode():
                self._state = self._read()
                self._warm_up(self._state)
                if self._state.graphs is not None:
                    self._state.graphs.capture_first()
        except RuntimeError as error:
            self._state = None
            raise EngineFailed(self._why_not(error)) from error
        self._reader = self._state.reader
        return Capacity(self._state.cache.n_tokens)

    def idle(self) -> bool:
        """See StepModel. Captures a graph that is not there yet."""
        if self._state is None or self._state.graphs is None:
            return False
        with torch.inference_mode():
            return self._state.graphs.capture_next()

    def unload(self) -> None:
        """See StepModel."""
        self._open.clear()
        self._streams.clear()
        if self._state is None:
            return
        on_gpu = self._state.device.type == "cuda"
        self._state = None
        if on_gpu:
            torch.cuda.empty_cache()
        else:
            give_back_freed_memory()

    def _read(self) -> _Loaded:
        device = choose_device(self._device_name)
        dtype = choose_dtype(self._dtype_name, device)
        if device.index is not None:
            torch.cuda.set_device(device)  # of this thread: captures and kernels go to the current one
        if dtype == torch.float32:
            torch.backends.cudnn.allow_tf32 = False  # which convolutions on a GPU would round to, unlike all else
        parts = self._open_parts(self._folder)
        config = parts.config
        n_scratch = rows_of(self._graph_plan.max_sequences) if self._graph_plan is not None else 0
        kv_tokens = self._kv_bytes // bytes_per_token(config.text, dtype) - n_scratch
        if kv_tokens < (smallest := 2 * config.audio.window_tokens):
            raise EngineFailed(
                f"a key-value cache of {self._kv_bytes} bytes holds {max(0, kv_tokens)} tokens; this model needs "
                f"{smallest * bytes_per_token(config.text, dtype)} bytes for {smallest} at the least"
            )
        network = Network.build(config, parts.tensors(dtype, device), device, dtype, self._quantize)
        cache = KvCache(config.text, kv_tokens, dtype, device, n_scratch=n_scratch)
        return _Loaded(
            config=config,
            device=device,
            reader=Reader(
                config=config,
                mel=MelExtractor(config.audio.n_mels),
                prompts=PromptBuilder(parts.tokenizer),
                make_reply=self._bind_replies(parts.tokenizer, config),
                live_window_chunks=self._live_window_s,
            ),
            network=network,
            cache=cache,
            graphs=self._make_graphs(config, network, cache, dtype, device),
        )

    def _make_graphs(
        self, config: ModelConfig, network: Network, cache: KvCache, dtype: torch.dtype, device: torch.device
    ) -> ModelGraphs | None:
        plan = self._graph_plan
        if plan is None:
            return None
        return ModelGraphs(plan, plan.backend or CudaGraphs(), config, network, cache, dtype, device)

    def _warm_up(self, loaded: _Loaded) -> None:
        """Every kind of operation once, on silence."""
        audio = loaded.config.audio
        silence = Window(torch.zeros(audio.n_mels, audio.chunk_frames), fills_chunk=True)
        tokens = loaded.network.encoder.encode([silence])[0]
        decoder = loaded.network.decoder
        for start, x in ((0, tokens), (len(tokens), decoder.embed(torch.zeros(1, dtype=torch.int64, device=loaded.device)))):
            x = decoder.run(x, Rows.of([(start, len(x), 0)], loaded.device), loaded.cache)
            decoder.choose(x[-1:], [Rule()])

    def _why_not(self, error: RuntimeError) -> str:
        if is_out_of_memory(error):
            return f"{self._device_name} has no memory for {self._folder} and {self._kv_bytes} bytes of cache: {error}"
        return f"{self._folder} does not run on {self._device_name} as {self._dtype_name}: {error}"

    # Requests

    def remember(self) -> Memory:
        """See StepModel."""
        return GrowingSpeech()

    def prepare(self, work: Work, turn: Round | None = None) -> Prepared:
        """See StepModel."""
        if self._reader is None:
            raise RuntimeError("the model was never loaded")
        return self._reader.prepare(work, turn)

    def open(self, uid: int, prepared: Prepared) -> None:
        """See StepModel."""
        if not isinstance(prepared, PreparedSpeech):
            raise TypeError(f"prepared by another model: {type(prepared).__name__}")
        config, kept = self._loaded().config, prepared.kept
        window_tokens = prepared.window_tokens or config.audio.window_tokens
        known = Embeddings() if kept is None else self._streams.setdefault(kept.stream, Embeddings())
        self._open[uid] = LiveSequence(prepared, window_tokens, config.audio_token_id, known)

    def n_encoded(self, uid: int) -> int:
        """See StepModel."""
        return self._open[uid].n_encoded

    def close(self, uid: int) -> None:
        """See StepModel."""
        self._open.pop(uid, None)

    def forget(self, stream: int) -> None:
        """See StepModel."""
        self._streams.pop(stream, None)

    # Steps

    def run(self, plan: StepPlan) -> Mapping[int, Token]:
        """See StepModel."""
        self._failpoints.hit("model.step")
        loaded = self._loaded()
        try:
            with torch.inference_mode():
                for move in plan.moves:
                    loaded.cache.copy(move.start, move.extent.start, move.count)
                self._counters.moved_tokens += sum(move.count for move in plan.moves)
                self._encode(loaded, plan.encode)
                tokens = self._feed(loaded, plan.feed)
            self._counters.steps += 1
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error)
        else:
            return tokens
        # Out of the handler, so that the error's frames no longer hold the tensors of the step.
        if loaded.device.type == "cuda":
            torch.cuda.empty_cache()
        raise StepOutOfMemory(reason)

    def _encode(self, loaded: _Loaded, items: tuple[EncodeItem, ...]) -> None:
        asked = [(self._open[item.uid], index) for item in items for index in range(item.first, item.first + item.count)]
        wanted = [(sequence, index) for sequence, index in asked if not sequence.is_encoded(index)]
        if not wanted:
            return
        windows = [sequence.prepared.windows[index] for sequence, index in wanted]
        for (sequence, index), embeddings in zip(wanted, self._encode_windows(loaded, windows), strict=True):
            sequence.keep(index, embeddings)
        self._counters.encoder_windows += len(windows)
        self._counters.conv_chunks += sum(-(-window.n_frames // loaded.config.audio.chunk_frames) for window in windows)

    def _encode_windows(self, loaded: _Loaded, windows: Sequence[Window]) -> list[torch.Tensor]:
        """By graphs where there are some for them."""
        whole = [index for index, window in enumerate(windows) if window.fills_chunk] if loaded.graphs is not None else []
        replayed = loaded.graphs.encoder.encode([windows[index] for index in whole]) if loaded.graphs is not None else None
        if not replayed:
            return loaded.network.encoder.encode(windows)
        self._counters.graph_windows += len(replayed)
        encoded = dict(zip(whole, replayed, strict=True))
        others = [index for index in range(len(windows)) if index not in encoded]
        if others:
            plain = loaded.network.encoder.encode([windows[index] for index in others])
            encoded |= zip(others, plain, strict=True)
        return [encoded[index] for index in range(len(windows))]

    def _feed(self, loaded: _Loaded, items: tuple[FeedItem, ...]) -> dict[int, Token]:
        nexts = [item for item in items if self._is_next(item)] if loaded.graphs is not None else []
        pending = self._start_rows(loaded, nexts)
        replayed = [item.uid for item in nexts] if pending is not None else []
        is_replayed = frozenset(replayed)
        tokens = self._feed_rows(loaded, [item for item in items if item.uid not in is_replayed])
        self._count(items)
        self._counters.graph_rows += len(replayed)
        return tokens | dict(zip(replayed, pending(), strict=True)) if pending is not None else tokens

    def _is_next(self, item: FeedItem) -> bool:
        """One token behind the audio, whose successor is wanted."""
        prepared = self._open[item.uid].prepared
        return item.count == 1 and item.yields and item.start >= prepared.n_prompt - len(prepared.prompt.after)

    def _start_rows(self, loaded: _Loaded, items: Sequence[FeedItem]) -> Tokens | None:
        """Decode rows, by graphs. None where there are none for them."""
        if not items or loaded.graphs is None:
            return None
        ids = [self._open[item.uid].ids(item.start, 1)[0] for item in items]
        rows = [DecodeRow(id_, item.start, item.extent.start) for id_, item in zip(ids, items, strict=True)]
        return loaded.graphs.decode.start(rows, [rule for item in items for rule in self._rules(item)])

    def _feed_rows(self, loaded: _Loaded, items: Sequence[FeedItem]) -> dict[int, Token]:
        if not items:
            return {}
        decoder = loaded.network.decoder
        rows = Rows.of([(item.start, item.count, item.extent.start) for item in items], loaded.device)
        ids = [id_ for item in items for id_ in self._open[item.uid].ids(item.start, item.count)]
        x = decoder.embed(to_device(torch.tensor(ids), loaded.device))
        for item, span in zip(items, rows.spans, strict=True):
            self._open[item.uid].fill_audio(x[span.first : span.end], item.start)
        wanted = [(item, span) for item, span in zip(items, rows.spans, strict=True) if item.yields]
        x = decoder.run(x, rows, loaded.cache, [(span, item.n_draft + 1) for item, span in wanted])
        if not wanted:
            return {}
        chosen = iter(self._choose(decoder, x, [rule for item, _ in wanted for rule in self._rules(item)]))
        return {item.uid: self._next(item, list(islice(chosen, item.n_draft + 1))) for item, _ in wanted}

    def _choose(self, decoder: Decoder, x: torch.Tensor, rules: Sequence[Rule]) -> Iterator[Token]:
        """In portions, since a row's scores are as long as the vocabulary."""
        for first in range(0, len(rules), _HEAD_ROWS):
            yield from decoder.choose(x[first : first + _HEAD_ROWS], rules[first : first + _HEAD_ROWS])

    def _next(self, item: FeedItem, chosen: Sequence[Token]) -> Token:
        """From what is chosen at the last known token and at each drafted one."""
        drafted = self._drafted(item)
        n_confirmed = next((index for index, id_ in enumerate(drafted) if chosen[index].id != id_), len(drafted))
        return replace(chosen[n_confirmed], confirmed=tuple(chosen[:n_confirmed])) if drafted else chosen[0]

    def _drafted(self, item: FeedItem) -> list[int]:
        return self._open[item.uid].ids(item.start + item.count - item.n_draft, item.n_draft) if item.n_draft else []

    def _rules(self, item: FeedItem) -> list[Rule]:
        """One for the last known token and one for each drafted one."""
        prepared, drafted = self._open[item.uid].prepared, self._drafted(item)
        first = item.start + item.count - item.n_draft
        return [
            Rule(
                prepared.reply.allowed(drafted[:n]) if n else prepared.reply.allowed(),
                prepared.temperature,
                draw_seed(item.uid, first + n),
            )
            for n in range(item.n_draft + 1)
        ]

    def _count(self, items: Sequence[FeedItem]) -> None:
        self._counters.heads += sum(item.n_draft + 1 for item in items if item.yields)
        decoding = sum(item.yields and item.count == 1 for item in items)
        self._counters.decode_rows += decoding
        self._counters.draft_tokens += sum(item.n_draft for item in items)
        self._counters.prefill_tokens += sum(item.count for item in items) - decoding

    def _loaded(self) -> _Loaded:
        if self._state is None:
            raise RuntimeError("the model is not loaded")
        return self._state
