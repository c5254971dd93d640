"""The purse on a twin card: what a tap costs, what it proves, and what it never does."""

import contextlib
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.cards import lite_s, purse
from drivers.cards.purse import Counters, Grant, NoGoodGrant, Outcome, PurseReading, RegLog
from drivers.cards.tdes import encrypt_cbc
from drivers.emulated.held_card import HeldCard
from drivers.emulated.lite_s_card import Faults, LiteSCard, Memory, Tear, Torn, Traits, blank_memory
from drivers.errors import CardError, CardLost, CardRefused, MalformedReply, NotAuthentic
from drivers.felica import Written
from drivers.vault_file import ChallengeFile, DeskVaultFile, VaultFile, demo_keys

MakeCard = Callable[[], HeldCard]
TAP = tomllib.loads((Path(__file__).parents[2] / "vectors" / "lite_s.toml").read_text())["tap"]
LOG = RegLog(terminal=256, time=1_790_100_436, kind=1)
REG = 0x0E


def challenge(size: int) -> bytes:
    return bytes(range(size))


def never(_rider: bytes, _digest: bytes) -> bool:
    return False


def always(_rider: bytes, _digest: bytes) -> bool:
    return True


def read(card: HeldCard, vault: VaultFile, known: Callable[[bytes, bytes], bool] = always) -> PurseReading:
    return purse.read(card, vault, vault.grants, known, challenge)


class OneKeyVault:
    """The key of the worked tap, as a vault."""

    rider_key_version = 1

    def __init__(self, key: bytes) -> None:
        self._key_des = lite_s.swap_halves(key)

    def challenge(self, idm: bytes, rc: bytes) -> ChallengeFile:
        assert len(idm) == 8
        return ChallengeFile(iter([lite_s.session_of(encrypt_cbc, self._key_des, 0, rc)]))

    def rider(self, medium: bytes) -> bytes:
        return medium

    def sign(self, message: bytes) -> bytes:
        return message


def tap_card() -> HeldCard:
    memory = blank_memory(bytes.fromhex(TAP["idm"]), bytes.fromhex(TAP["pmm"]))
    blocks = dict(memory.blocks)
    blocks[0x88], blocks[REG], blocks[0] = (bytes.fromhex(TAP[name]) for name in ("mc", "reg", "s_pad0"))
    return HeldCard(LiteSCard(Memory(blocks, TAP["wcnt"])))


def test_the_worked_tap_is_byte_for_byte_ours() -> None:
    card, vault = tap_card(), OneKeyVault(bytes.fromhex(TAP["key"]))
    session, first = purse.prove(card, vault, lambda _size: bytes.fromhex(TAP["rc"]), (REG, 0, 0x90))
    counters = Counters.parse(first.data[:16], first.data[32:])
    reading = PurseReading(b"", counters, Grant(0x1A, 2007, 2000, 1), grant_known=True, session=session)
    purse.debit(card, reading, 100, RegLog.parse(bytes.fromhex("0001006AB2C3D401")))
    now = purse.verify(card, reading)
    assert [frame.hex().upper() for frame in card.heard] == [step["command"] for step in TAP["step"][1:5]]
    assert now == purse.debited(reading, 100, RegLog(256, 0x6AB2C3D4, 1))
    with pytest.raises(CardRefused):
        purse.debit(card, reading, 100, RegLog(256, 0x6AB2C3D4, 1))
    assert card.heard[-1].hex().upper() == TAP["step"][5]["command"]


# --- what a reading costs ---


def test_a_known_grant_costs_two_exchanges_and_the_whole_tap_four_beside_the_poll(granted_card: HeldCard, vault: VaultFile) -> None:
    reading = read(granted_card, vault)
    assert len(granted_card.heard) == 2
    assert (reading.balance, reading.grant_known, reading.damaged) == (2000, True, False)
    purse.debit(granted_card, reading, 100, LOG)
    purse.verify(granted_card, reading)
    assert len(granted_card.heard) == 4


def test_the_first_sight_of_a_grant_costs_one_more_and_asks_by_rider_and_digest(granted_card: HeldCard, vault: VaultFile) -> None:
    asked: list[tuple[bytes, bytes]] = []

    def known(rider: bytes, digest: bytes) -> bool:
        asked.append((rider, digest))
        return False

    reading = read(granted_card, vault, known)
    assert len(granted_card.heard) == 3
    assert not reading.grant_known
    assert reading.grant is not None
    assert asked == [(vault.rider(granted_card.idm), reading.grant.digest)]


def test_a_torn_copy_a_costs_three_more_and_copy_b_counts(granted_card: HeldCard, vault: VaultFile) -> None:
    granted_card.card.rewrite(3, bytes(16))
    reading = read(granted_card, vault, never)
    assert len(granted_card.heard) == 5, "with poll, debit and verify: eight"
    assert (reading.balance, reading.grant_known) == (2000, False)


