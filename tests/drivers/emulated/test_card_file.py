"""A card is a file that a person can read, and a tray is a folder."""

from pathlib import Path

import pytest

from drivers.emulated import card_file
from drivers.emulated.air import Air
from drivers.emulated.lite_s_card import Delay, Faults, LiteSCard, Tear, Torn, Traits, blank
from drivers.emulated.tray import Tray

MS = 1_000_000
A = bytes.fromhex("0102030405060708")
B = bytes.fromhex("1112131415161718")
POLL = bytes.fromhex("0600FFFF0003")
SIXTEEN = bytes(range(16))


def write(card: LiteSCard) -> bytes | None:
    return card.answer(bytes((32, 0x08)) + card.idm + b"\x01\x09\x00\x01\x80\x03" + SIXTEEN)


# --- the file ---


def test_a_card_comes_back_from_its_file_with_all_it_is(tmp_path: Path) -> None:
    card = blank(A)
    card.set_wcnt(77)
    card.rewrite(0x0D, SIXTEEN)
    card.traits = Traits(Delay.MAX, strict=False, equal_reg=False, reg_refusal=(2, 0xA9), rc_ends_ext_auth=False, worn_at=10_000)
    planned = [
        Faults(lost=True),
        Faults(tear=Tear(Torn.GARBAGE, counted=True, seed=3), lifted=True),
        Faults(removed_at=55, warn=True, bad_crc=True, answer_lost=True),
        Faults(idm=B, script=b"\x01\x02"),
        Faults(script=b"", forever=True),
    ]
    card.plan(planned)
    card_file.save(tmp_path / "card.toml", card)
    back = card_file.load(tmp_path / "card.toml")
    assert (back.memory, back.traits, back.planned) == (card.memory, card.traits, tuple(planned))
    assert card_file.text(back) == card_file.text(card)


def test_a_pose_is_not_saved(tmp_path: Path) -> None:
    card = blank(A)
    card.posing = Traits(strict=False)
    card_file.save(tmp_path / "card.toml", card)
    assert card_file.load(tmp_path / "card.toml").traits == Traits()


def test_an_open_card_is_written_back_after_each_accepted_write(tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    card_file.save(path, blank(A))
    card = card_file.open_card(path)
    write(card)
    assert card_file.load(path).memory == card.memory
    assert card_file.load(path).memory.blocks[3] == SIXTEEN
    assert [file.name for file in tmp_path.iterdir()] == ["card.toml"]


def test_a_used_up_fault_does_not_come_back_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    card = blank(A)
    card.plan([Faults(lost=True)])
    card_file.save(path, card)
    assert write(card_file.open_card(path)) is None
    assert write(card_file.open_card(path)) is not None


GOOD = card_file.text(blank(A))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('card = "', 'card = "x', "the field 'card' must be"),
        ("[traits]", "[traits", "this is no TOML file"),
        ("write_counter = 0x", 'write_counter = "', "this is no TOML file"),
        ("write_counter = 0xFFFE00", 'write_counter = "7"', "the field 'write_counter' must be a whole number"),
        ("write_counter = 0xFFFE00", "write_counter = 0x1FFFFFF", "the write counter has 24 bits"),
        ("strict = true", "strict = 1", "the field 'traits.strict' must be true or false"),
        ('delay = "min"', 'delay = "long"', "the field 'traits.delay' must be"),
        ('"01A8"', '"01"', "the field 'traits.reg_refusal' must be 2 bytes in hexadecimal, not 1"),
        ('03 = "00000000', '03 = "0000000', "the field 'blocks.03' must be 16 bytes in hexadecimal"),
        ('03 = "00000000', '03 = "000000', "the field 'blocks.03' must be 16 bytes in hexadecimal, not 15"),
        ('03 = "', '0F = "', "the field 'blocks.0F' must be left out"),
        ("03 =", "# 03 =", "the field 'blocks.03' must be 16 bytes in hexadecimal"),
        ("[traits]", "traits = 3\n[more]", "the field 'traits' must be a table"),
    ],
)
def test_a_bad_card_file_is_named_with_the_field_that_is_wrong(old: str, new: str, says: str) -> None:
    assert old in GOOD
    with pytest.raises(card_file.BadCardFile) as caught:
        card_file.parse(GOOD.replace(old, new), "rider.toml")
    assert str(caught.value).startswith("rider.toml: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ('torn = "half"', "the field 'faults[1].torn' must be"),
        ('script = "xyz"', "the field 'faults[1].script' must be"),
        ("lost = 1", "the field 'faults[1].lost' must be true or false"),
    ],
)
def test_a_bad_fault_is_named_by_its_place(fault: str, says: str) -> None:
    with pytest.raises(card_file.BadCardFile, match=r"rider\.toml") as caught:
        card_file.parse(f"{GOOD}\n[[faults]]\n{fault}\n", "rider.toml")
    assert says in str(caught.value)


