"""What tokens cost, as far as the operator's list of prices says. Nobody's prices are built in: they change."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Annotated

import msgspec

from chatapi.model import UsageTotal
from chatapi.settings import SettingsError

MOST_BYTES = 1024 * 1024  # of the file
PER = 1_000_000  # tokens
COST_DIGITS = 9  # behind the point: a tenth of the price of one token of the cheapest model, and no noise

# A release's date at the end of its name: -2025-04-14, -20250414 or -0414.
_DATED = re.compile(r"-(?:20\d\d-?)?(?:0[1-9]|1[0-2])-?(?:0[1-9]|[12]\d|3[01])", re.ASCII)


class Price(msgspec.Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """What a million tokens cost; those read from the upstream's cache cost what others do, unless it says else."""

    input: Annotated[float, msgspec.Meta(ge=0)]
    output: Annotated[float, msgspec.Meta(ge=0)]
    cached_input: Annotated[float, msgspec.Meta(ge=0)] | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    as_of: date
    currency: Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")]
    models: dict[Annotated[str, msgspec.Meta(min_length=1, max_length=128)], Price]


@dataclass(frozen=True, slots=True)
class Prices:
    """A list of prices and its date; without one, nothing has a price."""

    as_of: date | None = None
    currency: str | None = None
    models: dict[str, Price] = field(default_factory=dict)

    def of(self, model: str) -> Price | None:
        """The price of a model. A release that is named by its date has the price of its model, or one of its own."""
        if model in self.models:
            return self.models[model]
        dated = re.search(f"{_DATED.pattern}$", model, re.ASCII)
        return self.models.get(model[: dated.start()]) if dated else None

    def cost(self, tally: UsageTotal) -> float | None:
        """What the answers of a tally cost, where their model has a price."""
        price = self.of(tally.model)
        if price is None:
            return None
        cached = min(tally.cached_tokens, tally.input_tokens)
        cached_price = price.input if price.cached_input is None else price.cached_input
        fresh = (tally.input_tokens - cached) * price.input
        return (fresh + cached * cached_price + tally.output_tokens * price.output) / PER


def read_prices(path: Path | None) -> Prices:
    """The operator's list of prices; an empty one where there is none.

    Raises:
        SettingsError: the file cannot be read, or is no list of prices; the message says where.
    """
    if path is None:
        return Prices()
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"CHATAPI_PRICES: the file {path} cannot be read: {error.strerror}.") from error
    if len(data) > MOST_BYTES:
        raise SettingsError(f"CHATAPI_PRICES: the file {path} is larger than {MOST_BYTES} bytes.")
    try:
        found = msgspec.json.decode(data, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError(
            f"CHATAPI_PRICES: the file {path} is no list of prices: {error}. Compare it with prices.example.json."
        ) from error
    for model, price in found.models.items():
        if not all(math.isfinite(one) for one in (price.input, price.output, price.cached_input or 0)):
            raise SettingsError(f"CHATAPI_PRICES: in the file {path}, a price of {model} is no number.")
    return Prices(found.as_of, found.currency, found.models)
