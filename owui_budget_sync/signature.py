"""The signature of a trigger: HMAC-SHA256 over `timestamp.body`, with a time limit and a memory against replays.

`openwebui/function.py` makes it, inside Open WebUI and without our code; a test holds the two together.
"""

import hashlib
import hmac
from collections import OrderedDict

from owui_budget.clock import Clock

TIMESTAMP = "X-Budget-Timestamp"
"""Epoch seconds, with decimals."""
SIGNATURE = "X-Budget-Signature"
"""`sha256=` and 64 hexadecimal digits."""
TOLERANCE = 300.0
"""Seconds the sender's clock may differ from ours, and for which a signature is remembered."""
REMEMBERED = 10_000


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """Return the signature header's value for `body` sent at `timestamp` (as it stands in its header)."""
    return "sha256=" + hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


class SignatureCheck:
    """Accepts each signature once, within the tolerance."""

    def __init__(self, secret: str, clock: Clock) -> None:
        """Check against `secret`."""
        self._secret = secret
        self._clock = clock
        self._seen: OrderedDict[str, float] = OrderedDict()

    def accepts(self, timestamp: str | None, signature: str | None, body: bytes) -> bool:
        """Whether the request was made by somebody who has the secret, just now, and is no repetition."""
        if not timestamp or not signature or not _plain(timestamp) or not signature.isascii():
            return False
        if not hmac.compare_digest(sign(self._secret, timestamp, body), signature):
            return False
        now = self._clock.now()
        if abs(now - float(timestamp)) > TOLERANCE or signature in self._seen:
            return False
        while self._seen and (len(self._seen) >= REMEMBERED or next(iter(self._seen.values())) < now - 2 * TOLERANCE):
            self._seen.popitem(last=False)
        self._seen[signature] = now
        return True


def _plain(timestamp: str) -> bool:
    """Digits and at most one point: no infinities, exponents or other alphabets that `float` would take."""
    return len(timestamp) <= 20 and timestamp.isascii() and timestamp.replace(".", "", 1).isdigit()  # noqa: PLR2004