def test_a_file_that_is_not_text_is_no_card(tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(card_file.BadCardFile):
        card_file.load(path)


# --- the tray ---


class Desk:
    """A tray with a reader's field over it."""

    def __init__(self, folder: Path) -> None:
        self.air = Air(start_up_ns=0)
        self.air.switch(on=True, now_ns=0)
        self.tray = Tray(folder, self.air, look_every_ns=0)
        self.now = 0

    def seen(self) -> set[bytes]:
        """The IDms found by a few polls."""
        found: set[bytes] = set()
        self.tray.look(self.now)
        for _ in range(8):
            found |= {frame[2:10] for frame in self.air.poll(POLL, 424, self.now, 2).frames}
            self.now += 20 * MS
        return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tray").mkdir()
    return tmp_path / "tray"


def test_a_card_lies_on_the_reader_while_its_file_lies_in_the_tray(folder: Path, tmp_path: Path) -> None:
    desk = Desk(folder)
    assert desk.seen() == set()
    card_file.save(folder / "a.toml", blank(A))
    assert desk.seen() == {A}
    card_file.save(folder / "b.toml", blank(B))
    assert desk.seen() == {A, B}
    (folder / "a.toml").rename(tmp_path / "a.toml")
    assert desk.seen() == {B}
    (tmp_path / "a.toml").replace(folder / "b.toml")
    assert desk.seen() == {A}


def test_what_a_tap_changed_is_in_the_file_and_the_card_stays_where_it_is(folder: Path) -> None:
    card_file.save(folder / "a.toml", blank(A))
    desk = Desk(folder)
    desk.seen()
    (card,) = desk.air.cards
    assert isinstance(card, LiteSCard)
    for _ in range(3):
        write(card)
        assert desk.seen() == {A}
        assert desk.air.cards == (card,)
    assert card_file.load(folder / "a.toml").memory == card.memory


def test_a_file_changed_by_a_person_is_another_card(folder: Path) -> None:
    path = folder / "a.toml"
    card_file.save(path, blank(A))
    desk = Desk(folder)
    desk.seen()
    (before,) = desk.air.cards
    path.write_text(path.read_text().replace("equal_reg = true", "equal_reg = false"))
    assert desk.seen() == {A}
    (after,) = desk.air.cards
    assert after is not before


def test_what_is_no_card_lies_there_without_effect_and_is_named(folder: Path) -> None:
    (folder / "letter.toml").write_text("Dear reader")
    (folder / "notes.txt").write_text("not a card either")
    desk = Desk(folder)
    assert desk.seen() == set()
    assert sorted(desk.tray.problems) == ["letter.toml", "notes.txt"]
    for name in ("letter.toml", "notes.txt"):
        (folder / name).unlink()
    desk.seen()
    assert desk.tray.problems == {}


def test_a_tray_is_looked_at_only_every_so_often(folder: Path) -> None:
    air = Air()
    tray = Tray(folder, air, look_every_ns=20 * MS)
    tray.look(0)
    card_file.save(folder / "a.toml", blank(A))
    tray.look(19 * MS)
    air.switch(on=True, now_ns=19 * MS)
    assert not [card.idm for card in air.cards]
    tray.look(20 * MS)
    air.switch(on=False, now_ns=20 * MS)
    assert [card.idm for card in air.cards] == [A]


def test_a_tray_without_a_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Tray(tmp_path / "nowhere", Air())


def test_a_card_taken_away_in_the_middle_of_a_write_does_not_come_back_as_a_copy(folder: Path, tmp_path: Path) -> None:
    card_file.save(folder / "a.toml", blank(A))
    desk = Desk(folder)
    desk.seen()
    (card,) = desk.air.cards
    assert isinstance(card, LiteSCard)
    (folder / "a.toml").rename(tmp_path / "a.toml")
    write(card)
    assert list(folder.iterdir()) == []
