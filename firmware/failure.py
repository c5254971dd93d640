"""The one error a command shows to a person."""


class Failure(Exception):
    """What is wrong, where, and what to do, in one sentence; printed without a traceback, exit status 1."""


class LedgerUnusable(Failure):
    """The ledger cannot be written: no card is taken, and it is tried again."""
