"""`python app.py` serves the API. `uvicorn app:app` and hosting platforms import the application as `app`."""

from __future__ import annotations

import gc
import sys

if sys.version_info < (3, 11):  # noqa: UP036  # older ones stop below with a SyntaxError that explains nothing
    sys.exit(f"This needs Python 3.11 or newer; {sys.executable} is {sys.version.split()[0]}.")
if sys.platform == "win32":
    sys.exit("This does not run on Windows itself. Use WSL (https://learn.microsoft.com/windows/wsl) or Docker.")

gc.disable()  # imported modules stay: searching them for garbage again and again would take a sixth of a start
try:
    if __name__ == "__main__":
        from chatapi.cli import main

        gc.enable()
        sys.exit(main())  # it imports the modules of a command when it runs that command
    from chatapi.app import create_app
    from chatapi.environment import read_settings
    from chatapi.settings import SettingsError
except ModuleNotFoundError as missing:
    if (missing.name or "").split(".")[0] == "chatapi":
        raise
    sys.exit(
        f"The package {missing.name} is not installed for this Python ({sys.executable}).\n"
        "Type `./run`, which sets everything up, or: python3 -m venv .venv, then "
        ".venv/bin/pip install -r requirements.txt, then .venv/bin/python app.py"
    )
except KeyboardInterrupt:
    sys.exit(130)
gc.enable()
try:
    app = create_app(read_settings())
except SettingsError as error:
    sys.exit(f"Cannot start. {error}")
