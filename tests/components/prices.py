"""The example of prices beside those of `genai-prices`, for the models in it.

`run` is called by the tests' interpreter; the module itself runs in `.venv-components`, which has the package.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

NAME = "prices"
PYTHON = Path(__file__).parents[2] / ".venv-components/bin/python"
EXAMPLE = Path(__file__).parents[2] / "chatapi/prices.example.json"
TOKENS = 1_000  # a long prompt may have other prices
PER_MILLION = 1_000
COUNTS = {
    "input": {"input_tokens": TOKENS},
    "cached_input": {"input_tokens": TOKENS, "cache_read_tokens": TOKENS},
    "output": {"output_tokens": TOKENS},
}


def run() -> int:
    """Print a row for each model; return 1 if a price differs."""
    return subprocess.run([str(PYTHON), __file__], check=False).returncode


def main() -> int:
    """Compare each price; a package that does not know the model is a difference too."""
    from genai_prices import Usage, calc_price

    wrong = 0
    for model, listed in json.loads(EXAMPLE.read_text())["models"].items():
        try:
            found = {
                kind: float(
                    calc_price(Usage(**counts), model_ref=model, provider_id="openai").total_price * PER_MILLION
                )
                for kind, counts in COUNTS.items()
            }
        except LookupError:
            found = {}
        wrong += found != listed
        print(f"{NAME:12} {model:22} {'passes' if found == listed else f'fails: {listed}, not {found}'}", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
