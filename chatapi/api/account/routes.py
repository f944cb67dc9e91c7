"""The direct routes of this folder, with their descriptions."""

from __future__ import annotations

from fastapi import APIRouter

from chatapi.api.account import config, keys
from chatapi.api.account.schemas import GET_CONFIG, TEST_KEY
from chatapi.api.http.framework import describe

key_router = APIRouter(tags=["keys"])
describe(key_router, keys.direct, {keys.test_key: TEST_KEY})

config_router = APIRouter(tags=["config"])
describe(config_router, config.direct, {config.config: GET_CONFIG})
