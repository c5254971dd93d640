"""The open questions, asked of the twin end to end: PN532, field and card, in virtual time."""

import hashlib
import tomllib
from collections.abc import Iterator
from dataclasses import replace

import pytest

from drivers.cards.lite_s import FACTORY_KEY, session_of
from drivers.cards.tdes import encrypt_cbc
from drivers.emulated.air import Air
from drivers.emulated.card_file import parse, text
from drivers.emulated.clock import VirtualClock
from drivers.emulated.hand import AirHand
from drivers.emulated.line import ChipLine
from drivers.emulated.lite_s_card import Delay, Faults, LiteSCard, Memory, Traits, blank_memory
from drivers.emulated.pn532_chip import ChipFaults, Pn532Chip
from drivers.errors import CardLost
from drivers.qualify import QUESTIONS, Bench, Finding, Hand, Pace, Person, Role, WrongCard, profile, questions, walk, writes
from drivers.readers.pn532 import Pn532
from drivers.vault import Challenge
from drivers.vault_file import ChallengeFile

IDM = bytes.fromhex("012e4129358ba753")
ISSUED_MC = bytes.fromhex("ffff0000070100000000ff4301000000")


def memory(role: Role) -> Memory:
    made = blank_memory(IDM)
    return made if role is Role.BLANK else Memory({**made.blocks, 0x88: ISSUED_MC}, 10)


def challenge(_idm: bytes, rc: bytes) -> Challenge:
    return ChallengeFile(iter([session_of(encrypt_cbc, FACTORY_KEY, 0, rc)]))


class Workshop:
    """A reader, a card of a kind with some traits, and a hand."""

    def __init__(self, role: Role, traits: Traits | None = None, *, air_rate: int = 424) -> None:
        self.clock = VirtualClock()
        self.card = LiteSCard(memory(role), traits)
        self.air = Air()
        self.air.lay(self.card)
        self.chip = Pn532Chip(self.air)
        self.line = ChipLine(self.chip, self.clock)
        self.reader = Pn532("twin", self.line.reopen, self.clock.monotonic_ns, baud=921600, air_rate=air_rate)
        self.reader.revive()
        self.pace = Pace(921600, air_rate)
        self._drawn = 0

    def hand(self) -> AirHand:
        return AirHand(self.air, self.clock.monotonic_ns)

    def bench(self, hand: Hand | None = None) -> Bench:
        return Bench(
            self.reader,
            hand or self.hand(),
            challenge,
            self._random,
            self.clock.monotonic_ns,
            pace=self.pace,
            workshop=self.reader,
        )

    def _random(self, size: int) -> bytes:
        self._drawn += 1
        return hashlib.sha256(bytes((self._drawn,))).digest()[:size]


def by_name(findings: Iterator[Finding]) -> dict[str, Finding]:
    return {finding.question.name: finding for finding in findings}


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("air_rate", [212, 424])
def test_the_twin_answers_every_question_as_its_row_expects(role: Role, air_rate: int) -> None:
    findings = list(walk(Workshop(role, air_rate=air_rate).bench(), role))
    assert {finding.question.name: finding.answer.said for finding in findings} == {
        question.name: question.expected for question in questions(role)
    }


@pytest.mark.parametrize("role", list(Role))
def test_a_walk_spends_no_more_counted_writes_than_it_says_and_less_than_forty(role: Role) -> None:
    workshop = Workshop(role)
    before = workshop.card.memory.wcnt
    list(walk(workshop.bench(), role))
    assert workshop.card.memory.wcnt - before <= writes(role) < 40


@pytest.mark.parametrize("role", list(Role))
def test_a_walk_leaves_what_decides_about_access_as_it_was(role: Role) -> None:
    workshop = Workshop(role)
    before = workshop.card.memory.blocks
    list(walk(workshop.bench(), role))
    after = workshop.card.memory.blocks
    assert {number for number in before if before[number] != after[number]} <= {0x0D, 0x0E}


