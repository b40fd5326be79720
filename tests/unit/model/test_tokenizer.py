"""Text to ids and back. That the ids are those of the reference package is for tests/model/test_tokenizer_oracle.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_service.engine.protocol import EngineFailed
from asr_service.model.added_tokens import added_tokens
from tests.model.checkpoints import MARKERS, SPECIALS, TokenizerForm, special_ids, write_tokenizer

pytest.importorskip("tokenizers")

from asr_service.model.tokenizer import Tokenizer

FORMS: tuple[tuple[TokenizerForm, ...], ...] = (("json",), ("vocab",))
ADDED = (*SPECIALS, *MARKERS)

fragments = st.sampled_from(
    [*ADDED, "<|im_", "end|>", "<|", "|>", "<asr_", "text>", "<", "|", ">", " ", "\n", "im_end", "turn on"]
)
text_with_specials = st.lists(fragments | st.text(max_size=5), max_size=20).map("".join)


@pytest.fixture(scope="module", params=FORMS, ids=["tokenizer.json", "vocab.json"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, request.param)
    return Tokenizer.open(folder)


@given(text=text_with_specials)
def test_no_text_becomes_an_added_token(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)

    assert tokenizer.added_ids.isdisjoint(ids)


@given(text=text_with_specials)
def test_decoding_gives_the_text_back_but_for_its_normal_form(tokenizer: Tokenizer, text: str) -> None:
    from unicodedata import normalize

    assert normalize("NFC", tokenizer.decode(tokenizer.encode(text))) == normalize("NFC", text)


@pytest.mark.parametrize("name", ADDED)
def test_an_added_token_is_had_by_name_only(tokenizer: Tokenizer, name: str) -> None:
    assert tokenizer.special(name) == special_ids()[name]
    assert special_ids()[name] not in tokenizer.encode(name)
    assert tokenizer.decode(tokenizer.encode(name)) == name


def test_a_token_that_is_not_there_is_named(tokenizer: Tokenizer) -> None:
    assert tokenizer.find("<|video_pad|>") is None
    with pytest.raises(EngineFailed, match=r"has no token <\|video_pad\|>"):
        tokenizer.special("<|video_pad|>")


def test_decoding_leaves_special_tokens_out_and_keeps_markers(tokenizer: Tokenizer) -> None:
    ids = special_ids()
    said = [
        ids["<|im_start|>"],
        *tokenizer.encode("turn"),
        ids["<asr_text>"],
        *tokenizer.encode(" on"),
        ids["<|im_end|>"],
        999_999,
    ]

    assert tokenizer.decode(said) == "turn<asr_text> on"
    assert tokenizer.decode(said, skip_special=False) == "<|im_start|>turn<asr_text> on<|im_end|>"


@given(text=st.text(max_size=20))
def test_tokens_up_to_the_end_of_a_character_decode_the_same_whatever_follows(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    whole = tokenizer.decode(ids)

    for n in range(len(ids)):
        start = tokenizer.decode(ids[:n]).rstrip("\ufffd")
        assert whole.startswith(start)


def test_half_a_character_is_a_replacement_mark(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("好")

    assert tokenizer.decode(ids[:1]) == "\ufffd"


def test_an_added_token_in_the_vocabulary_too_is_still_no_text(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, ("json",))
    path = tmp_path / "tokenizer.json"
    values = json.loads(path.read_text())
    name = "<timestamp>"
    values["model"]["merges"] += [[name[:end], name[end]] for end in range(1, len(name))]
    values["model"]["vocab"] |= {name[:end]: 400 + end for end in range(2, len(name))} | {name: special_ids()[name]}
    values["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\S+"
    path.write_text(json.dumps(values))

    tokenizer = Tokenizer.open(tmp_path)

    assert tokenizer.encode(name) == [410, *tokenizer.encode(">")]  # all of it but the last merge


def test_padding_and_truncation_in_the_file_are_not_applied(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, ("json",))
    path = tmp_path / "tokenizer.json"
    values = json.loads(path.read_text())
    values["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    path.write_text(json.dumps(values))

    assert len(Tokenizer.open(tmp_path).encode("xyzxyz")) == 6


def test_added_tokens_are_known_from_names_and_ids_alone(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, ("vocab",))
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "added_tokens.json").write_text(json.dumps(special_ids()))

    tokenizer = Tokenizer.open(tmp_path)

    assert tokenizer.special_ids == {special_ids()[name] for name in SPECIALS}
    assert tokenizer.added_ids == set(special_ids().values())


def test_added_tokens_are_the_same_from_every_file(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    expected = added_tokens(tmp_path)
    assert {token.content: token.id for token in expected} == special_ids()

    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert added_tokens(tmp_path) == expected
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "added_tokens.json").write_text(json.dumps(special_ids()))
    assert added_tokens(tmp_path) == expected


@pytest.mark.parametrize(
    ("forms", "break_it", "expected"),
    [
        (("json",), lambda folder: (folder / "tokenizer.json").write_text("{"), "tokenizer.json: not valid JSON"),
        (("json",), lambda folder: (folder / "tokenizer.json").write_text('{"model": {}}'), "cannot be built"),
        (("json",), lambda folder: (folder / "tokenizer.json").write_text("{}"), "model is missing"),
        (
            ("json",),
            lambda folder: (folder / "tokenizer.json").write_text('{"model": {"type": "WordPiece"}}'),
            'expected "BPE"',
        ),
        (("vocab",), lambda folder: (folder / "merges.txt").unlink(), "merges.txt: no such file"),
        (("vocab",), lambda folder: (folder / "merges.txt").write_text("#version: 0.2\na b\na b c\n"), "line 3 is 'a b c'"),
        (("vocab",), lambda folder: (folder / "merges.txt").write_text("q§ b\n"), "cannot be built"),
        (("vocab",), lambda folder: (folder / "vocab.json").unlink(), "vocab.json: no such file"),
    ],
)
def test_files_that_make_no_tokenizer_are_named(
    tmp_path: Path, forms: tuple[TokenizerForm, ...], break_it: Callable[[Path], object], expected: str
) -> None:
    write_tokenizer(tmp_path, forms)
    break_it(tmp_path)

    with pytest.raises(EngineFailed) as failed:
        Tokenizer.open(tmp_path)

    assert expected in str(failed.value)
