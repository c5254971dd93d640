"""``kazashi card``, as a person at the desk uses it, on card files and on an emulated reader."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drivers.channel import Channel
from drivers.emulated import card_file
from drivers.emulated.held_card import HeldCard
from drivers.emulated.lite_s_card import Faults, LiteSCard, blank
from drivers.errors import ReaderLost
from drivers.vault_file import demo_keys, write_keys
from firmware.cli import main
from firmware.desk import ReaderDesk
from firmware.failure import Failure

SCHEME = Path(__file__).parents[2] / "fares" / "schemes" / "silver_emica.toml"
Kazashi = Callable[..., tuple[int, str, str]]


@pytest.fixture
def kazashi(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Kazashi]:
    """Runs ``kazashi card …`` in a folder with a demo's ``desk.toml``; gives exit status, what it said and what it complained of."""
    write_keys(tmp_path / "desk.toml", demo_keys(1))

    def run(*words: str) -> tuple[int, str, str]:
        status = main(["card", *words])
        said = capsys.readouterr()
        return status, said.out, said.err

    with contextlib.chdir(tmp_path):
        yield run


ON = ("--card", "rider.toml", "--keys", "desk.toml")


@pytest.fixture
def issued(kazashi: Kazashi) -> Kazashi:
    assert kazashi("new", "rider.toml")[0] == 0
    assert kazashi("issue", *ON)[0] == 0
    return kazashi


def test_a_card_goes_from_blank_to_a_first_ride(kazashi: Kazashi) -> None:
    assert kazashi("new", "rider.toml")[0] == 0
    assert "blank card" in kazashi("show", *ON)[1]
    assert "the card is the town's" in kazashi("issue", *ON)[1]
    assert "2,000 points in all" in kazashi("grant", *ON, "--scheme", str(SCHEME))[1]
    assert "1,900 left" in kazashi("tap", *ON, "--points", "100")[1]
    shown = kazashi("show", *ON)[1]
    assert "balance     1,900 points" in shown
    assert "spent       100 points in 1 debit\n" in shown


def test_show_never_prints_the_cards_number(issued: Kazashi) -> None:
    idm = card_file.load(Path("rider.toml")).idm.hex()
    assert idm not in issued("show", *ON)[1].lower()


def test_granting_twice_gives_once(issued: Kazashi) -> None:
    issued("grant", *ON, "--points", "500")
    again = issued("grant", *ON, "--points", "500")[1]
    assert "already" in again
    assert "balance: 500 points" in again


def test_a_correction_and_a_restore_are_said_in_full(issued: Kazashi) -> None:
    issued("grant", *ON, "--points", "500", "--year", "2026")
    assert "balance: 530 points" in issued("grant", *ON, "--correct", "2", "--points", "30")[1]
    card = card_file.open_card(Path("rider.toml"))
    for block in (0, 5):
        card.rewrite(block, bytes(range(16)))
    assert "--restore" in issued("show", *ON)[2]
    assert "balance: 530 points" in issued("grant", *ON, "--restore", "2026:530:2")[1]


def test_a_card_pulled_while_it_is_issued_or_granted_is_told_to_be_laid_down_again(kazashi: Kazashi) -> None:
    kazashi("new", "rider.toml")
    for action in (("issue",), ("grant", "--points", "100")):
        card = card_file.load(Path("rider.toml"))
        card.plan([Faults()] * 7 + [Faults(lost=True)])
        card_file.save(Path("rider.toml"), card)
        status, _, complaint = kazashi(*action[:1], *ON, *action[1:])
        assert (status, complaint) == (1, "kazashi card: the card left too early; lay it down and run the same command again\n")
        card_file.save(Path("rider.toml"), clean(Path("rider.toml")))
        assert kazashi(*action[:1], *ON, *action[1:])[0] == 0


