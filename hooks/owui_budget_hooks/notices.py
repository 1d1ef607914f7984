"""One toast in the browser chat per user, limit, threshold and window.

Open WebUI runs `event` frames of a chat's stream; LiteLLM lets bytes that start with `data:` pass. A notice is claimed
in the ledger first, so it is shown once over tool calls, several models and replicas. The frame follows the first
chunk: an error in the first chunk must still become an HTTP error. Text only, never anything Open WebUI would execute.
"""

import asyncio
import json
import logging
from collections import OrderedDict
from collections.abc import Callable
from zoneinfo import ZoneInfo

from owui_budget import wording
from owui_budget.domain.decisions import Notice, notices_due
from owui_budget.errors import BudgetError
from owui_budget.ledger.protocol import Ledger, NoticeClaim
from owui_budget_hooks.inflight import InFlight

log = logging.getLogger("owui_budget.notices")

_CLAIM_SECONDS = 0.5
_KNOWN = 50_000


class Notices:
    """Claims warnings for browser chats and renders their frames."""

    def __init__(self, ledger: Ledger, thresholds: tuple[int, ...], zone: ZoneInfo, now: Callable[[], float]) -> None:
        """Warn at `thresholds` percent of hard limits and at soft limits; `now` is the ledger's time."""
        self._ledger = ledger
        self._thresholds = thresholds
        self._zone = zone
        self._now = now
        self._known: OrderedDict[NoticeClaim, None] = OrderedDict()

    async def claim(self, call: InFlight) -> tuple[Notice, ...]:
        """Return the warnings this call's chat should show: those nobody has claimed before.

        A warning is a courtesy: when the ledger cannot be asked, the chat goes on without it.
        """
        user_id = call.call.user_id
        due = notices_due(call.decision.standings, self._thresholds)
        if not due or user_id is None:
            return ()
        claims = {_claim(user_id, notice): notice for notice in due}
        fresh = [claim for claim in claims if claim not in self._known]
        if not fresh:
            return ()
        try:
            async with asyncio.timeout(_CLAIM_SECONDS):
                won = await self._ledger.claim_notice(fresh)
        except (TimeoutError, BudgetError) as error:
            log.warning("a warning could not be claimed and is not shown: %s", error)
            return ()
        for claim in fresh:
            self._known[claim] = None
        while len(self._known) > _KNOWN:
            self._known.popitem(last=False)
        return tuple(claims[claim] for claim in won)

    def frame(self, notices: tuple[Notice, ...]) -> bytes:
        """Return the server-sent event that makes Open WebUI show one toast with all `notices`."""
        now = self._now()
        text = " ".join(wording.warning(notice, now, self._zone) for notice in notices)
        event = {"event": {"type": "notification", "data": {"type": "warning", "content": text}}}
        return f"data: {json.dumps(event)}\n\n".encode()


def _claim(user_id: str, notice: Notice) -> NoticeClaim:
    standing = notice.standing
    limit = standing.limit
    return NoticeClaim(
        user_id=user_id,
        counter=limit.counter.key,
        window=limit.window.value,
        window_start=standing.span.start,
        threshold=notice.threshold,
        hard=limit.bounds.hard or 0,
    )
