"""Errors of the stack: what failed, why, and the way out."""


class StackError(Exception):
    """Something in the stack cannot go on. The text names the thing, the reason and the way out."""


class MissingProgramError(StackError):
    """A program that the stack needs is not on this machine."""

    def __init__(self, program: str, why: str, way_out: str) -> None:
        """Name the program, what it is for, and how to get it."""
        super().__init__(f"{program} is missing: {why}. {way_out}")


class NotHealthyError(StackError):
    """A program was started and did not become healthy."""

    def __init__(self, name: str, reason: str, log: str, tail: str) -> None:
        """Name the program and the reason, and show the end of its log."""
        super().__init__(f"{name} did not become healthy: {reason}.\nIts log is {log}; the last lines:\n{tail}")