def test_a_copy_b_that_is_remembered_is_not_verified_again(granted_card: HeldCard, vault: VaultFile) -> None:
    granted_card.card.rewrite(0, bytes(range(16)))
    assert read(granted_card, vault, never).balance == 2000
    assert len(granted_card.heard) == 4, "copy A is no grant at all, so its signature is not read"
    assert read(granted_card, vault, always).grant_known
    assert len(granted_card.heard) == 7


def test_a_card_that_was_never_granted_anything_has_no_points_and_is_not_refused(issued_card: HeldCard, vault: VaultFile) -> None:
    issued_card.heard.clear()
    reading = read(issued_card, vault)
    assert (reading.grant, reading.balance, reading.damaged) == (None, 0, False)
    assert len(issued_card.heard) == 3


def test_two_bad_copies_are_told_from_a_card_without_our_key(granted_card: HeldCard, vault: VaultFile) -> None:
    for block in (1, 6):
        granted_card.card.rewrite(block, bytes(16))
    with pytest.raises(NoGoodGrant):
        read(granted_card, vault, never)
    with pytest.raises(NotAuthentic) as no_key:
        read(granted_card, VaultFile(demo_keys(99)))
    assert not isinstance(no_key.value, NoGoodGrant)


def test_a_grant_moved_from_another_card_does_not_count(
    granted_card: HeldCard, issued_card: HeldCard, desk: DeskVaultFile, vault: VaultFile
) -> None:
    """The signature covers the card's number and key version."""
    rich = granted_card.card.memory.blocks
    other = dict(issued_card.card.memory.blocks)
    other.update({block: rich[block] for block in range(10)})
    idm = bytes.fromhex("012E000000000002")
    other[0x83], other[0x87] = idm + other[0x83][8:], desk.card_key(idm, 1)
    with pytest.raises(NoGoodGrant):
        read(HeldCard(LiteSCard(Memory(other, 20))), vault, never)


# --- debit and verify ---


def test_a_debit_is_one_frame_and_is_never_sent_twice_whatever_happens(granted_cards: MakeCard, vault: VaultFile) -> None:
    faults = [
        Faults(lost=True),
        Faults(answer_lost=True),
        Faults(lifted=True),
        Faults(script=b""),
        Faults(script=b"\x0c\x09" + bytes(10)),
        Faults(idm=bytes(8)),
        *(Faults(tear=Tear(block, counted)) for block in Torn for counted in (False, True)),
        *(Faults(removed_at=at) for at in range(1, 95)),
    ]
    for fault in faults:
        card = granted_cards()
        reading = read(card, vault)
        card.card.plan([fault])
        with contextlib.suppress(CardError):
            purse.debit(card, reading, 100, LOG)
        assert len(card.heard) == 3, fault


def test_a_worn_cards_warning_is_a_debit_that_was_done(granted_card: HeldCard, vault: VaultFile) -> None:
    granted_card.card.plan([Faults(), Faults(), Faults(warn=True)])
    reading = read(granted_card, vault)
    assert purse.debit(granted_card, reading, 100, LOG) is Written.DONE_WORN
    assert purse.verify(granted_card, reading) == purse.debited(reading, 100, LOG)


@pytest.mark.parametrize("points", [0, -1, 2001])
def test_a_debit_takes_at_least_one_point_and_never_more_than_there_is(points: int, granted_card: HeldCard, vault: VaultFile) -> None:
    reading = read(granted_card, vault)
    with pytest.raises(ValueError, match="at least one point"):
        purse.debit(granted_card, reading, points, LOG)
    assert len(granted_card.heard) == 2, "nothing was sent"


def test_a_verify_that_somebody_changed_on_the_air_is_not_believed(granted_card: HeldCard, vault: VaultFile) -> None:
    reading = read(granted_card, vault)
    true_answer = granted_card.card.answer(bytes.fromhex("1406") + granted_card.idm + bytes.fromhex("010B0003800E80908091"))
    assert true_answer is not None
    granted_card.card.plan([Faults(script=true_answer[:20] + bytes((true_answer[20] ^ 1,)) + true_answer[21:])])
    with pytest.raises(NotAuthentic):
        purse.verify(granted_card, reading)


