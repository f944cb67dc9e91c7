"""`python app.py` serves the API. `uvicorn app:app`, and hosts that import this file, find it as `app`."""

from __future__ import annotations

import gc
import sys

gc.disable()  # what is imported stays: to look through it for garbage, again and again, would be a sixth of a start
try:
    from chatapi.app import create_app
    from chatapi.cli import main
    from chatapi.settings import read_settings
except ModuleNotFoundError as missing:
    if (missing.name or "").split(".")[0] == "chatapi":
        raise
    sys.exit(
        f"The package {missing.name} is not installed for this Python ({sys.executable}).\n"
        "Type `./run`, which sets everything up, or: python -m venv .venv, then "
        ".venv/bin/pip install -r requirements.txt, then .venv/bin/python app.py"
    )
gc.enable()

if __name__ == "__main__":
    sys.exit(main())
else:
    app = create_app(read_settings())
