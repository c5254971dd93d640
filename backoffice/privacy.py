"""``kazashi backoffice retain`` and ``access``: the city lets go of what it need not keep, and shows a person what it keeps (their root).

**Retain** says first what would go, with ``--dry-run``, and why some of what is old enough stays. It settles before it lets go: what
another vehicle proves about an old debit is booked while the debit is there. Run it once a year after the first of April for the books, or
every night from a timer: a night with nothing to do reads and goes away.

**Access** answers a person who comes with a card. The card's number is asked for and read from the keyboard or a reader that acts as one;
it is never an argument, because arguments stand in the shell's history and in everybody's list of processes. It becomes the rider's
pseudonym in the vault, as on the clerks' page, and is forgotten. Where the city has clerks' pages, the clerk says who they are by the same
passphrase. That an access took place, by whom and when, is written down before anything is looked up; about whom is not.

After the exchange of a rider key a card has another pseudonym. Old rides are found with the old key's file, which is kept for that as long
as any ride stands under it; ``retain`` names the day on which it can be destroyed.
"""

import argparse
import getpass
import json
import os
import stat
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, cast

from backoffice import access_queries, queries
from backoffice.access import Answer, Pseudonym, document, text
from backoffice.billing import CannotBill, basis, form_argument, language_argument, languages
from backoffice.console import words
from backoffice.console.door import PassphrasesUnusable, read_clerks
from backoffice.console.views import NotAnIdm, idm
from backoffice.console.words import Language, Say
from backoffice.retention import Calendar, Database, Done, Part, Plan, Retention
from backoffice.settings import Settings
from drivers.errors import DriverError
from drivers.vault_file import VaultFile

WORDS = Path(__file__).with_name("privacy.toml")
PAGES = Path(__file__).parent / "console" / "words.toml"
RIDER_DIGITS = 16
BY_CARD, BY_PSEUDONYM = "access by card", "access by pseudonym"


class CannotAnswer(CannotBill):
    """The command cannot do what was asked; the message is one sentence and names no card and no rider."""


class Books(queries.Store, Database, Protocol):
    """The city's database."""


class Ask(Protocol):
    """Who asks the person at the keyboard for a line; ``hidden``: what is typed is not shown."""

    def __call__(self, prompt: str, *, hidden: bool) -> str: ...


# --- retain -------------------------------------------------------------------------------------------------------------------------------


def retain_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be said after ``kazashi backoffice retain``."""
    parser.add_argument("--dry-run", action="store_true", help="only say what would go, and delete nothing")
    language_argument(parser)
    form_argument(parser)


def run_retain(options: argparse.Namespace, store: Books, settings: Settings, now_ms: int) -> int:
    """Let go of what is past its time, or say what that is; raises ``CannotBill``."""
    calendar = Calendar(now_ms, settings.zone, basis(settings, options.form).day_of)
    said = [_words(WORDS, language) for language in languages(options, settings)]
    if not options.dry_run:
        queries.settle_all(store)
    retention = Retention(store, settings.retention, calendar, time.sleep)
    plan = retention.plan()
    done = None if options.dry_run else retention.carry_out(plan, _progress)
    print("\n\n".join("\n".join(_retained(plan, done, settings, now_ms, say)) for say in said))
    return 0


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        print(f"\x1b[K  {line}", end="\r", file=sys.stderr, flush=True)


def _retained(plan: Plan, done: Done | None, settings: Settings, now_ms: int, say: Say) -> list[str]:
    parts = [part for part in (plan.parts if done is None else done.parts) if part.rows]
    lines = [
        say("retain.title", day=_day(now_ms, settings)),
        say("retain.begins", day=str(plan.cut.date), years=settings.retention.books_years),
    ]
    lines += [_row(part, settings, say, "retain.row_dry" if done is None else "retain.row_done") for part in parts]
    lines += [] if parts else [say("retain.none")]
    lines += [say("retain.held_riders", count=len(plan.riders))] if plan.riders else []
    lines += [say("retain.held_ledgers", count=len(plan.ledgers))] if plan.ledgers else []
    lines += [say("retain.unread", count=plan.unread)] if plan.unread else []
    lines += [say("retain.keys", version=str(version), count=count) for version, count in plan.keys]
    ended, sentence = (plan.ended, "retain.ended_dry") if done is None else (done.ended, "retain.ended")
    lines += [say(sentence, version=str(version)) for version in ended]
    if done is None:
        return [*lines, say("retain.dry")]
    lines += [say("retain.traces")] if done.traces else []
    return [*lines, say("retain.copies")] if parts else lines


def _row(part: Part, settings: Settings, say: Say, sentence: str) -> str:
    what = say(f"retain.sort.{part.sort.value.replace(' ', '-')}")
    return "  " + say(sentence, what=what, count=part.rows, before=_day(part.before_ms, settings))


def _day(at_ms: int, settings: Settings) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(settings.zone):%Y-%m-%d}"


def _words(file: Path, language: str) -> Say:
    return words.read(file.read_text(encoding="utf-8")).in_language(Language(language))


# --- access -------------------------------------------------------------------------------------------------------------------------------


def access_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be said after ``kazashi backoffice access``."""
    whom = parser.add_mutually_exclusive_group(required=True)
    whom.add_argument("--card", action="store_true", help="ask for the card: lay it on a reader that acts as a keyboard, or type its IDm")
    whom.add_argument("--rider", metavar="HEX", action="append", help="the pseudonym, 16 hexadecimal digits; again for another")
    parser.add_argument(
        "--vault",
        type=Path,
        action="append",
        metavar="FILE",
        help="a file with the rider key, as in [console]; again for the key before an exchange",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="a new file for the text that the person gets")
    parser.add_argument("--json", type=Path, metavar="FILE", help="a new file for the same as JSON")
    language_argument(parser)


