"""The shape of a Qwen3-ASR checkpoint, from its own files.

Two layouts are published. The original one ("thinker") nests everything in `thinker_config`; the one that transformers writes
("native", names ending in -hf) is flat and goes by other names here and there. Both describe the same network.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from asr_service.engine.protocol import EngineFailed
from asr_service.languages import LANGUAGES, Language
from asr_service.model.added_tokens import added_tokens
from asr_service.model.json_file import JsonObject
from asr_service.request import SAMPLE_RATE

Layout = Literal["thinker", "native"]

CHUNK_FRAMES = 100
"""The number of tokens per clip is defined for chunks of one second only."""
HOP, N_FFT = 160, 400
_ALIGNER = "is a forced aligner, which gives times for a known text; a Qwen3-ASR checkpoint is needed"


@dataclass(frozen=True, slots=True)
class AudioConfig:
    """The encoder: three convolutions of stride 2 over chunks, then attention within windows, then a projection."""

    n_mels: int
    n_layers: int
    n_heads: int
    d_model: int
    ffn_dim: int
    conv_channels: int
    out_dim: int
    chunk_frames: int  # frames that the convolutions see at once
    window_chunks: int  # chunks that attention sees at once
    activation: str
    max_positions: int

    @property
    def tokens_per_chunk(self) -> int:
        return halved_thrice(self.chunk_frames)

    @property
    def window_frames(self) -> int:
        return self.window_chunks * self.chunk_frames

    @property
    def window_tokens(self) -> int:
        return self.window_chunks * self.tokens_per_chunk

    @property
    def head_dim(self) -> int:
        return self.d_model // self.n_heads


@dataclass(frozen=True, slots=True)
class TextConfig:
    """The decoder. `is_tied`: the embedding serves as the output head too."""

    vocab_size: int
    hidden: int
    ffn_dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    rms_eps: float
    rope_theta: float
    max_positions: int
    is_tied: bool
    attention_bias: bool
    activation: str


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """`languages`: English names as the checkpoint lists them, may be empty. `dtype`: what the weights are stored as."""

    audio: AudioConfig
    text: TextConfig
    audio_token_id: int
    languages: tuple[str, ...]
    stop_ids: frozenset[int]
    dtype: str
    layout: Layout
    head_rows: int | None = None  # of the output head, where it does not score the vocabulary

    @property
    def spoken(self) -> tuple[Language, ...]:
        """The languages as the service knows them; all thirty where the checkpoint lists none."""
        listed = {name.lower() for name in self.languages}
        return tuple(language for language in LANGUAGES if language.name.lower() in listed) or LANGUAGES


@dataclass(frozen=True, slots=True)
class AlignerConfig:
    """A forced aligner: the same network, whose head scores times instead of tokens, at the places of <timestamp>."""

    model: ModelConfig
    slot_id: int  # <timestamp>
    class_ms: int  # class n is the time n x class_ms

    @property
    def n_classes(self) -> int:
        return self.model.head_rows or 0

    @property
    def reach_ms(self) -> int:
        """The longest audio that there are classes for."""
        return self.n_classes * self.class_ms


def halved_thrice(n: int) -> int:
    """What three convolutions of stride 2 and padding 1 leave of n rows."""
    for _ in range(3):
        n = -(-n // 2)
    return n


def read_config(folder: Path) -> ModelConfig:
    """Raises EngineFailed, naming file and key, for anything that is not a Qwen3-ASR checkpoint as this engine computes it."""
    file, body, layout = _open(folder)
    _refuse_other_models(file, body)
    config = _read_model(folder, file, body, layout)
    return replace(config, stop_ids=_read_stop_ids(folder, config.text))


def read_aligner_config(folder: Path) -> AlignerConfig:
    """Raises EngineFailed, naming file and key, for what is not a Qwen3-ForcedAligner checkpoint in the original layout."""
    file, body, layout = _open(folder)
    if layout != "thinker" or "aligner" not in body.text("model_type", default=""):
        raise EngineFailed(f"{file.where} thinker_config.model_type is not that of a forced aligner in the original layout")
    _refuse_quantized(file, body)
    n_classes = body.integer("classify_num")
    config = replace(_read_model(folder, file, body, layout), head_rows=n_classes)
    body.section("text_config").must_be("tie_word_embeddings", config.text.is_tied, False)
    slot_id = file.integer("timestamp_token_id", minimum=0)
    _check_ids(file, config.text, {"timestamp_token_id": slot_id})
    return AlignerConfig(config, slot_id, file.integer("timestamp_segment_time"))


def _open(folder: Path) -> tuple[JsonObject, JsonObject, Layout]:
    """config.json, the part of it that describes the network, and how it does."""
    if not folder.is_dir():
        raise EngineFailed(f"{folder}: no such folder")
    file = JsonObject.read(folder / "config.json")
    file.must_be("model_type", file.text("model_type", default=""), "qwen3_asr")
    layout: Layout = "thinker" if "thinker_config" in file else "native"
    return file, file.section("thinker_config") if layout == "thinker" else file, layout


def _read_model(folder: Path, file: JsonObject, body: JsonObject, layout: Layout) -> ModelConfig:
    """Without stop tokens."""
    text = _read_text(body, _tied_by_default(file, layout))
    audio = _read_audio(body.section("audio_config"), text)
    audio_token_id = body.integer("audio_token_id", minimum=0)
    _check_ids(body, text, {"audio_token_id": audio_token_id})
    _check_features(folder, audio)
    return ModelConfig(
        audio=audio,
        text=text,
        audio_token_id=audio_token_id,
        languages=file.texts("support_languages"),
        stop_ids=frozenset(),
        dtype=file.text("dtype", "torch_dtype", default=body.text("dtype", "torch_dtype", default="bfloat16")),
        layout=layout,
    )


def _refuse_other_models(file: JsonObject, body: JsonObject) -> None:
    is_labelling = any("TokenClassification" in name for name in file.texts("architectures"))
    if "aligner" in body.text("model_type", default="") or "classify_num" in body or "num_labels" in file or is_labelling:
        raise EngineFailed(f"{file.where} this {_ALIGNER}")
    _refuse_quantized(file, body)


def _refuse_quantized(file: JsonObject, body: JsonObject) -> None:
    for part in (file, body):
        if "quantization_config" in part:
            raise EngineFailed(f"{part.where} quantization_config is set; expected weights in bfloat16, float16 or float32")


def _tied_by_default(file: JsonObject, layout: Layout) -> bool:
    return file.flag("tie_word_embeddings", default=True) if layout == "native" else False


def _read_audio(section: JsonObject, text: TextConfig) -> AudioConfig:
    half_chunk = section.integer("n_window", default=CHUNK_FRAMES // 2)
    section.must_be("n_window", half_chunk, CHUNK_FRAMES // 2)
    window_frames = section.integer("n_window_infer", default=8 * CHUNK_FRAMES)
    if window_frames % CHUNK_FRAMES:
        raise EngineFailed(f"{section.where}.n_window_infer is {window_frames}; expected a multiple of {CHUNK_FRAMES}")
    audio = AudioConfig(
        n_mels=section.integer("num_mel_bins", default=128),
        n_layers=section.integer("encoder_layers", "num_hidden_layers"),
        n_heads=section.integer("encoder_attention_heads", "num_attention_heads"),
        d_model=section.integer("d_model", "hidden_size", minimum=4),
        ffn_dim=section.integer("encoder_ffn_dim", "intermediate_size"),
        conv_channels=section.integer("downsample_hidden_size", default=480),
        out_dim=section.integer("output_dim", default=text.hidden),
        chunk_frames=CHUNK_FRAMES,
        window_chunks=window_frames // CHUNK_FRAMES,
        activation=section.text("activation_function", "hidden_act", default="gelu"),
        max_positions=section.integer("max_source_positions", "max_position_embeddings", default=halved_thrice(CHUNK_FRAMES)),
    )
    section.must_be("activation_function", audio.activation, "gelu")
    section.must_be("output_dim", audio.out_dim, text.hidden)
    if audio.d_model % audio.n_heads or audio.d_model % 2:
        raise EngineFailed(f"{section.where}.d_model is {audio.d_model}; expected an even multiple of {audio.n_heads} heads")
    if audio.max_positions < audio.tokens_per_chunk:
        raise EngineFailed(
            f"{section.where}.max_source_positions is {audio.max_positions}; expected at least {audio.tokens_per_chunk}"
        )
    return audio


def _read_text(body: JsonObject, tied_by_default: bool) -> TextConfig:
    section = body.section("text_config")
    heads = section.integer("num_attention_heads")
    hidden = section.integer("hidden_size")
    text = TextConfig(
        vocab_size=section.integer("vocab_size"),
        hidden=hidden,
        ffn_dim=section.integer("intermediate_size"),
        n_layers=section.integer("num_hidden_layers"),
        n_heads=heads,
        n_kv_heads=section.integer("num_key_value_heads", default=heads),
        head_dim=section.integer("head_dim", default=128),  # of all Qwen3 decoders, where it is not written down
        rms_eps=section.number("rms_norm_eps", default=1e-6),
        rope_theta=_read_rope_theta(section),
        max_positions=section.integer("max_position_embeddings"),
        is_tied=section.flag("tie_word_embeddings", default=tied_by_default),
        attention_bias=section.flag("attention_bias", default=False),
        activation=section.text("hidden_act", default="silu"),
    )
    section.must_be("hidden_act", text.activation, "silu")
    section.must_be("use_sliding_window", section.flag("use_sliding_window", default=False), False)
    if text.n_heads % text.n_kv_heads:
        raise EngineFailed(f"{section.where}.num_key_value_heads is {text.n_kv_heads}; expected a divisor of {text.n_heads}")
    if text.head_dim % 2:
        raise EngineFailed(f"{section.where}.head_dim is {text.head_dim}; expected an even number")
    return text


def _read_rope_theta(section: JsonObject) -> float:
    """All axes of the multi-axis rotary embedding count the same positions in speech, so it is the plain one."""
    for name in ("rope_parameters", "rope_scaling"):
        rope = section.section(name, default={})
        rope.must_be("rope_type", rope.text("rope_type", "type", default="default"), "default", "mrope")
    rope = section.section("rope_parameters", default={})
    return rope.number("rope_theta") if "rope_theta" in rope else section.number("rope_theta")


def _read_stop_ids(folder: Path, text: TextConfig) -> frozenset[int]:
    """generation_config.json where it says so; otherwise the tokenizer's end token and <|endoftext|>."""
    path = folder / "generation_config.json"
    if path.is_file():
        file = JsonObject.read(path)
        if ids := file.integers("eos_token_id"):
            _check_ids(file, text, {"eos_token_id": max(ids)})
            return frozenset(ids)
    tokenizer = JsonObject.read(folder / "tokenizer_config.json")
    names = {_content_of(tokenizer, "eos_token"), "<|endoftext|>"}
    ids = tuple(token.id for token in added_tokens(folder) if token.content in names)
    if not ids:
        raise EngineFailed(f"{path}: eos_token_id is missing, and so are the tokenizer's end tokens; nothing would end a text")
    _check_ids(tokenizer, text, {"eos_token": max(ids)})
    return frozenset(ids)


