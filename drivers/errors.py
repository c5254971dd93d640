"""Driver errors, by whose fault they are: the reader's or the card's.

A type exists because somebody catches it. Low layers raise these raw; a session translates only what means something to its caller.
No message holds an identifier or a key.
"""


class DriverError(Exception):
    """Something outside the process failed."""


class ReaderLost(DriverError):
    """The reader is unplugged, silent or talks nonsense. It is an event, never a crash: ``Reader.revive`` is the way back."""


class VaultLost(ReaderLost):
    """The token with the keys is unplugged, silent or locked.

    A terminal without its keys reads no card, so to a tap it is the same event as a lost reader. The next question tries again.
    """


class CardError(DriverError):
    """The card did not do what was asked."""


class CardLost(CardError):
    """No answer within the reader's time limit. Whether the card executed the command is *unknown*."""


class CardRefused(CardError):
    """The card answered with an error.

    ``sf1``/``sf2`` are FeliCa status flags 1 and 2 (JIS X 6319-4; meanings in ``drivers.felica``).
    """

    def __init__(self, sf1: int, sf2: int) -> None:
        super().__init__(f"the card refused the command (status flags {sf1:02X} {sf2:02X})")
        self.sf1 = sf1
        self.sf2 = sf2


class MalformedReply(CardError):
    """The card answered with bytes that no such card may send (length, code, IDm, count)."""


class NotAuthentic(CardError):
    """A MAC or a signature does not fit: the card does not hold our key, or somebody changed what it said."""
