"""Small HTTP helpers."""

import urllib.error
import urllib.request
from collections.abc import Callable
from http import HTTPStatus


def answers(url: str, timeout: float = 3) -> Callable[[], bool]:
    """Return a health check: whether a GET of `url` is answered with 200."""

    def healthy() -> bool:
        try:
            # Straight to the address: a proxy from the user's environment has no business on the loopback interface.
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(url, timeout=timeout) as answer:
                return bool(answer.status == HTTPStatus.OK)
        except urllib.error.HTTPError:
            return False

    return healthy
