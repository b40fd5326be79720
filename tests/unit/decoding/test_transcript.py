import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_service.decoding.header import HeaderTrie
from asr_service.decoding.replies import ReplyMaker
from asr_service.decoding.reply import FinishReason
from asr_service.decoding.transcript import TokenReply
from asr_service.languages import ENGLISH, LANGUAGES, Language
from asr_service.request import Priority, RecognitionOptions, Work
from tests.unit.decoding import stock
from tests.unit.decoding.tokens import STOP_ID, TAG_ID, Vocabulary
from tests.unit.engine.works import Works

GERMAN = Language("de", "German")

TEXTS = st.text(st.sampled_from("ab \nlé語言🙂 1<>_\ufffd"), max_size=30)
HEADERS = st.sampled_from(
    ["", "language English", "language None", "Language german ", "language Klingon", "x\nlanguage Thai", "l"]
)


@st.composite
def replies(draw: st.DrawFn) -> tuple[Vocabulary, list[int]]:
    """A raw reply as bytes, now and then broken ones, cut into tokens anywhere; now and then with the tag."""

    def cut(data: bytes) -> list[bytes]:
        cuts = sorted(draw(st.sets(st.integers(0, len(data)))) | {0, len(data)})
        return [data[a:b] for a, b in pairwise(cuts)]

    broken = draw(st.sampled_from([b"", b"\x80" * 40, b"\xe8\xaa", b"\xf0\x9f\x99\xf0"]))
    before = cut(draw(HEADERS).encode())
    after = cut(draw(TEXTS).encode() + broken + draw(TEXTS).encode())
    vocabulary = Vocabulary([*before, *after], shows_tag=draw(st.booleans()))
    ids = list(range(len(vocabulary.pieces)))
    if draw(st.booleans()):
        ids.insert(len(before), TAG_ID)
    return vocabulary, ids


def fill(reply: TokenReply, ids: list[int]) -> TokenReply:
    for token in ids:
        assert reply.accept(token, -0.5) is None
    return reply


def raw_text(vocabulary: Vocabulary, ids: list[int]) -> str:
    shown = Vocabulary(vocabulary.pieces)
    at = ids.index(TAG_ID) if TAG_ID in ids else len(ids)
    return shown.decode(ids[:at]) + shown.decode(ids[at : at + 1]) + shown.decode(ids[at + 1 :])


@given(replies(), st.booleans())
def test_a_whole_reply_is_what_the_stock_parser_makes_of_it(made: tuple[Vocabulary, list[int]], is_forced: bool) -> None:
    vocabulary, ids = made
    reply = fill(vocabulary.reply(forced=ENGLISH if is_forced else None), ids)

    assert reply.accept(STOP_ID, -0.1) is FinishReason.STOP
    raw = raw_text(vocabulary, ids).rstrip("\ufffd")  # a character that never became whole
    name, text = stock.parse(raw, "English" if is_forced else None)
    assert reply.text == text
    if text or not is_forced:  # of a forced one the stock parser keeps no language without text
        assert reply.language == next((language for language in LANGUAGES if language.name == name), None)


@given(replies())
def test_text_does_not_depend_on_when_it_was_read(made: tuple[Vocabulary, list[int]]) -> None:
    vocabulary, ids = made
    reply = vocabulary.reply()

    for n, token in enumerate(ids, start=1):
        reply.accept(token, -0.5)
        assert reply.text == fill(vocabulary.reply(), ids[:n]).text
        assert reply.text == reply.text_of(n)


@given(st.text(max_size=40).filter(lambda text: "\ufffd" not in text), st.data())
def test_text_only_grows_and_never_shows_half_a_character(text: str, data: st.DataObject) -> None:
    encoded = text.encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(encoded)))) | {0, len(encoded)})
    vocabulary = Vocabulary([encoded[a:b] for a, b in pairwise(cuts)])
    reply = vocabulary.reply(forced=ENGLISH)

    told = [""]
    for token in range(len(vocabulary.pieces)):
        reply.accept(token, 0.0)
        told.append(reply.text)
    assert all(after.startswith(before) for before, after in pairwise(told))
    assert "\ufffd" not in told[-1]
    assert told[-1] == text.strip()


@pytest.mark.parametrize("piece", [b" word", b"\x80", "語".encode()[:2]], ids=["text", "broken", "half"])
def test_reading_after_each_token_decodes_few_tokens_again(piece: bytes) -> None:
    vocabulary = Vocabulary([piece])
    reply = vocabulary.reply(forced=ENGLISH)

    for _ in range(1000):
        reply.accept(0, 0.0)
        _ = reply.text
    assert vocabulary.n_decoded < 100 * 1000


def test_a_header_that_comes_in_pieces_is_never_text() -> None:
    vocabulary = Vocabulary([b"lang", b"uage", b" Ger", b"man", b" guten", b" Tag"])
    reply = vocabulary.reply()

    texts = []
    for token in [0, 1, 2, 3, TAG_ID, 4, 5]:
        reply.accept(token, 0.0)
        texts.append(reply.text)
    assert texts == ["", "", "", "", "", "guten", "guten Tag"]
    assert reply.language == GERMAN


