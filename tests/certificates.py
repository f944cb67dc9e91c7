"""TLS certificates for tests, made by a CA of their own with the command line of OpenSSL."""

from __future__ import annotations

import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

CURVE = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
CONFIGURATION = """
[ca]
default_ca = tests
[tests]
database = index.txt
new_certs_dir = .
certificate = ca.pem
private_key = ca.key
default_md = sha256
policy = any
copy_extensions = copy
unique_subject = no
rand_serial = yes
[any]
commonName = supplied
"""


class Authority:
    """A CA in a folder. `certificate` is the file that a client has to trust."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.certificate = folder / "ca.pem"
        (folder / "openssl.cnf").write_text(CONFIGURATION)
        (folder / "index.txt").touch()
        self._openssl(f"req -x509 {CURVE} -keyout ca.key -out ca.pem -days 9 -subj /CN=tests")

    def server(self, names: str = "DNS:localhost,IP:127.0.0.1", days: int = 9) -> ssl.SSLContext:
        """Return the settings of a server with these names, whose certificate is valid for so many days from now."""
        number = len(list(self._folder.iterdir()))
        key, request, certificate = f"{number}.key", f"{number}.csr", f"{number}.pem"
        now = datetime.now(UTC)
        begin, end = (f"{now + timedelta(days=offset):%Y%m%d%H%M%SZ}" for offset in (-99, days))
        self._openssl(f"req {CURVE} -keyout {key} -out {request} -subj /CN=server -addext subjectAltName={names}")
        dates = f"-startdate {begin} -enddate {end}"
        self._openssl(f"ca -config openssl.cnf -batch -notext {dates} -in {request} -out {certificate}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._folder / certificate, self._folder / key)
        return context

    def _openssl(self, arguments: str) -> None:
        subprocess.run(["openssl", *arguments.split()], cwd=self._folder, check=True, capture_output=True)
