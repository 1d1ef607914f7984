"""`python -m stack.provider PORT` serves the simulated provider on the loopback interface."""

import sys

import uvicorn

from stack.provider.app import create_app
from stack.rewrite import LOOPBACK

if __name__ == "__main__":
    # Short: a stream that a test wants to last for minutes must not hold up the end of the stack.
    uvicorn.run(create_app(), host=LOOPBACK, port=int(sys.argv[1]), log_level="warning", timeout_graceful_shutdown=2)
