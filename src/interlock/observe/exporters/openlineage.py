"""Sends lineage to whatever speaks OpenLineage over HTTP (Marquez, DataHub and their kin)."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence

from interlock.observe.settings import ObserveSettings

__all__ = ["OpenLineageSink"]

_TIMEOUT_S = 5.0
_log = logging.getLogger("interlock.lineage")


class OpenLineageSink:
    """Best effort: what cannot be delivered is logged by its kind, and holds nothing up for longer than 5 s.

    Args:
        settings: names the address and where its token is.
    """

    def __init__(self, settings: ObserveSettings) -> None:
        self._url = settings.openlineage_url
        token = os.environ.get(settings.openlineage_token_env or "", "")
        self._headers = {"authorization": f"Bearer {token}"} if token else {}

    async def send(self, events: Sequence[Mapping[str, object]]) -> None:
        """Send run events in order; stops at the first that does not arrive."""
        if self._url is None or not events:
            return
        import httpx2

        try:
            async with httpx2.AsyncClient(timeout=_TIMEOUT_S, headers=self._headers) as client:
                for event in events:
                    answer = await client.post(self._url, json=dict(event))
                    if not answer.is_success:
                        _log.warning("lineage was answered with %d", answer.status_code)
                        return
        except (httpx2.HTTPError, OSError) as error:
            _log.warning("lineage did not arrive: %s", type(error).__name__)
