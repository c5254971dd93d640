"""The short text that names a reader."""

import pytest

from drivers.reader import EmulatedAddress, Pn532Address, parse_address


@pytest.mark.parametrize(
    ("text", "path", "baud", "air_rate"),
    [
        ("pn532:/dev/ttyS1@921600", "/dev/ttyS1", 921600, 424),
        ("pn532:/dev/ttyS1@921600/212", "/dev/ttyS1", 921600, 212),
        ("pn532:/dev/ttyS1", "/dev/ttyS1", 115200, 424),
        ("pn532:/dev/pts/212", "/dev/pts/212", 115200, 424),
        ("pn532:/dev/pts/4@115200/424", "/dev/pts/4", 115200, 424),
    ],
)
def test_a_pn532_is_named_by_its_line_and_its_rates(text: str, path: str, baud: int, air_rate: int) -> None:
    assert parse_address(text) == Pn532Address(text, path, baud, air_rate)


def test_a_tray_is_named_by_its_folder() -> None:
    assert parse_address("emulated:build/a tray") == EmulatedAddress("emulated:build/a tray", "build/a tray")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no such kind"),
        ("pn532", "no such kind"),
        ("pcsc:0", "no such kind"),
        ("pn532:", "full path"),
        ("pn532:ttyS1", "full path"),
        ("pn532:/dev/ttyS1@", "full path"),
        ("pn532:/dev/ttyS1@fast", "full path"),
        ("pn532:/dev/ttyS1@12345", "cannot run at 12345 baud"),
        ("pn532:/dev/ttyS1@921600/106", "212 or 424"),
        ("emulated:", "folder is missing"),
    ],
)
def test_a_wrong_address_is_answered_with_what_is_wrong_and_the_allowed_forms(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        parse_address(text)
    assert f"'{text}'" in str(caught.value)
    assert "\n" not in str(caught.value)
