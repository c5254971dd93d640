"""What is on now: which message is shown and heard, and when it makes room.

Three kinds of message come in. A *result* stays for its time, then the screen goes back to rest. A *resting* message (READY, what the
driver armed) is what it goes back to. A *standing* one (out of order, no trip, closing) stays until something else comes, and a result
that comes goes back to it: a card must not be asked for where none is taken.

Before a station has spoken, and when the last one is gone, the screen is *alone*: it shows that the machine is not ready. A kiosk says its
welcome, once: who sets it up hears that it can speak.

Rules that look like choices, and their reasons
    * The next message replaces a result at once, sound and picture: the next rider is already there.
    * READY is the exception. A station may say READY as soon as the card is away, while "100ポイント、残り1900" is still being heard;
      READY then waits until the result has had its time.
    * READY is heard when it says something new (another stop, a driver's key undone), not each time a result ends: a bus that says "hold
      your card here" after every rider is a bus that nobody listens to.
    * What is older than its time when it arrives (the screen was being restarted) is not shown any more; a resting or standing message of
      any age is shown, without a sound.
"""

from dataclasses import dataclass

from validator.feedback import Feedback, Wordbook
from validator.messages import Message, Shown

_ARMED = frozenset({Message.ARMED_PAIR, Message.ARMED_CHILD, Message.ARMED_TICKET, Message.ARMED_STOP, Message.ARMED_FARE})
RESTING = frozenset({Message.READY, *_ARMED})
_FRESH_MS = 1500


@dataclass(frozen=True, slots=True)
class Cue:
    """What to do now: show it, and sound it if ``aloud``. ``number`` rises with every cue."""

    number: int
    shown: Shown
    feedback: Feedback
    aloud: bool


class Stage:
    """Takes messages and moments, and holds the cue of now. Times are milliseconds of any one clock.

    ``alone``: what is shown while no station is there.
    """

    def __init__(self, wordbook: Wordbook, alone: Message = Message.NO_TRIP) -> None:
        self._alone = Shown(alone)
        self.cue: Cue | None = None
        self._wordbook = wordbook
        self._number = 0
        self._rest: Shown | None = None
        self._heard_ready: Shown | None = None
        self._ends_ms: int | None = None

    @property
    def ends_ms(self) -> int | None:
        """When ``advance`` will have something to do, or None."""
        return self._ends_ms

    def take(self, shown: Shown, at_ms: int, now_ms: int) -> None:
        """A message that was sent at ``at_ms``; raises ``ValueError`` when it lacks a value."""
        feedback = self._wordbook.phrase(shown)
        fresh = now_ms - at_ms <= _FRESH_MS
        if shown.message is Message.READY:
            self._take_ready(shown, fresh=fresh, now_ms=now_ms)
        elif shown.message in _ARMED or feedback.stay_s is None:
            self._rest = shown
            self._play(shown, feedback, None, aloud=fresh)
        elif (ends := at_ms + round(feedback.stay_s * 1000)) > now_ms:
            self._play(shown, feedback, ends, aloud=fresh)

    def alone(self) -> None:
        """No station is there: nobody would take a card. A result has its time first, and that the vehicle is closing stays true."""
        if self.cue is not None and self.cue.shown.message is Message.CLOSING:
            return
        self._rest = self._alone
        if self._ends_ms is None:
            self._go_to_rest()

    def advance(self, now_ms: int) -> None:
        """Go back to rest if the result has had its time."""
        if self._ends_ms is not None and now_ms >= self._ends_ms:
            self._go_to_rest()

    def _take_ready(self, shown: Shown, *, fresh: bool, now_ms: int) -> None:
        self._rest = shown
        if self._ends_ms is not None and now_ms < self._ends_ms:
            return
        if self.cue is None or self.cue.shown != shown:
            self._ready(shown, aloud=fresh)

    def _go_to_rest(self) -> None:
        if self._rest is None:
            self._rest = Shown(Message.READY)
        if self._rest.message is Message.READY:
            self._ready(self._rest, aloud=self._rest != self._heard_ready)
        else:
            welcome = self.cue is None and self._rest.message is Message.WELCOME
            self._play(self._rest, self._wordbook.phrase(self._rest), None, aloud=welcome)

    def _ready(self, shown: Shown, *, aloud: bool) -> None:
        self._heard_ready = shown
        self._play(shown, self._wordbook.phrase(shown), None, aloud=aloud)

    def _play(self, shown: Shown, feedback: Feedback, ends_ms: int | None, *, aloud: bool) -> None:
        self._number += 1
        self._ends_ms = ends_ms
        self.cue = Cue(self._number, shown, feedback, aloud)
