import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_service.decoding.joining import join_texts, most_spoken
from asr_service.languages import ENGLISH, LANGUAGES

CHINESE = LANGUAGES[0]


@pytest.mark.parametrize(
    ("pieces", "joined"),
    [
        (["hello there", "general"], "hello there general"),
        (["你好", "世界"], "你好世界"),
        (["你好。", "世界"], "你好。世界"),
        (["これは", "ペン"], "これはペン"),
        (["สวัสดี", "ครับ"], "สวัสดีครับ"),
        (["안녕하세요", "여러분"], "안녕하세요 여러분"),
        (["I said", "你好"], "I said你好"),
        (["彼は「はい」", "「いいえ」"], "彼は「はい」「いいえ」"),
        (["ﾊﾛｰ", "ﾜｰﾙﾄﾞ"], "ﾊﾛｰﾜｰﾙﾄﾞ"),
        (["他说“你好”", "“再见”他说"], "他说“你好”“再见”他说"),
        (["“hello”", "“good bye”"], "“hello” “good bye”"),
        (["안녕.", "하세요"], "안녕. 하세요"),
        (["one,", "two"], "one, two"),
        (["...", "two"], "... two"),
        ([" a ", "", "  ", "b"], "a b"),
        ([], ""),
    ],
)
def test_pieces_join_as_their_script_is_written(pieces: list[str], joined: str) -> None:
    assert join_texts(pieces) == joined


def test_the_language_is_the_one_most_spoken() -> None:
    assert most_spoken([(ENGLISH, 5), (CHINESE, 7), (None, 100), (ENGLISH, 3)]) == ENGLISH
    assert most_spoken([(None, 100)]) is None


@given(st.lists(st.text("ab .“”你好。「」ก안", max_size=6)))
def test_joining_adds_at_most_one_space_between_pieces_and_loses_nothing(pieces: list[str]) -> None:
    joined = join_texts(pieces)
    said = [piece.strip() for piece in pieces if piece.strip()]

    assert joined.replace(" ", "") == "".join(pieces).replace(" ", "")
    assert sum(map(len, said)) <= len(joined) <= sum(map(len, said)) + max(0, len(said) - 1)


@given(st.lists(st.sampled_from(["one two", "three", "four five six"])))
def test_as_many_words_come_out_as_go_in(pieces: list[str]) -> None:
    assert len(join_texts(pieces).split()) == sum(len(piece.split()) for piece in pieces)
