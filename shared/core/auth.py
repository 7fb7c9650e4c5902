"""API keys, compared in constant time, and for whose page a browser asks."""

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable

from pydantic import SecretStr

from shared.core.settings import CommonSettings

# What a browser leaves out of an Origin and a proxy may write into a Host.
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class KeyRing:
    """The keys that a service accepts; an empty ring accepts everyone."""

    def __init__(self, keys: Iterable[SecretStr]) -> None:
        # Digests have one length, so a comparison tells nothing about the length of a key.
        self._digests = [hashlib.sha256(key.get_secret_value().encode()).digest() for key in keys]

    def accepts(self, key: str | None) -> bool:
        """Return whether `key` is one of the ring's; every entry is compared, whichever matches."""
        if not self._digests:
            return True
        if key is None:
            return False
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return any(matches)


def key_from_headers(headers: dict[bytes, bytes]) -> str | None:
    """Return the key in `X-API-Key` or `Authorization: Bearer …`, None where there is neither."""
    if (direct := headers.get(b"x-api-key")) is not None:
        return direct.decode("latin-1")
    scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def is_cross_site(headers: dict[bytes, bytes]) -> bool:
    """Return whether a browser says that it asks for a page of another site.

    Only browsers send the header, and no page can change it (Fetch Metadata Request Headers, W3C).
    """
    return headers.get(b"sec-fetch-site") == b"cross-site"


def is_cross_site_socket(headers: dict[bytes, bytes]) -> bool:
    """Return whether the handshake of a WebSocket comes from a browser's page of another site.

    Not every browser sends Fetch Metadata with it; all send Origin (RFC 6455 section 10.2), which has to be
    the host that was asked then.
    """
    origin = headers.get(b"origin")
    if b"sec-fetch-site" in headers or origin is None:
        return is_cross_site(headers)
    scheme, _, host = origin.decode("latin-1").lower().partition("://")
    asked = headers.get(b"host", b"").decode("latin-1").lower()
    return host != asked.removesuffix(_DEFAULT_PORTS.get(scheme, ":"))


def is_loopback(host: str) -> bool:
    """Return whether `host`, a name or an address, can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_key_beyond_loopback(host: str, settings: CommonSettings) -> None:
    """Raise ValueError where a service would be open to the network with no key."""
    if is_loopback(host) or settings.api_keys or settings.allow_unauthenticated:
        return
    raise ValueError(
        f"refusing to listen on {host} without an API key: set SIGHTLINE_API_KEYS, listen on 127.0.0.1, "
        "or say SIGHTLINE_ALLOW_UNAUTHENTICATED=true"
    )