def _content_of(tokenizer: JsonObject, name: str) -> str:
    """A token is written as its text, or as an object that has it."""
    value = tokenizer.values.get(name)
    return tokenizer.section(name).text("content", default="") if isinstance(value, dict) else tokenizer.text(name, default="")


def _check_ids(file: JsonObject, text: TextConfig, ids: dict[str, int]) -> None:
    for name, token in ids.items():
        if token >= text.vocab_size:
            raise EngineFailed(f"{file.where} {name} is {token}; expected an id below the vocabulary's {text.vocab_size}")


def _check_features(folder: Path, audio: AudioConfig) -> None:
    """What the checkpoint says of its features must be what this engine computes."""
    if (folder / "preprocessor_config.json").is_file():
        features = JsonObject.read(folder / "preprocessor_config.json")
    elif (folder / "processor_config.json").is_file():
        features = JsonObject.read(folder / "processor_config.json").section("feature_extractor", default={})
    else:
        return  # then there is nothing but the kind of model to go by
    for name, expected in (
        ("feature_size", audio.n_mels),
        ("sampling_rate", SAMPLE_RATE),
        ("hop_length", HOP),
        ("n_fft", N_FFT),
    ):
        features.must_be(name, features.integer(name, default=expected), expected)
    features.must_be("dither", features.values.get("dither"), None, 0)  # noise that would make every run differ
