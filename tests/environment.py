"""The environment of the tests: the variables of the user who runs them, without those that could change an outcome."""

from __future__ import annotations

import os
import time

KEPT = {
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "CI"),
    *("VIRTUAL_ENV", "PYTHONPATH", "PYTHONUTF8", "CHROMIUM", "FUZZ_EXAMPLES"),
}
KEPT_PREFIXES = (
    *("PYTEST_", "COVERAGE_", "HYPOTHESIS_", "PLAYWRIGHT_", "TESTS_"),
    *("LD_", "DYLD_", "NIX_"),  # without which programs of some systems do not start
)
CHOSEN = {"TZ": "UTC"}


def leave_users_environment() -> dict[str, str]:
    """Change the environment of this process to that of the tests; return the user's.

    Settings of the service, of clients, of proxies, of databases, of git and of pip, the language, the time zone and
    the width of the terminal are left behind.
    """
    users = dict(os.environ)
    for name in users:
        if name not in KEPT and not name.startswith(KEPT_PREFIXES):
            del os.environ[name]
    os.environ.update(CHOSEN)
    time.tzset()
    return users