def test_every_question_has_a_name_of_its_own() -> None:
    names = [question.name for question in QUESTIONS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("role", list(Role))
def test_a_card_of_the_other_kind_is_refused_before_anything_is_written(role: Role) -> None:
    other = Role.ISSUED if role is Role.BLANK else Role.BLANK
    workshop = Workshop(other)
    before = workshop.card.memory
    with pytest.raises(WrongCard, match=other.value):
        list(walk(workshop.bench(), role))
    assert workshop.card.memory == before


def test_an_empty_reader_is_a_wrong_card() -> None:
    workshop = Workshop(Role.BLANK)
    workshop.air.lift(IDM)
    with pytest.raises(WrongCard, match="cannot be read"):
        list(walk(workshop.bench(), Role.BLANK))


def test_a_card_issued_for_something_else_is_a_wrong_card() -> None:
    workshop = Workshop(Role.ISSUED)
    workshop.card.rewrite(0x88, ISSUED_MC[:10] + bytes(2) + ISSUED_MC[12:])
    with pytest.raises(WrongCard, match="not as a fare-point card"):
        list(walk(workshop.bench(), Role.ISSUED))


@pytest.mark.parametrize(
    ("traits", "role", "different"),
    [
        (Traits(equal_reg=False), Role.BLANK, {"reg.equal", "reg.field-equal"}),
        (Traits(reg_refusal=(0xFF, 0xA9)), Role.BLANK, {"reg.raised-a", "reg.raised-b"}),
        (Traits(reg_refusal=(0xFF, 0xA9)), Role.ISSUED, {"purse.raised"}),
        (Traits(strict=False), Role.BLANK, {"mc12.mac", "mac.unneeded"}),
        (Traits(rc_ends_ext_auth=False), Role.ISSUED, {"auth.second-rc"}),
    ],
)
def test_a_card_that_does_otherwise_is_told_by_exactly_those_rows(traits: Traits, role: Role, different: set[str]) -> None:
    findings = by_name(walk(Workshop(role, traits).bench(), role))
    assert different <= {name for name, finding in findings.items() if not finding.same}
    assert {name for name, finding in findings.items() if not finding.same and finding.answer.said != "not reached"} <= different


@pytest.mark.parametrize("delay", list(Delay))
@pytest.mark.parametrize(
    "traits",
    [Traits(), Traits(strict=False), Traits(reg_refusal=(0xFF, 0xA9)), Traits(equal_reg=False), Traits(rc_ends_ext_auth=False)],
)
def test_the_profile_of_a_twin_is_the_twin_again(traits: Traits, delay: Delay) -> None:
    traits = replace(traits, delay=delay)
    learned = profile(list(walk(Workshop(Role.BLANK, traits).bench(), Role.BLANK)))
    plain = text(LiteSCard(memory(Role.BLANK)))
    head, rest = plain.split("[traits]")
    copied = parse(head + learned.split("\n", 1)[1] + rest[rest.index("[blocks]") :], "copy")
    learned_of = tomllib.loads(learned)["traits"]
    assert copied.traits == traits or (traits.equal_reg is False and "reg_refusal" not in learned_of)


def test_a_card_that_tears_a_debit_is_told_torn() -> None:
    workshop = Workshop(Role.ISSUED)
    hand = workshop.hand()

    class TearingHand:
        def lift(self) -> None:
            hand.lift()

        def lay(self) -> None:
            hand.lay()

        def pull_during(self, command: bytes, trial: int, probe: object) -> None:
            del trial, probe
            hand.lay()
            if command[1] == 0x08 and len(command) > 48:
                workshop.card.plan([Faults(lost=True)])
                workshop.card.rewrite(0x0E, b"\x77" * 16)

    finding = by_name(walk(workshop.bench(TearingHand()), Role.ISSUED))["pulled.debit"]
    assert finding.answer.said == "torn"


def test_a_sick_reader_costs_rows_and_not_the_walk() -> None:
    workshop = Workshop(Role.BLANK)
    walking = walk(workshop.bench(), Role.BLANK)
    first = next(walking)
    workshop.chip.faults = ChipFaults(silent=True)
    second = next(walking)
    workshop.chip.faults = ChipFaults()
    assert (first.same, second.answer.said) == (True, "not reached")
    assert next(walking).same


class Town:
    """A person who does what is said, after a moment."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self._hand = workshop.hand()
        self.heard: list[str] = []

    def hear(self, text: str) -> None:
        self.heard.append(text)
        match text.split(maxsplit=1)[0]:
            case "Take":
                self._hand.lift()
            case "Lay":
                self._hand.lay()
            case _:
                self._hand.pull_during(bytes(600), 0, lambda: True)


@pytest.mark.parametrize("role", list(Role))
def test_a_person_who_does_what_is_said_comes_to_the_same_answers(role: Role) -> None:
    workshop = Workshop(role)
    town = Town(workshop)
    person = Person(workshop.reader, town.hear, workshop.clock)
    assert all(finding.same for finding in walk(workshop.bench(person), role))
    assert "Take the card away from the reader." in town.heard


def test_a_person_who_does_nothing_is_waited_for_one_minute() -> None:
    workshop = Workshop(Role.BLANK)
    person = Person(workshop.reader, lambda _: None, workshop.clock)
    with pytest.raises(CardLost, match="not taken away"):
        person.lift()
    assert 60 <= workshop.clock.monotonic_ns() / 1e9 < 62
