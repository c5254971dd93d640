"""Who may see the clerks' pages: a file of passphrases, one a clerk, and what a session and a form are worth.

Why a passphrase always, and no "anybody on this machine": the pages stand behind the same port as the vehicles' door, and a town that
puts a TLS proxy before it makes every stranger of the internet a client from 127.0.0.1, without one line in our configuration having
changed. Why one for each clerk: who looked up whose rides must have a name (the journal gets the clerk's, never the rider's), and a clerk
who leaves is one line less. A passphrase rather than accounts: two clerks need no mail, no reset, no second table of persons.

The file (mode 0600) has a line for each clerk, "name passphrase"; a line that begins with # is a comment. A passphrase has 16 characters or
more and may hold spaces. It is compared in constant time; wrong ones are counted for all visitors together, because an address proves
nothing behind a proxy: ``GUESSES`` at once, then one more each ``GUESS_EVERY_S``. Sessions that stand are not touched by that.

A session is a signed name in the browser's cookie, not a row here, because several processes may share the door and all must know it. It
ends ``SESSION_S`` after its last use, when the clerk's passphrase is changed, or when the browser forgets it, which is what signing out is.

Pure: times, random words and the secret come from the caller.
"""

import hashlib
import hmac
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

SHORTEST = 16
SESSION_S = 12 * 3600
RENEWED_S = 300
"""So long a cookie is not written anew."""
GUESSES = 10
GUESS_EVERY_S = 30


class PassphrasesUnusable(ValueError):
    """The file of passphrases cannot serve; the text says which line and why, and holds no passphrase."""


@dataclass(frozen=True, slots=True, repr=False)
class Clerks:
    """Names, and the SHA-256 of each one's passphrase."""

    digests: Mapping[str, bytes]

    def who(self, passphrase: str) -> str | None:
        """Whose passphrase this is. Takes as long for a wrong one as for a right one."""
        found = None
        given = _digest(passphrase)
        for name, digest in self.digests.items():
            if hmac.compare_digest(given, digest):
                found = name
        return found


def read_clerks(text: str) -> Clerks:
    """The clerks in the text of a passphrase file. Raises ``PassphrasesUnusable``."""
    found = dict(_lines(text))
    if not found:
        raise PassphrasesUnusable("there is no clerk in it; write a line 'name passphrase' for each")
    if len(set(found.values())) < len(found):
        raise PassphrasesUnusable("two clerks have the same passphrase; give each their own")
    return Clerks(found)


def _lines(text: str) -> Iterator[tuple[str, bytes]]:
    seen = set[str]()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, _, passphrase = line.strip().partition(" ")
        if len(passphrase.strip()) < SHORTEST:
            raise PassphrasesUnusable(f"line {number}: needs 'name passphrase', the passphrase with {SHORTEST} characters or more")
        if name in seen:
            raise PassphrasesUnusable(f"line {number}: there is a line for this clerk already")
        seen.add(name)
        yield name, _digest(passphrase)


def _digest(passphrase: str) -> bytes:
    # Full-width letters come from a Japanese input method that was left on; they mean the same key on the keyboard.
    return hashlib.sha256(unicodedata.normalize("NFKC", passphrase.strip()).encode()).digest()


@dataclass(frozen=True, slots=True)
class Visit:
    """Who stands before the door: ``clerk`` is None for a stranger. ``name``: the visit's own, random. ``until_s``: end of the session."""

    name: str
    clerk: str | None = None
    until_s: int = 0


@dataclass(slots=True)
class Door:
    """``secret``: 32 bytes that only this city's processes know; it signs cookies and binds a form to the visit it was shown to."""

    clerks: Clerks
    secret: bytes
    _guesses: float = GUESSES
    _guessed_s: float = 0.0

    def wait_s(self, now_s: float) -> int:
        """How long until a passphrase may be tried; 0: now."""
        self._guesses = min(float(GUESSES), self._guesses + max(0.0, now_s - self._guessed_s) / GUESS_EVERY_S)
        self._guessed_s = now_s
        return 0 if self._guesses >= 1 else max(1, round((1 - self._guesses) * GUESS_EVERY_S))

    def enter(self, passphrase: str, name: str, now_s: float) -> Visit | None:
        """Let the owner of this passphrase in on a visit called ``name``; None and one guess less when nobody has it."""
        if self.wait_s(now_s):
            return None
        clerk = self.clerks.who(passphrase)
        if clerk is None:
            self._guesses -= 1
            return None
        return Visit(name, clerk, int(now_s) + SESSION_S)

    def cookie(self, visit: Visit) -> str:
        """The visit as a browser keeps it."""
        if visit.clerk is None:
            return visit.name
        said = f"{visit.name}.{visit.until_s}.{visit.clerk.encode().hex()}"
        return f"{said}.{self._seal('session', said, self.clerks.digests[visit.clerk])}"

    def visit(self, cookie: str, now_s: float) -> Visit:
        """The visit in a cookie: a stranger's unless we wrote it, its time is not over, and the clerk's passphrase is still the same."""
        name, _, rest = cookie.partition(".")
        said, _, mark = cookie.rpartition(".")
        until, _, who = rest.rpartition(".")[0].partition(".")
        if not (until.isascii() and until.isdecimal() and len(until) < 16 and now_s < int(until) <= now_s + SESSION_S + RENEWED_S):
            return Visit(name)
        for clerk, digest in self.clerks.digests.items():
            if who == clerk.encode().hex() and hmac.compare_digest(mark.encode(), self._seal("session", said, digest).encode()):
                return Visit(name, clerk, int(until))
        return Visit(name)

    def renewed(self, visit: Visit, now_s: float) -> Visit | None:
        """The visit with a later end; None while its cookie is young or it is a stranger's."""
        until_s = int(now_s) + SESSION_S
        if visit.clerk is None or until_s - visit.until_s < RENEWED_S:
            return None
        return Visit(visit.name, visit.clerk, until_s)

    def token(self, visit: Visit) -> str:
        """What a form shown to this visit must bring back."""
        return self._seal("form", visit.name, b"")

    def fits(self, visit: Visit, token: str) -> bool:
        """Whether a form was shown to this visit."""
        return bool(visit.name) and hmac.compare_digest(self.token(visit).encode(), token.encode())

    def _seal(self, purpose: str, said: str, digest: bytes) -> str:
        return hmac.new(self.secret, b"\0".join((purpose.encode(), said.encode(), digest)), hashlib.sha256).hexdigest()