def at_keyboard(prompt: str, *, hidden: bool) -> str:
    """A line from the person at the keyboard, or from whatever stands in for one."""
    if not sys.stdin.isatty():
        return sys.stdin.readline()
    if hidden:
        return getpass.getpass(prompt)
    print(prompt, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline()


def run_access(options: argparse.Namespace, store: Books, settings: Settings, now_ms: int, ask: Ask = at_keyboard) -> int:
    """Write down all that the city keeps about one rider; raises ``CannotAnswer``."""
    files = [file for file in (cast("Path", options.out), cast("Path | None", options.json)) if file is not None]
    for file in files:
        _refuse_existing(file)
    if len({file.absolute() for file in files}) < len(files):
        raise CannotAnswer(f"{files[0]}: is named for both the text and the JSON; name a file for each")
    clerk = _clerk(settings, ask)
    named = cast("list[str]", options.rider or [])
    pseudonyms = _from_card(options, settings, ask) if options.card else [_pseudonym(each) for each in named]
    access_queries.note(store, clerk, BY_CARD if options.card else BY_PSEUDONYM, now_ms)
    with store.reading() as connection:
        kept = access_queries.kept_about(connection, sorted({each.rider for each in pseudonyms}))
    answer = Answer(tuple(pseudonyms), kept, clerk, now_ms, settings.zone, settings.retention)
    said = [_words(WORDS, language) for language in languages(options, settings)]
    _write(files[0], f"\n{'=' * 72}\n\n".join(text(answer, say) for say in said))
    if len(files) > 1:
        _write(files[1], json.dumps(document(answer), ensure_ascii=False, indent=2) + "\n")
    for say in said:
        if kept.nothing:
            print(say("access.nothing"))
        for file in files:
            print(say("access.log.written", file=str(file), count=len(kept.touches)))
    return 0


def _clerk(settings: Settings, ask: Ask) -> str:
    """Who asks: by passphrase where the city has clerks, else by the account on this machine."""
    if settings.console is None:
        return getpass.getuser()
    file = settings.console.passphrases
    try:
        if stat.S_IMODE(file.stat().st_mode) & 0o077:
            raise CannotAnswer(f"{file}: others may read this file; run `chmod 600 {file}`")
        clerks = read_clerks(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CannotAnswer(f"{file}: cannot be read ({error.strerror}); it says who may look at a rider's records") from error
    except (PassphrasesUnusable, UnicodeDecodeError) as error:
        raise CannotAnswer(f"{file}: cannot serve ({error})") from error
    found = clerks.who(ask("合言葉 / passphrase: ", hidden=True))
    if found is None:
        raise CannotAnswer("nobody has this passphrase; nothing was looked up")
    return found


def _from_card(options: argparse.Namespace, settings: Settings, ask: Ask) -> list[Pseudonym]:
    files = cast("list[Path] | None", options.vault) or []
    if settings.console is not None:
        files = [settings.console.vault, *(file for file in files if file != settings.console.vault)]
    if not files:
        raise CannotAnswer("no rider key is named; give --vault FILE, or write [console] into the settings")
    try:
        vaults = [VaultFile.open(file) for file in files]
    except DriverError as error:
        raise CannotAnswer(str(error)) from error
    try:
        medium = idm(ask("カードのIDm / the card's IDm: ", hidden=False))
    except NotAnIdm as problem:
        say = _words(PAGES, Language.EN)
        raise CannotAnswer(say(problem.name, **({"count": problem.found} if problem.found else {}))) from problem
    return [Pseudonym(vault.rider(medium), vault.rider_key_version) for vault in vaults]


def _pseudonym(typed: str) -> Pseudonym:
    try:
        rider = bytes.fromhex(typed)
    except ValueError:
        rider = b""
    if len(typed) != RIDER_DIGITS or len(rider) * 2 != RIDER_DIGITS:
        raise CannotAnswer(f"--rider: a pseudonym is {RIDER_DIGITS} hexadecimal digits (0-9, a-f), and this is something else")
    return Pseudonym(rider)


def _refuse_existing(file: Path) -> None:
    if file.exists():
        raise CannotAnswer(f"{file}: there is a file already; name a new one, so that nobody gets another person's records")
    if not file.parent.is_dir():
        raise CannotAnswer(f"{file}: its folder is not there; name a file in a folder that is")


def _write(file: Path, content: str) -> None:
    """A new file that only this account may read."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(content)
    except OSError as error:
        raise CannotAnswer(f"{file}: cannot be written ({error.strerror}); name another file") from error
