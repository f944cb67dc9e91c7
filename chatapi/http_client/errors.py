"""Errors of the HTTP client. Their texts are safe to show: they contain no address, header or body."""

from __future__ import annotations

import socket
import ssl
from errno import ECONNREFUSED, ECONNRESET, EHOSTUNREACH, ENETUNREACH

_REASONS = {
    ECONNREFUSED: "it refused the connection",
    ECONNRESET: "it reset the connection",
    EHOSTUNREACH: "there is no route to its host",
    ENETUNREACH: "there is no route to its network",
}


class TransportError(Exception):
    """A request or a response failed below the level of HTTP's status codes."""


class ConnectFailed(TransportError):
    """There is no connection to the server. The text is the reason, as the end of a sentence."""


class ConnectTimeout(ConnectFailed):
    """The server, or the proxy, did not complete the connection in time."""


class CertificateRefused(ConnectFailed):
    """The server's TLS certificate is not trusted, has expired or names another host. `detail` is OpenSSL's reason."""

    def __init__(self, detail: str) -> None:
        super().__init__("its TLS certificate is not trusted")
        self.detail = detail


class TLSFailed(ConnectFailed):
    """The server speaks no TLS that is acceptable."""


class Disconnected(TransportError):
    """The connection ended before the response did. The text is the reason, as the end of a sentence."""


class Malformed(TransportError):
    """The server violated HTTP, or a bound of this client."""


class RequestBodyError(TransportError):
    """The iterator of a request body failed, or did not yield the bytes that were announced."""


def connect_error(error: OSError) -> ConnectFailed:
    """Return the error for a connection that could not be made."""
    if isinstance(error, socket.gaierror):
        return ConnectFailed("its name cannot be resolved")
    if isinstance(error, ssl.SSLCertVerificationError):
        return CertificateRefused(error.verify_message)
    if isinstance(error, ssl.SSLError):
        return TLSFailed("the TLS handshake failed")
    return ConnectFailed(_REASONS.get(error.errno or 0, "the connection failed"))


def disconnect_error(error: Exception | None) -> Disconnected:
    """Return the error for a connection that was closed (None) or broke."""
    if error is None:
        return Disconnected("it closed the connection")
    return Disconnected(_REASONS.get(getattr(error, "errno", None) or 0, "the connection failed"))