def test_a_reply_without_a_header_is_text_as_soon_as_it_cannot_be_one() -> None:
    vocabulary, ids = Vocabulary.of_words("learning languages is fun")
    reply = vocabulary.reply()

    assert [reply.accept(i, 0.0) or reply.text for i in ids] == [
        "learning",
        "learning languages",
        "learning languages is",
        "learning languages is fun",
    ]
    assert reply.language is None


def test_a_reply_cut_off_in_its_header_has_no_text() -> None:
    vocabulary = Vocabulary([b"language", b" Ger"])
    reply = vocabulary.reply(max_tokens=2)

    assert reply.accept(0, 0.0) is None
    assert reply.accept(1, 0.0) is FinishReason.LENGTH
    assert reply.text == ""


def test_with_a_forced_language_everything_is_text() -> None:
    vocabulary, ids = Vocabulary.of_words("language lessons")
    reply = fill(vocabulary.reply(forced=GERMAN), ids)

    assert (reply.text, reply.language) == ("language lessons", GERMAN)


def test_confidence_is_of_the_text_without_header_and_stop() -> None:
    vocabulary = Vocabulary([b"language English", b" yes", b" no"])
    reply = vocabulary.reply()
    for token, logprob in [(0, -9.0), (TAG_ID, -9.0)]:
        reply.accept(token, logprob)

    assert reply.mean_logprob is None
    for token, logprob in [(1, -1.0), (2, -2.0), (STOP_ID, -9.0)]:
        reply.accept(token, logprob)
    assert reply.mean_logprob is not None
    assert math.isclose(reply.mean_logprob, -1.5)


def test_a_reply_ends_once() -> None:
    vocabulary, ids = Vocabulary.of_words("one two")
    reply = vocabulary.reply(max_tokens=2)

    assert reply.accept(ids[0], 0.0) is None
    assert reply.accept(ids[1], 0.0) is FinishReason.LENGTH
    assert reply.ids == ids
    with pytest.raises(ValueError, match="came after the end"):
        reply.accept(STOP_ID, 0.0)


def test_a_stop_token_is_no_part_of_the_reply() -> None:
    vocabulary, ids = Vocabulary.of_words("one two")
    reply = fill(vocabulary.reply(max_tokens=3), ids)

    assert reply.accept(STOP_ID, 0.0) is FinishReason.STOP
    assert reply.ids == ids


@given(st.integers(1, 32), st.floats(0.3, 60.0))
def test_a_loop_beyond_what_can_be_said_ends_the_reply(period: int, duration_s: float) -> None:
    reply = Vocabulary([f" w{n}".encode() for n in range(period)]).reply(duration_s=duration_s)

    n_tokens = next(n for n in range(1, 10_000) if reply.accept((n - 1) % period, 0.0) is FinishReason.REPETITION)
    assert n_tokens == max(24, 4 * period, math.ceil(5 * duration_s) + 13)


@given(st.lists(st.integers(0, 2), max_size=62))
def test_what_can_be_said_in_the_time_is_never_a_loop(ids: list[int]) -> None:
    reply = Vocabulary([b" one", b" two", b" three"]).reply(duration_s=10.0)

    fill(reply, ids)


def work(**options: object) -> Work:
    return Works().make(priority=Priority.BATCH, options=RecognitionOptions(**options))  # type: ignore[arg-type]


def maker(max_new_tokens: int = 0) -> ReplyMaker:
    """Encodes each character as its code."""
    return ReplyMaker(lambda text: [*map(ord, text)], lambda ids: "".join(map(chr, ids)), {STOP_ID}, TAG_ID, max_new_tokens)


@pytest.mark.parametrize("name", ["German", "Greek", "None"])
def test_with_candidates_the_header_can_only_be_one_of_theirs_or_none(name: str) -> None:
    candidates = (GERMAN, Language("el", "Greek"))
    reply = maker()(work(candidate_languages=candidates))

    for token in [*map(ord, f"language {name}"), TAG_ID]:
        allowed = reply.allowed()
        assert allowed is not None
        assert token in allowed
        if len(reply.ids) == len("language "):
            assert [*map(chr, allowed)] == ["G", "N"]
        reply.accept(token, 0.0)
    assert reply.allowed() is None
    assert (reply.language.name if reply.language else "None") == name


def test_without_candidates_or_with_a_language_anything_may_come() -> None:
    assert maker()(work()).allowed() is None
    assert maker()(work(language=GERMAN, candidate_languages=(GERMAN,))).allowed() is None


def test_one_candidate_is_still_told_from_no_speech() -> None:
    reply = maker()(work(candidate_languages=(GERMAN,)))
    fill(reply, [*map(ord, "language ")])

    assert reply.allowed() == (ord("G"), ord("N"))


def test_a_token_off_the_headers_ends_the_rule() -> None:
    walk = HeaderTrie.of([[1, 2], [1, 3]]).walk()
    walk.accept(7)

    assert walk.allowed() is None


def test_the_budget_is_that_of_the_audio_or_the_users() -> None:
    assert maker()(work()).max_tokens == 40
    assert maker(max_new_tokens=7)(work()).max_tokens == 7