@settings(max_examples=30, deadline=None)
@given(amounts=st.lists(st.integers(1, 700), max_size=8))
def test_card_and_terminal_agree_after_any_debits(amounts: list[int]) -> None:
    card = rich_card()
    vault, left = VaultFile(demo_keys(1)), 2000
    for amount in amounts:
        reading = read(card, vault)
        assert (reading.balance, reading.damaged) == (left, False)
        if amount > left:
            continue
        log = RegLog(7, amount, 1)
        purse.debit(card, reading, amount, log)
        left -= amount
        assert purse.verify(card, reading) == purse.debited(reading, amount, log)
        reg = card.card.memory.blocks[REG]
        assert int.from_bytes(reg[:4], "little") == purse.FULL - (2000 - left)


def rich_card() -> HeldCard:
    """An issued card with 2,000 points, put together from its blocks."""
    desk = DeskVaultFile(demo_keys(1))
    idm = bytes.fromhex("012E000000000001")
    block = Grant(1, 2026, 2000, 1).block()
    copy = block + desk.sign_grant(1, purse.grant_message(idm, 1, block))
    blocks = dict(blank_memory(idm).blocks)
    blocks.update({at: (copy * 2)[at * 16 : at * 16 + 16] for at in range(10)})
    blocks[0x88], blocks[0x87] = bytes.fromhex("FFFF0000070100000000FF4301000000"), desk.card_key(idm, 1)
    return HeldCard(LiteSCard(Memory(blocks, 10), Traits()))


# --- a debit whose outcome is unknown, and the next touch ---


@pytest.mark.parametrize("same_points_elsewhere", [False, True])
@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (Faults(lost=True), Outcome.NOT_DONE),
        (Faults(removed_at=30), Outcome.NOT_DONE),
        (Faults(answer_lost=True), Outcome.DONE),
        (Faults(removed_at=65), Outcome.DONE),
        (Faults(tear=Tear(Torn.OLD)), Outcome.NOT_DONE),
        (Faults(tear=Tear(Torn.OLD, counted=True)), Outcome.NOT_DONE),
        (Faults(tear=Tear(Torn.NEW)), Outcome.DONE),
        (Faults(tear=Tear(Torn.NEW, counted=True)), Outcome.DONE),
        (Faults(tear=Tear(Torn.GARBAGE)), Outcome.NONSENSE),
        (Faults(tear=Tear(Torn.GARBAGE, counted=True)), Outcome.NONSENSE),
    ],
)
def test_the_next_touch_says_what_the_lost_debit_did_here_or_after_another_bus(
    fault: Faults, outcome: Outcome, same_points_elsewhere: bool, granted_card: HeldCard, vault: VaultFile
) -> None:
    reading = read(granted_card, vault)
    after = purse.debited(reading, 100, LOG)
    granted_card.card.plan([fault])
    with pytest.raises(CardLost):
        purse.debit(granted_card, reading, 100, LOG)
    granted_card.lay_again()
    again = read(granted_card, vault)
    assert purse.compare(reading.counters, after, again.counters) is outcome
    if outcome is Outcome.NONSENSE:
        return
    points = 100 if same_points_elsewhere else 250
    purse.debit(granted_card, again, points, RegLog(999, LOG.time + 60, 1))
    later = purse.verify(granted_card, again)
    expected = Outcome.OTHERS_UNSURE if outcome is Outcome.DONE else Outcome.OTHERS_NOT_OURS
    assert purse.compare(reading.counters, after, later) is expected


# --- the counters themselves ---


@pytest.mark.parametrize(
    ("spent", "debits", "wcnt"),
    [
        pytest.param(2001, 5, 20, id="more spent than granted"),
        pytest.param(4, 5, 20, id="a debit that took nothing"),
        pytest.param(100, 21, 20, id="more debits than writes"),
        pytest.param(purse.FULL, purse.FULL, 20, id="all zero"),
    ],
)
def test_counters_that_contradict_each_other_are_named_damaged(spent: int, debits: int, wcnt: int, vault: VaultFile) -> None:
    card = rich_card()
    card.card.rewrite(REG, Counters(purse.FULL - spent, purse.FULL - debits, bytes(8), 0).reg_block())
    card.card.set_wcnt(wcnt)
    reading = read(card, vault)
    assert reading.damaged
    assert reading.balance >= 0


def test_a_card_that_has_counted_its_last_write_is_for_the_desk(vault: VaultFile) -> None:
    card = rich_card()
    card.card.set_wcnt(0xFFFDFF)
    assert not read(card, vault).damaged
    for wcnt in (0xFFFE00, 0xFFFFFF):
        card.card.set_wcnt(wcnt)
        assert read(card, vault).damaged


def test_one_spent_to_the_last_point_is_not_damaged(vault: VaultFile) -> None:
    card = rich_card()
    card.card.rewrite(REG, Counters(purse.FULL - 2000, purse.FULL - 9, bytes(8), 0).reg_block())
    card.card.set_wcnt(19)
    reading = read(card, vault)
    assert (reading.balance, reading.damaged) == (0, False)


