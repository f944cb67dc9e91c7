"""An HTTP/1.1 client for streams: pooled connections, verified TLS, and a bound on everything that a server sends.

It follows no redirect, decodes no content encoding, keeps no cookie and reads no environment, so a credential reaches
exactly the server that a request names. Its errors contain no address, header or body.
"""

from chatapi.http_client.client import HTTPClient
from chatapi.http_client.endpoint import Endpoint
from chatapi.http_client.errors import (
    CertificateRefused,
    ConnectFailed,
    ConnectTimeout,
    Disconnected,
    Malformed,
    RequestBodyError,
    TLSFailed,
    TransportError,
)
from chatapi.http_client.response import Receiver, Response

__all__ = [
    "HTTPClient",
    "Endpoint",
    "Response",
    "Receiver",
    "TransportError",
    "ConnectFailed",
    "ConnectTimeout",
    "CertificateRefused",
    "TLSFailed",
    "Disconnected",
    "Malformed",
    "RequestBodyError",
]
