"""The one error a command shows to a person."""


class Failure(Exception):
    """What is wrong, where, and what to do, in one sentence; printed without a traceback, exit status 1."""
