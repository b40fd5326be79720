"""Ids against the reference package: the stock tokenizer and processor over the same files.

The tokenizer here is trained on the spot, so that merges in many scripts take part. Context that spells a special token is left
out of the comparison: there the two differ on purpose.
"""

from __future__ import annotations

import json
import random
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asr_service.model.prompt import PromptBuilder
from asr_service.model.tokenizer import Tokenizer
from tests.model.checkpoints import MARKERS, SPECIALS, model_config, random_checkpoint
from tests.model.stock import quiet

SCRIPTS = (
    (0x0020, 0x007E), (0x00A0, 0x024F), (0x0300, 0x036F), (0x0370, 0x04FF), (0x0590, 0x06FF), (0x0900, 0x0E7F),
    (0x1100, 0x11FF), (0x2000, 0x206F), (0x20A0, 0x22FF), (0x3000, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3),
    (0xF900, 0xFAFF), (0xFE00, 0xFE0F), (0xFF00, 0xFFEF), (0x1D400, 0x1D4FF), (0x1F300, 0x1FAFF), (0x20000, 0x2A6DF),
    (0xE0100, 0xE01EF),
)  # fmt: skip
SPACES = ("", " ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", " \n", "\u00a0", "\u2003", "\u3000", "\u200b", "\u0085", "\ufeff")
WORDS = (
    "Hello", "helloWorld", "DON'T", "don't", "we'LL", "I'm", "it's", "Straße", "naïve", "nai\u0308ve", "Çok", "ΣΊΣΥΦΟΣ",
    "Привет", "مرحبا", "שלום", "नमस्ते", "สวัสดี", "ngày", "你好世界", "東京タワー", "안녕하세요", "ﬁn", "Å", "\u212b",
    "e\u0301\u0323", "\U0001f469\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea", "1\ufe0f\u20e3", "3.14",
    "1,000,000", "²³", "٣٤", "Ⅻ", "½", "/path/to", "C++", "#tag", "@name", "---", "...", "!?", "(", "\u202e", "\u00ad",
    "\x00", "\x7f",
    "language English", "system", "user", "assistant",
)  # fmt: skip


def random_texts(count: int, seed: int = 0) -> Iterator[str]:
    """Words, spaces and single characters from all over Unicode, in any mix."""
    source = random.Random(seed)  # noqa: S311
    for _ in range(count):
        parts = []
        for _ in range(source.randint(1, 12)):
            kind = source.random()
            if kind < 0.4:
                parts.append(source.choice(WORDS))
            elif kind < 0.6:
                parts.append(source.choice(SPACES))
            else:
                low, high = source.choice(SCRIPTS)
                parts.append("".join(chr(source.randint(low, high)) for _ in range(source.randint(1, 5))))
        yield "".join(parts)


@dataclass(frozen=True)
class Sides:
    """Both tokenizers over one folder."""

    ours: Tokenizer
    stock: Any
    processor: Any


def train(folder: Path) -> None:
    """Replaces a checkpoint's merges by some in many scripts, keeping the ids of the added tokens out of their way."""
    from tokenizers import Tokenizer as Pipeline
    from tokenizers.trainers import BpeTrainer

    pipeline = Pipeline.from_file(str(folder / "tokenizer.json"))
    trainer = BpeTrainer(vocab_size=1500, min_frequency=2, initial_alphabet=alphabet(folder), show_progress=False)
    description = json.loads(pipeline.to_str())
    added = description.pop("added_tokens")
    pipeline = Pipeline.from_str(json.dumps({**description, "added_tokens": []}))
    pipeline.train_from_iterator(random_texts(4000, seed=1), trainer)
    description = json.loads(pipeline.to_str())
    model, first = description["model"], len(description["model"]["vocab"])
    config_path = folder / "tokenizer_config.json"
    config = json.loads(config_path.read_text())
    config["added_tokens_decoder"] = {}
    for index, token in enumerate(added):
        token["id"] = first + index
        config["added_tokens_decoder"][str(token["id"])] = {key: value for key, value in token.items() if key != "id"}
    config_path.write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps({**description, "added_tokens": added}))
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]) + "\n")


def alphabet(folder: Path) -> list[str]:
    return list(json.loads((folder / "vocab.json").read_text()))[:256]


