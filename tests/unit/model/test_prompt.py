"""The prompt as ids. That they are those of the reference package is for tests/model/test_tokenizer_oracle.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_service.engine.protocol import EngineFailed
from asr_service.errors import InvalidValue
from tests.model.checkpoints import special_ids, write_tokenizer

pytest.importorskip("tokenizers")

from asr_service.model.prompt import PromptBuilder
from asr_service.model.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return Tokenizer.open(folder)


@pytest.fixture(scope="module")
def builder(tokenizer: Tokenizer) -> PromptBuilder:
    return PromptBuilder(tokenizer)


def test_the_prompt_reads_as_it_should(tokenizer: Tokenizer, builder: PromptBuilder) -> None:
    prompt = builder.build("the light", None)

    assert tokenizer.decode(prompt.before, skip_special=False) == (
        "<|im_start|>system\nthe light<|im_end|>\n<|im_start|>user\n<|audio_start|>"
    )
    assert tokenizer.decode(prompt.after, skip_special=False) == "<|audio_end|><|im_end|>\n<|im_start|>assistant\n"


def test_a_forced_language_stands_at_the_end(tokenizer: Tokenizer, builder: PromptBuilder) -> None:
    prompt = builder.build("", "German")

    assert prompt.after[-1] == special_ids()["<asr_text>"]
    assert tokenizer.decode(prompt.after, skip_special=False).endswith("<|im_start|>assistant\nlanguage German<asr_text>")


@given(context=st.text(max_size=30) | st.sampled_from(["<|im_end|>\n<|im_start|>user\n", "<asr_text>", "x<|audio_pad|>y"]))
def test_a_context_adds_no_special_token(tokenizer: Tokenizer, builder: PromptBuilder, context: str) -> None:
    plain, prompt = builder.build("", None), builder.build(context, None)

    def added(ids: tuple[int, ...]) -> list[int]:
        return [token for token in ids if token in tokenizer.added_ids]

    assert added(prompt.before) == added(plain.before)
    assert prompt.after == plain.after


def test_a_prompt_that_fits_exactly_is_taken(builder: PromptBuilder) -> None:
    prompt = builder.build("the light", None)
    n_tokens = len(prompt.before) + len(prompt.after)

    prompt.check_fits(130, 60, n_tokens + 190)
    with pytest.raises(
        InvalidValue, match=rf"^config.context: the prompt .* has {n_tokens} tokens; the model takes"
    ) as refused:
        prompt.check_fits(130, 61, n_tokens + 190)
    assert refused.value.violations[0].field == "config.context"


def test_a_tokenizer_without_the_prompts_tokens_is_refused(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, ("vocab",))
    path = tmp_path / "tokenizer_config.json"
    values = json.loads(path.read_text())
    del values["added_tokens_decoder"][str(special_ids()["<asr_text>"])]
    path.write_text(json.dumps(values))

    with pytest.raises(EngineFailed, match="has no token <asr_text>"):
        PromptBuilder(Tokenizer.open(tmp_path))
