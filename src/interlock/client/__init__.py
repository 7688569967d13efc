"""The SDK: ask a running Interlock, with citations as types; mint on-behalf-of tokens.

Any OpenAI client works against Interlock too; this one adds what their types cannot say.

>>> from interlock.client import Client
>>> with Client("http://127.0.0.1:8321") as client:                      # doctest: +SKIP
...     answer = client.ask("handbook", "How long may hardware be returned?")
...     print(answer.text, [c.quote for c in answer.citations])
"""

from interlock.client.calls import ApiError
from interlock.client.http import AsyncClient, Client
from interlock.client.tokens import mint_token
from interlock.client.types import (
    Answer,
    Box,
    Citation,
    Claim,
    Contradiction,
    Option,
    Passage,
    Quote,
    Sentence,
    StreamEvent,
)

__all__ = [
    "Answer",
    "ApiError",
    "AsyncClient",
    "Box",
    "Citation",
    "Claim",
    "Client",
    "Contradiction",
    "Option",
    "Passage",
    "Quote",
    "Sentence",
    "StreamEvent",
    "mint_token",
]
