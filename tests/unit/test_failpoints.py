import pytest

from asr_service.failpoints import FailpointError, Failpoints


def test_an_empty_spec_does_nothing() -> None:
    Failpoints("").hit("decode.source")


def test_an_error_is_raised_as_often_as_asked() -> None:
    failpoints = Failpoints("decode.source=error*2, decode.block=error")

    for _ in range(2):
        with pytest.raises(FailpointError):
            failpoints.hit("decode.source")
    failpoints.hit("decode.source")
    with pytest.raises(FailpointError):
        failpoints.hit("decode.block")


@pytest.mark.parametrize("spec", ["nowhere=error", "decode.source=explode", "decode.source", "decode.source=error*x"])
def test_a_bad_spec_says_what_is_wanted(spec: str) -> None:
    with pytest.raises(ValueError, match=r"want NAME=error\|crash\|hang"):
        Failpoints(spec)
