"""The request bodies, responses and operations of the account routes."""

from __future__ import annotations

from typing import Annotated, NotRequired, TypedDict

from msgspec import Meta, Struct, field

from chatapi.api.account.keys import KeyBody
from chatapi.api.http.openapi import (
    BODY_ERRORS,
    KEY_ERRORS,
    NO_KEY,
    OPTIONAL_KEY,
    OWNER_ERRORS,
    REQUIRED_KEY,
    UPSTREAM_ERRORS,
    Example,
    describe,
    json_content,
    operation,
)

describe(KeyBody, api_key="The key, unless a header has it.")


class KeyTest(TypedDict):
    """The result of a key test."""

    valid: bool
    message: str


class KeyFormat(TypedDict):
    """The format of a key."""

    pattern: Annotated[str, Meta(description="A Python regular expression that matches the whole key.")]
    prefix: Annotated[str | None, Meta(description="Null if the operator set another pattern, as is `length`.")]
    length: int | None


class Config(TypedDict):
    """The configuration of a page: format of keys, default model and limits."""

    version: str
    demo: Annotated[bool, Meta(description="Whether `./run demo` started this server.")]
    demo_key: Annotated[str | None, Meta(description="A key that the demo's simulated model accepts.")]
    key: KeyFormat
    default_model: Annotated[str, Meta(description="The model of a request that names none.")]
    default_model_notice: Annotated[str | None, Meta(description="Its end, from 90 days before, with the remedy.")]
    max_message_bytes: Annotated[int, Meta(description="`CHATAPI_MAX_MESSAGE_BYTES`.")]
    max_body_bytes: Annotated[int, Meta(description="`CHATAPI_MAX_BODY_BYTES`.")]
    max_media_bytes: Annotated[int, Meta(description="`CHATAPI_MAX_MEDIA_BYTES`.")]


class UsageSums(TypedDict):
    """The usage of several answers."""

    answers: int
    input_tokens: Annotated[int, Meta(description="Includes the cached ones.")]
    output_tokens: Annotated[int, Meta(description="Includes those of reasoning.")]
    reasoning_tokens: int
    cached_tokens: int
    estimated: Annotated[int, Meta(description="Answers that were cut off: their output is estimated.")]
    unknown: Annotated[int, Meta(description="Answers without token counts.")]
    cost: Annotated[float | None, Meta(description="Of the answers whose model has a price; null if none has.")]
    unpriced: Annotated[int, Meta(description="Answers whose model has no price.")]


class UsageRow(UsageSums):
    """The usage of a day, model, session or upstream, or of a combination; not of a session and an upstream."""

    day: NotRequired[str]
    model: NotRequired[str]
    session_id: NotRequired[Annotated[str | None, Meta(description="Null for all deleted sessions together.")]]
    title: NotRequired[str | None]
    upstream: NotRequired[
        Annotated[str | None, Meta(description="Its name in the file. Null for summaries, and for a single upstream.")]
    ]


class PriceListDate(TypedDict):
    """Which price list a cost is from."""

    as_of: str
    currency: str | None


class UsageReport(Struct):
    """The usage of the answers that ended from `from` to `to`."""

    from_: Annotated[str, Meta(description="The first day.")] = field(name="from")
    to: Annotated[str, Meta(description="The last day. A day that is over does not change.")]
    data: Annotated[list[UsageRow], Meta(description="By day, else the rows with the most tokens first.")]
    complete: Annotated[bool, Meta(description="False if there are more than 5,000 rows; the largest are shown.")]
    totals: UsageSums
    prices: PriceListDate | None


class Price(TypedDict):
    """The price of a million tokens."""

    input: float
    cached_input: NotRequired[float | None]
    output: float


class Prices(TypedDict):
    """The operator's price list."""

    as_of: str | None
    currency: str | None
    models: dict[str, Price]


TEST_KEY = operation(
    "testKey",
    "Test a key",
    """Ask the upstream for its list of models, never for a completion. `valid` is false, with the reason, if the
    upstream does not know the key or does not permit its use.""",
    json_content(KeyTest, "The result."),
    body=KeyBody,
    security=OPTIONAL_KEY,
    errors=(*KEY_ERRORS, *BODY_ERRORS, *UPSTREAM_ERRORS),
    examples=(Example("test", body={"api_key": "$KEY"}, key=False),),
)
GET_CONFIG = operation(
    "getConfig",
    "Get the configuration",
    "Return the configuration that a page needs before it has a key. It contains no secret.",
    json_content(Config, "The configuration."),
    security=NO_KEY,
    examples=(Example("get", key=False),),
)
GET_USAGE = operation(
    "getUsage",
    "Report usage",
    """Report the usage of the caller's answers. Every stored answer counts once, on the UTC day on which it ended,
    also if it was deleted later. Not counted: turns that the upstream rejected before a model ran, requests that are
    not stored (`/v1/chat/completions` without a session, `store: false`), imported answers, and copies.""",
    json_content(UsageReport, "The report."),
    parameters={
        "from": "The first day, such as `2026-01-31`, UTC. By default 29 days before `to`.",
        "to": "The last day, at most 365 days after `from`. By default today.",
        "by": "`day`, `model`, `session`, or several as in `day,model`.",
    },
    security=REQUIRED_KEY,
    errors=OWNER_ERRORS,
    examples=(Example("byModel", query={"by": "model", "from": "2026-01-01", "to": "2026-01-31"}),),
)
GET_PRICES = operation(
    "getPrices",
    "Get the price list",
    """Return the price of a million tokens of each model, from the list that the operator set (`CHATAPI_PRICES`). A
    dated release such as `gpt-4.1-mini-2025-04-14` has the price of its model.""",
    json_content(Prices, "The price list; empty if the operator set none."),
    security=NO_KEY,
    examples=(Example("get", key=False),),
)
