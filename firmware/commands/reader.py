"""``kazashi reader qualify``: a real card and reader against the twin, question by question."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from drivers.errors import CardError, ReaderLost
from drivers.qualify import Bench, Finding, Role, WrongCard, profile, questions, walk, writes
from firmware.compose import workbench
from firmware.failure import Failure

_EXAMPLES = """\
examples:
  kazashi reader qualify --reader pn532:/dev/ttyS1@921600
      asks a blank card; it stays a test card for ever, because its register has been lowered
  kazashi reader qualify --reader pn532:/dev/ttyS1@921600 --card-role issued --keys desk.toml --profile real.toml
      asks a card that `kazashi card issue` has issued, and writes what differs as the traits of a twin
  kazashi reader qualify --reader emulated:tray --yes
      the same on the twin, which lifts and pulls its card by itself

Every row is one question; `same` or `DIFFERS` compares the card that lies there with the twin.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be said after ``kazashi reader``."""
    parser.description = __doc__
    parser.epilog = _EXAMPLES
    add = parser.add_argument
    add("what", choices=["qualify"], help="walk a card and a reader through the open questions")
    add("--reader", metavar="ADDRESS", required=True, help="pn532:PATH[@BAUD[/212|/424]] or emulated:FOLDER")
    add("--card-role", choices=[role.value for role in Role], default=Role.BLANK.value, help="which card lies there (default: blank)")
    add("--keys", metavar="FILE", type=Path, help="the key file of an issued card")
    add("--profile", metavar="FILE", type=Path, help="write the card's traits there, for a twin's card file")
    add("--yes", action="store_true", help="do not ask before the card is used up")


def run(options: argparse.Namespace) -> int:
    """Ask, print, and write the profile; 0 when the walk came to its end, whatever the answers."""
    role = Role(options.card_role)
    if (role is Role.ISSUED) != (options.keys is not None):
        raise Failure("an issued card needs --keys FILE, and a blank card has the factory's: give --keys with --card-role issued only")
    with workbench(options.reader, options.keys, lambda text: print(f"    → {text}", flush=True)) as (reader, bench):
        print(f"{len(questions(role))} questions to the {role.value} card on {reader.name}; at most {writes(role)} counted writes.")
        print("Its register is lowered: it is a test card from now on, never a rider's.\n")
        if not (options.yes or _agreed()):
            raise Failure("nothing was asked and nothing was written")
        findings = _walked(bench, role)
    _sum_up(findings)
    if options.profile is not None:
        _write(options.profile, profile(findings))
    return 0


def _agreed() -> bool:
    try:
        return input("Go on? [y/N] ").strip().lower() in {"y", "yes"}
    except EOFError:
        return False


def _walked(bench: Bench, role: Role) -> list[Finding]:
    findings: list[Finding] = []
    try:
        before = bench.wcnt()
        print(f"{'':8} {'question':<48} {'this card':<24} twin")
        for finding in walk(bench, role):
            print(_row(finding), flush=True)
            findings.append(finding)
        print(f"\n{bench.wcnt() - before} counted writes were spent.")
    except WrongCard as wrong:
        raise Failure(f"{wrong}; lay one {role.value} card on the reader and start again") from wrong
    except ReaderLost as lost:
        raise Failure(f"{lost}; look at its cable and address, `kazashi doctor` helps") from lost
    except CardError as gone:
        raise Failure(f"the card does not answer ({gone}); lay one {role.value} card on the reader and start again") from gone
    return findings


def _row(finding: Finding) -> str:
    question, answer = finding.question, finding.answer
    row = f"{'same' if finding.same else 'DIFFERS':<8} {question.question:<48} {answer.said:<24} {question.expected}"
    return f"{row}\n{'':8}   {question.how}: {answer.detail}" if answer.detail else row


def _sum_up(findings: Sequence[Finding]) -> None:
    open_rows = [finding for finding in findings if finding.answer.said == "not reached"]
    other = [finding for finding in findings if not finding.same and finding not in open_rows]
    print(f"{len(findings) - len(open_rows) - len(other)} as the twin, {len(other)} otherwise, {len(open_rows)} not reached.")
    for finding in other:
        print(f"  {finding.question.name}: {finding.answer.said}, the twin says {finding.question.expected} ({finding.question.how})")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise Failure(f"{path}: the profile cannot be written ({error.strerror})") from error
    print(f"The traits are in {path}.")
