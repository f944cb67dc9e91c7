"""Prices of tokens, from the operator's price list. None are built in: they change."""

from __future__ import annotations

import math
import re
from datetime import date
from pathlib import Path
from typing import Annotated

import msgspec

from chatapi.model import Usage, UsageTotal
from chatapi.settings import SettingsError

MAX_BYTES = 1024 * 1024  # of the file
PER = 1_000_000  # tokens
COST_DIGITS = 9  # after the point: a tenth of the price of one token of the cheapest model

# The date of a release at the end of its name: -2025-04-14, -20250414 or -0414.
_DATED = re.compile(r"-(?:20\d\d-?)?(?:0[1-9]|1[0-2])-?(?:0[1-9]|[12]\d|3[01])", re.ASCII)


class Price(msgspec.Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """The price of a million tokens. Cached input tokens cost as much as others unless `cached_input` is set."""

    input: Annotated[float, msgspec.Meta(ge=0)]
    output: Annotated[float, msgspec.Meta(ge=0)]
    cached_input: Annotated[float, msgspec.Meta(ge=0)] | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    as_of: date
    currency: Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")]
    models: dict[Annotated[str, msgspec.Meta(min_length=1, max_length=128)], Price]


class Prices(msgspec.Struct, frozen=True):
    """A price list and its date; without one, no model has a price."""

    as_of: date | None = None
    currency: str | None = None
    models: dict[str, Price] = msgspec.field(default_factory=dict)

    def of(self, model: str) -> Price | None:
        """Return the price of a model. A dated release without a price of its own has the price of its model."""
        if model in self.models:
            return self.models[model]
        dated = re.search(f"{_DATED.pattern}$", model, re.ASCII)
        return self.models.get(model[: dated.start()]) if dated else None

    def cost_of_usage(self, model: str, usage: Usage) -> float | None:
        """Return the cost of one answer; None where its model has no price."""
        counts = (
            usage.input_tokens or 0,
            usage.output_tokens or 0,
            usage.reasoning_tokens or 0,
            usage.cached_tokens or 0,
        )
        return self.cost(UsageTotal(None, None, None, model, 1, *counts, estimated=0, unknown=0))

    def cost(self, total: UsageTotal) -> float | None:
        """Return the cost of a total; None where its model has no price."""
        price = self.of(total.model)
        if price is None:
            return None
        cached = min(total.cached_tokens, total.input_tokens)
        cached_price = price.input if price.cached_input is None else price.cached_input
        fresh = (total.input_tokens - cached) * price.input
        return (fresh + cached * cached_price + total.output_tokens * price.output) / PER


def read_prices(path: Path | None) -> Prices:
    """Read the operator's price list; return an empty one if `path` is None.

    Raises:
        SettingsError: The file cannot be read, or is not a price list.
    """
    if path is None:
        return Prices()
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"CHATAPI_PRICES: the file {path} cannot be read: {error.strerror}.") from error
    if len(data) > MAX_BYTES:
        raise SettingsError(f"CHATAPI_PRICES: the file {path} must have at most {MAX_BYTES} bytes.")
    try:
        found = msgspec.json.decode(data, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError(
            f"CHATAPI_PRICES: the file {path} is not a price list: {error}. Compare it with prices.example.json."
        ) from error
    for model, price in found.models.items():
        if not all(math.isfinite(one) for one in (price.input, price.output, price.cached_input or 0)):
            raise SettingsError(f"CHATAPI_PRICES: in the file {path}, each price of {model} must be a finite number.")
    return Prices(found.as_of, found.currency, found.models)