@pytest.fixture(scope="module", params=["tokenizer.json", "vocab.json"])
def sides(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sides:
    folder = tmp_path_factory.mktemp("oracle")
    random_checkpoint(folder, model_config())
    train(folder)
    template = (
        "{% for m in messages %}{% if m.role == 'system' %}<|im_start|>system\n{{ m.content }}<|im_end|>\n{% else %}"
        "<|im_start|>user\n<|audio_start|><|audio_pad|><|audio_end|><|im_end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    for name in ("vocab.json", "merges.txt") if request.param == "tokenizer.json" else ("tokenizer.json",):
        (folder / name).unlink()
    return open_both(folder)


def open_both(folder: Path) -> Sides:
    with quiet():
        from qwen_asr import Qwen3ASRModel  # registers the classes below
        from transformers import AutoProcessor

        assert Qwen3ASRModel is not None
        processor = AutoProcessor.from_pretrained(str(folder), fix_mistral_regex=True)
    return Sides(Tokenizer.open(folder), processor.tokenizer, processor)


def spells_added(text: str) -> bool:
    return any(name in text for name in (*SPECIALS, *MARKERS))


def stock_ids(sides: Sides, text: str) -> list[int]:
    ids: list[int] = sides.stock(text)["input_ids"]
    return ids


def test_a_large_random_corpus_has_the_same_ids(sides: Sides) -> None:
    different = [text for text in random_texts(20_000) if sides.ours.encode(text) != stock_ids(sides, text)]

    assert different == []


def test_every_character_has_the_same_ids(sides: Sides) -> None:
    characters = [chr(code) for code in range(0x30000) if unicodedata.category(chr(code)) not in ("Cs", "Cn")]

    for start in range(0, len(characters), 64):
        text = " ".join(characters[start : start + 64])
        assert sides.ours.encode(text) == stock_ids(sides, text), text


@given(text=st.text(max_size=60))
@settings(max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_has_the_same_ids(sides: Sides, text: str) -> None:
    if not spells_added(text):
        assert sides.ours.encode(text) == stock_ids(sides, text)


@given(ids=st.lists(st.integers(0, 1520), max_size=30))
@settings(max_examples=1000)
def test_any_ids_have_the_same_text(sides: Sides, ids: list[int]) -> None:
    """Broken characters, special tokens and ids that nothing stands for among them."""
    for skip_special in (True, False):
        expected = sides.stock.decode(ids, skip_special_tokens=skip_special, clean_up_tokenization_spaces=False)
        assert sides.ours.decode(ids, skip_special=skip_special) == expected


def stock_prompt(sides: Sides, context: str, language: str | None) -> list[int]:
    """As the package's `transcribe` makes it, with one second of audio."""
    messages = [{"role": "system", "content": context}, {"role": "user", "content": [{"type": "audio", "audio": ""}]}]
    text = sides.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    if language:
        text += f"language {language}<asr_text>"
    with quiet():
        inputs = sides.processor(text=[text], audio=[np.zeros(16_000, np.float32)], return_tensors="np", padding=True)
    ids: list[int] = inputs["input_ids"][0].tolist()
    return ids


def our_prompt(sides: Sides) -> Callable[[str, str | None], list[int]]:
    builder, pad = PromptBuilder(sides.ours), sides.ours.special("<|audio_pad|>")

    def build(context: str, language: str | None) -> list[int]:
        prompt = builder.build(context, language)
        return [*prompt.before, *[pad] * 13, *prompt.after]

    return build


@pytest.mark.parametrize("language", [None, "English", "German", "Cantonese", "Filipino"])
def test_prompts_have_the_same_ids(sides: Sides, language: str | None) -> None:
    build = our_prompt(sides)

    for context in (
        "",
        " ",
        "\n",
        "  leading",
        "trailing  ",
        "\n\nlines\n",
        "\u0301combining first",
        *WORDS,
        *random_texts(40, seed=2),
    ):
        assert build(context, language) == stock_prompt(sides, context, language), context


def test_the_trained_checkpoints_files_give_the_same_ids(small_folder: Path) -> None:
    sides = open_both(small_folder)
    build = our_prompt(sides)

    for text in random_texts(2000, seed=3):
        assert sides.ours.encode(text) == stock_ids(sides, text), text
    for context in ("", *random_texts(20, seed=4)):
        assert build(context, "English") == stock_prompt(sides, context, "English"), context
