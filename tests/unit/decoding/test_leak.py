import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_service.decoding.leak import looks_leaked, sounds_alike

CONTEXT = "Kubernetes, Prometheus, Grafana, Loki; Jaeger"


@pytest.mark.parametrize(
    ("text", "context"),
    [
        ("Kubernetes Prometheus Grafana.", CONTEXT),
        ("Prometheus, Grafana, Loki", CONTEXT),
        ("kubernetes prometheus grafana loki jaeger", CONTEXT),
        ("Kubernetes, Prometheus, Grafana, Loki; Jaeger. Kubernetes, Prometheus, Grafana", CONTEXT),
        ("Um, Kubernetes, Prometheus, Grafana, Loki", CONTEXT),
        ("Zoltán", "ZOLTÁN"),
        ("Ada Lovelace", "Ada Lovelace"),
        ("小米手机", "苹果、小米手机、华为"),
        ("华为，苹果", "华为；苹果"),
        ("苹果小米", "苹果、小米、华为"),
    ],
)
def test_a_copy_of_the_context_is_a_suspect(text: str, context: str) -> None:
    assert looks_leaked(text, context)


@pytest.mark.parametrize(
    ("text", "context"),
    [
        ("Kubernetes Prometheus Grafana", ""),
        ("", CONTEXT),
        ("...", CONTEXT),
        ("Grafana and Loki", CONTEXT),
        ("Prometheus Grafana", CONTEXT),
        ("Grafana, Prometheus, Kubernetes", CONTEXT),
        ("we use Kubernetes, Prometheus and Grafana, Loki and Jaeger", CONTEXT),
        ("please open Kubernetes Prometheus Grafana", CONTEXT),
        ("小米手", "苹果、小米手机、华为"),
        ("我喜欢小米手机和华为", "苹果、小米手机、华为"),
        ("Ada", "Ada Lovelace"),
    ],
)
def test_words_of_the_context_in_other_company_are_none(text: str, context: str) -> None:
    assert not looks_leaked(text, context)


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_can_be_looked_at(text: str, context: str) -> None:
    looks_leaked(text, context)
    sounds_alike(text, context)


@given(st.lists(st.sampled_from(["one", "two", "three", "four"]), min_size=3))
def test_the_whole_context_is_always_a_suspect(words: list[str]) -> None:
    assert looks_leaked(" ".join(words).upper(), ", ".join(words))


@pytest.mark.parametrize(
    ("first", "second", "are_alike"),
    [
        ("Kubernetes, Prometheus, Grafana", "kubernetes prometheus grafana", True),
        ("Kubernetes Prometheus Grafana", "Cuban eddies promise you Grafana", True),
        ("Kubernetes, Prometheus, Grafana", "", False),
        ("Kubernetes, Prometheus, Grafana", "Thank you for watching", False),
        ("小米手机", "小米手机", True),
        ("小米手机", "谢谢大家", False),
    ],
)
def test_spelling_does_not_decide_whether_the_words_were_there(first: str, second: str, are_alike: bool) -> None:
    assert sounds_alike(first, second) == are_alike
