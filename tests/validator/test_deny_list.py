"""The deny list."""

import pytest

from validator.lists import BadList, parse

RIDER = "00112233445566aa"


def test_a_rider_on_the_list_is_blocked_and_nobody_else() -> None:
    listed = parse(f'format = 1\nrider_key = 2\nriders = ["{RIDER}"]', "deny.toml", 2)
    assert listed.blocks(bytes.fromhex(RIDER))
    assert not listed.blocks(bytes(8))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[", "deny.toml: not a TOML file"),
        ("rider_key = 2", "deny.toml, format: must be 1"),
        ("format = 1\nrider_key = 1", "deny.toml, rider_key: made with another rider key"),
        ('format = 1\nrider_key = 2\nriders = ["xyz"]', r"deny.toml, riders\[1\]: must be 16 hex digits"),
        (f'format = 1\nrider_key = 2\nriders = ["{RIDER}", 3]', r"deny.toml, riders\[2\]: must be 16 hex digits"),
    ],
)
def test_a_list_that_would_silently_block_nobody_is_refused(text: str, fault: str) -> None:
    with pytest.raises(BadList, match=fault):
        parse(text, "deny.toml", 2)
