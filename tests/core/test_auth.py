import pytest
from pydantic import SecretStr

from shared.core.auth import KeyRing, is_loopback, key_from_headers, require_key_beyond_loopback
from shared.core.settings import CommonSettings


def test_a_ring_accepts_its_own_keys_only() -> None:
    ring = KeyRing([SecretStr("one"), SecretStr("two")])
    assert ring.accepts("one")
    assert ring.accepts("two")
    assert not ring.accepts("three")
    assert not ring.accepts("")
    assert not ring.accepts(None)


def test_an_empty_ring_accepts_everyone() -> None:
    assert KeyRing([]).accepts(None)


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({b"x-api-key": b"k"}, "k"),
        ({b"authorization": b"Bearer k"}, "k"),
        ({b"authorization": b"bearer  k "}, "k"),
        ({b"authorization": b"Basic k"}, None),
        ({b"authorization": b"Bearer "}, None),
        ({}, None),
    ],
)
def test_where_a_key_is_looked_for(headers: dict[bytes, bytes], key: str | None) -> None:
    assert key_from_headers(headers) == key


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),
     ("::", False), ("10.0.0.1", False), ("example.org", False)],
)  # fmt: skip
def test_what_counts_as_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_a_service_open_to_the_network_needs_a_key_or_an_explicit_word() -> None:
    with pytest.raises(ValueError, match="SIGHTLINE_API_KEYS"):
        require_key_beyond_loopback("0.0.0.0", CommonSettings())
    require_key_beyond_loopback("0.0.0.0", CommonSettings(api_keys="k"))
    require_key_beyond_loopback("0.0.0.0", CommonSettings(allow_unauthenticated=True))
    require_key_beyond_loopback("127.0.0.1", CommonSettings())
