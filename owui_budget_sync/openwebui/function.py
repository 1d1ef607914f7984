"""
title: Budget sync trigger
author: owui-budget
version: 1
description: Tells owui-budget's sync service that groups or users have changed, so that new limits hold at once. It sends the event's name and nothing about anybody.
"""  # noqa: D205, D212, E501 - Open WebUI reads this header line by line

# Runs inside Open WebUI, which loads this file's text. Nothing here imports owui-budget, and owui-budget never imports
# this file. It is installed by `owui-budget openwebui install`, which also fills in the valves.

import asyncio
import hashlib
import hmac
import json
import logging
import time
from typing import Any

import aiohttp
from pydantic import BaseModel, Field

log = logging.getLogger("owui_budget")

_EVENTS = ("user.created", "user.updated", "user.deleted", "user.role_updated", "auth.signup")
_PAUSES = (0.0, 0.5, 2.0)
"""Seconds before each attempt. A trigger that is lost all the same costs one interval of the sync: 30 seconds."""


class Event:
    """Open WebUI's name for a function that is told of events."""

    class Valves(BaseModel):
        """Settings in Open WebUI's admin pages."""

        url: str = Field(default="", description="The sync service's /trigger address")
        secret: str = Field(
            default="",
            description="OWUI_BUDGET_TRIGGER_SECRET of the sync service",
            json_schema_extra={"input": {"type": "password"}},
        )

    def __init__(self) -> None:
        """Open WebUI fills in the valves before each event."""
        self.valves = self.Valves()

    async def event(self, event: dict[str, Any], __event_name__: str = "") -> None:
        """Tell the sync service, signed; Open WebUI calls this after the change is committed and waits for nothing."""
        name = __event_name__ or str(event.get("event", ""))
        if not self.valves.url or not (name.startswith("group.") or name in _EVENTS):
            return
        body = json.dumps({"id": event.get("id"), "event": name}).encode()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3)) as session:
            for pause in _PAUSES:
                await asyncio.sleep(pause)
                # A header of its own time each: the service takes no signature twice.
                headers = _signed(self.valves.secret, body)
                try:
                    async with session.post(self.valves.url, data=body, headers=headers) as answer:
                        if answer.status < 500:  # noqa: PLR2004 - a refusal will not become a yes
                            if answer.status >= 400:  # noqa: PLR2004
                                log.warning("budget sync answered %s with %s: check the valves", name, answer.status)
                            return
                except (aiohttp.ClientError, TimeoutError) as error:
                    log.info("budget sync cannot be told of %s: %s", name, type(error).__name__)


def _signed(secret: str, body: bytes) -> dict[str, str]:
    moment = f"{time.time():.6f}"  # noqa: TID251 - there is no clock of ours inside Open WebUI
    signature = hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    return {
        "Content-Type": "application/json",
        "X-Budget-Timestamp": moment,
        "X-Budget-Signature": f"sha256={signature}",
    }