def clean(path: Path) -> LiteSCard:
    """The card as its file has it, without what was planned for it."""
    return LiteSCard(card_file.load(path).memory)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("show", "--card", "none.toml", "--keys", "desk.toml"), "kazashi card new none.toml"),
        (("show", "--card", "rider.toml", "--keys", "none.toml"), "kazashi card keys --new none.toml"),
        (("show", "--reader", "pencil:1", "--keys", "desk.toml"), "pencil"),
        (("new", "rider.toml"), "there is a file already"),
        (("tap", *ON, "--points", "1"), "the card has 0"),
        (("grant", *ON), "--points N, or --scheme"),
        (("grant", *ON, "--points", "0"), "at least one point"),
        (("grant", *ON, "--correct", "2"), "needs --points"),
        (("grant", *ON, "--restore", "much"), "2026:2000:1"),
        (("grant", *ON, "--restore", "1999:1:1"), "2026:2000:1"),
        (("grant", *ON, "--scheme", "desk.toml"), "desk.toml"),
        (("grant", *ON, "--scheme", str(SCHEME), "--from", "none.ledger"), "none.ledger"),
        (("keys",), "--new FILE"),
        (("keys", "--new", "desk.toml"), "never overwritten"),
        (("keys", "--keys", "none.toml", "--terminal", "bus.toml"), "there is no key file here"),
    ],
)
def test_whatever_is_asked_wrongly_gets_one_sentence(words: tuple[str, ...], said: str, issued: Kazashi) -> None:
    status, _, complaint = issued(*words)
    assert status == 1
    assert said in complaint
    assert "Traceback" not in complaint


def test_a_stranger_towns_card_is_told_so(issued: Kazashi) -> None:
    issued("keys", "--new", "other.toml")
    assert "does not hold this town's key" in issued("show", "--card", "rider.toml", "--keys", "other.toml")[2]


def test_a_vehicles_key_file_cannot_do_the_desks_work(issued: Kazashi) -> None:
    assert issued("keys", "--keys", "desk.toml", "--terminal", "bus.toml")[0] == 0
    assert "take the desk's file" in issued("grant", "--card", "rider.toml", "--keys", "bus.toml", "--points", "9")[2]


def test_a_card_lying_in_an_emulated_readers_tray_is_shown(issued: Kazashi) -> None:
    issued("grant", *ON, "--points", "700")
    Path("tray").mkdir()
    Path("rider.toml").rename("tray/rider.toml")
    assert "balance     700 points" in issued("show", "--reader", "emulated:tray", "--keys", "desk.toml")[1]


# --- a person beside a reader ---


class Hand:
    """A reader, and a hand that follows a script: each poll sees the next of its fields."""

    name = "scripted"

    def __init__(self, *fields: list[Channel] | None) -> None:
        self.fields = list(fields)

    def poll(self) -> list[Channel]:
        field = self.fields.pop(0) if len(self.fields) > 1 else self.fields[0]
        if field is None:
            raise ReaderLost("the reader is silent")
        return field

    def revive(self) -> bool:
        return False

    def close(self) -> None:
        self.fields = [[]]


def desk_with(hand: Hand) -> tuple[ReaderDesk, list[str]]:
    said: list[str] = []
    time_s = iter(range(10_000))
    return ReaderDesk(hand, said.append, lambda: next(time_s), lambda _seconds: None), said


ONE, OTHER = (HeldCard(blank(bytes.fromhex(f"012E00000000000{at}"))) for at in (1, 2))


def test_the_desk_waits_for_the_card_and_for_its_lifting_and_laying() -> None:
    desk, said = desk_with(Hand([], [], [ONE], [ONE], [], [], [ONE]))
    assert desk.card() is ONE
    assert desk.lay_again() is ONE
    assert said == ["lay the card on the reader", "lift the card", "lay the same card down again"]


@pytest.mark.parametrize(
    ("hand", "said"),
    [
        (Hand([]), "no card was laid"),
        (Hand([ONE, OTHER]), "two cards"),
        (Hand(None), "qualify"),
        (Hand([HeldCard(blank(bytes(8), bytes.fromhex("00F0000000014300")))]), "not a FeliCa Lite-S"),
    ],
)
def test_what_is_not_one_of_our_cards_ends_in_one_sentence(hand: Hand, said: str) -> None:
    with pytest.raises(Failure, match=said):
        desk_with(hand)[0].card()


@pytest.mark.parametrize(
    ("hand", "said"),
    [(Hand([ONE]), "not lifted"), (Hand([ONE], []), "not laid down again"), (Hand([ONE], [], [OTHER]), "another card")],
)
def test_a_card_that_is_not_laid_again_ends_in_one_sentence(hand: Hand, said: str) -> None:
    desk, _ = desk_with(hand)
    desk.card()
    with pytest.raises(Failure, match=said):
        desk.lay_again()
