import pytest

from asr_service.hosts import host_port, is_loopback, reachable


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "unix:/tmp/asr"])
def test_loopback_is_known(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_everything_else_is_not_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("host", "joined", "called"),
    [
        ("127.0.0.1", "127.0.0.1:80", "127.0.0.1"),
        ("0.0.0.0", "0.0.0.0:80", "127.0.0.1"),
        ("::", "[::]:80", "::1"),
        ("[::1]", "[::1]:80", "::1"),
        ("192.0.2.1", "192.0.2.1:80", "192.0.2.1"),
        ("localhost", "localhost:80", "localhost"),
    ],
)
def test_an_address_is_joined_and_called(host: str, joined: str, called: str) -> None:
    assert host_port(host, 80) == joined
    assert reachable(host) == called