@given(st.integers(0, purse.FULL), st.integers(0, purse.FULL), st.binary(min_size=8, max_size=8), st.integers(0, 0xFFFFFF))
def test_counters_survive_their_blocks(rega: int, regb: int, regc: bytes, wcnt: int) -> None:
    counters = Counters(rega, regb, regc, wcnt)
    assert Counters.parse(counters.reg_block(), wcnt.to_bytes(3, "little") + bytes(13)) == counters


@given(st.integers(0, 255), st.integers(2000, 2255), st.integers(0, purse.FULL), st.integers(0, 0xFFFF))
def test_a_grant_survives_its_block(key_id: int, year: int, total: int, number: int) -> None:
    grant = Grant(key_id, year, total, number)
    assert len(grant.block()) == 16
    assert Grant.parse(grant.block()) == grant


@given(st.integers(0, 0xFFFFFF), st.integers(0, purse.FULL), st.integers(0, 255))
def test_a_log_survives_its_bytes(terminal: int, time: int, kind: int) -> None:
    assert RegLog.parse(RegLog(terminal, time, kind).block()) == RegLog(terminal, time, kind)


def test_the_bytes_of_a_grant_and_of_what_is_signed_are_these_for_ever() -> None:
    """Cards in wallets and the issuer's signatures hang on them."""
    block = Grant(key_id=3, fiscal_year=2026, total=2000, number=1).block()
    assert block.hex() == "01031a000007d00001" + "00" * 7
    assert purse.grant_message(bytes(range(8)), 0x0102, block) == b"kazashi grant 1" + bytes(range(8)) + b"\x02\x01" + block
    assert purse.digest(block) == Grant(3, 2026, 2000, 1).digest
    assert len(purse.digest(block)) == 8


@pytest.mark.parametrize("at", [0, *range(9, 16)])
def test_a_block_of_another_version_or_with_reserved_bytes_in_use_is_no_grant(at: int) -> None:
    block = bytearray(Grant(3, 2026, 2000, 1).block())
    block[at] ^= 0x40
    assert Grant.parse(bytes(block)) is None


def test_a_reading_names_the_rider_as_the_vault_does(granted_card: HeldCard, vault: VaultFile) -> None:
    assert read(granted_card, vault).rider == vault.rider(granted_card.idm)


def test_a_card_can_be_emptied_to_the_last_point(granted_card: HeldCard, vault: VaultFile) -> None:
    purse.debit(granted_card, read(granted_card, vault), 2000, LOG)
    emptied = read(granted_card, vault)
    assert (emptied.balance, emptied.damaged) == (0, False)


# --- a hostile card ---


@st.composite
def scripts(draw: st.DrawFn) -> list[bytes]:
    """Answers a liar may give: noise, and well-formed answers with noise in them."""
    idm = bytes.fromhex("012E000000000001")

    def framed(code: int, body: bytes) -> bytes:
        payload = (bytes((code,)) + idm + body)[:254]
        return bytes((len(payload) + 1,)) + payload

    honest = st.builds(framed, st.sampled_from([7, 9]), st.sampled_from([b"\0\0", b"\0\0\4", b"\0\0\3", b"\1\xa8"]).flatmap(grown))
    return draw(st.lists(st.one_of(st.binary(max_size=260), honest), min_size=1, max_size=7))


def grown(head: bytes) -> st.SearchStrategy[bytes]:
    return st.sampled_from([0, 16, 48, 64]).flatmap(lambda size: st.binary(min_size=size, max_size=size)).map(lambda tail: head + tail)


@settings(max_examples=150, deadline=None)
@given(scripts())
def test_a_lying_card_raises_nothing_but_card_errors_and_is_never_believed(answers: list[bytes]) -> None:
    card, vault = rich_card(), VaultFile(demo_keys(1))
    card.card.plan([Faults(script=b"\x0c\x09" + card.idm + b"\0\0"), *(Faults(script=answer) for answer in answers)])
    with pytest.raises(CardError):
        read(card, vault, never)
    card = rich_card()
    reading = read(card, vault, always)
    card.card.plan([Faults(script=answer) for answer in answers])
    with pytest.raises((MalformedReply, NotAuthentic, CardRefused)):
        purse.verify(card, reading)


def test_no_error_of_a_tap_names_the_card(granted_card: HeldCard) -> None:
    errors: list[Any] = []
    for fault in (Faults(lost=True), Faults(script=b"\x02\x00"), Faults(idm=bytes(8))):
        granted_card.card.plan([fault])
        with pytest.raises(CardError) as error:
            read(granted_card, VaultFile(demo_keys(1)))
        errors.append(error.value)
    assert all(granted_card.idm.hex() not in str(error).lower() for error in errors)
