"""What can be wrong with a ledger. Each message is one sentence: what, where, what to do."""


class LedgerError(Exception):
    """Something about a ledger that its user must know."""


class MalformedEntry(LedgerError):
    """Bytes that no version of this software wrote as an entry, or an entry that has no bytes. ``field`` names the place."""

    def __init__(self, field: str, what: str) -> None:
        super().__init__(f"ledger entry, field '{field}': {what}")
        self.field = field


class Full(LedgerError):
    """There is no room. Nothing was written; the card must not be written either."""


class NotStored(LedgerError):
    """The store failed, and looking again proved that nothing of the request is there."""


class StoreLost(NotStored):
    """The store failed and cannot be looked at: whether the request is there is *unknown*. The next call tries to open it again."""


class StoreRolledBack(LedgerError):
    """The database is older than, or other than, what the file beside it remembers: a restored image, a swapped or emptied medium.

    Such a ledger must not go on: its next entry would get a number that another entry had before. It needs a new epoch.
    """


class LedgerBusy(LedgerError):
    """Another program writes this ledger."""


class LedgerUnreadable(LedgerError):
    """The file is no ledger, is damaged, belongs to another device, or is of a version this software does not know."""


class Malformed(LedgerError):
    """Bytes from outside that are not what they should be. Nothing of them is taken; sent again they are refused again."""


class MalformedSeal(Malformed):
    """No COSE_Sign1 message as this house seals them."""


class MalformedBatch(Malformed):
    """What a batch's seal protects is no batch of this version, or its parts do not add up."""


class MalformedReceipt(Malformed):
    """No receipt of this version."""


class MalformedNote(Malformed):
    """No heartbeat, or no report of a lost ledger, of this version."""


class BatchTooLarge(LedgerError):
    """These entries do not fit into one sealed batch; send fewer at once. One entry alone always fits."""
