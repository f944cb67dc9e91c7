"""`python -m chatapi`: the same as `python app.py`."""

from __future__ import annotations

import sys

from chatapi.cli import main

sys.exit(main())
