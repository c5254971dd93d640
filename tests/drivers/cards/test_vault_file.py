"""A vault that is a file: weak, and strict about who may read it and what stands in it."""

import secrets
from dataclasses import replace
from pathlib import Path

import pytest

from drivers.cards import ed25519, issuing, lite_s, purse
from drivers.cards.tdes import encrypt_cbc
from drivers.emulated.held_card import HeldCard
from drivers.errors import NotAuthentic
from drivers.vault import GrantChecker, Keys, Vault
from drivers.vault_file import (
    CardMaster,
    DeskVaultFile,
    GrantCheckerFile,
    KeySet,
    VaultFile,
    VaultFileRefused,
    demo_keys,
    new_keys,
    read_keys,
    write_keys,
)

IDM = bytes.fromhex("012E000000000001")


def challenge(size: int) -> bytes:
    return bytes(range(size))


def test_a_key_file_gives_back_what_was_written_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    keys = new_keys(secrets.token_bytes)
    write_keys(tmp_path / "desk.toml", keys)
    assert read_keys(tmp_path / "desk.toml") == keys
    assert (tmp_path / "desk.toml").stat().st_mode & 0o777 == 0o600


def test_a_terminals_file_holds_no_issuers_private_key(tmp_path: Path) -> None:
    keys = demo_keys(1)
    write_keys(tmp_path / "bus.toml", keys.for_terminal(bytes(32)))
    text = (tmp_path / "bus.toml").read_text()
    assert "private" not in text
    assert keys.issuers[0].private.hex() not in text
    with pytest.raises(VaultFileRefused, match="terminal's key file"):
        DeskVaultFile.open(tmp_path / "bus.toml")
    assert VaultFile.open(tmp_path / "bus.toml").rider(IDM) == DeskVaultFile(keys).rider(IDM)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o610])
def test_a_key_file_that_others_may_read_is_refused_with_what_to_do(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "desk.toml"
    write_keys(path, demo_keys(1))
    path.chmod(mode)
    with pytest.raises(VaultFileRefused, match="chmod 600"):
        VaultFile.open(path)


def test_a_missing_key_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(VaultFileRefused, match="kazashi card keys --new"):
        VaultFile.open(tmp_path / "none.toml")


def test_an_existing_key_file_is_never_overwritten(tmp_path: Path) -> None:
    write_keys(tmp_path / "desk.toml", demo_keys(1))
    with pytest.raises(VaultFileRefused, match="never overwritten"):
        write_keys(tmp_path / "desk.toml", demo_keys(2))
    assert read_keys(tmp_path / "desk.toml") == demo_keys(1)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("kazashi vault 1", "kazashi vault 9"), "format"),
        (("[rider]", "[driver]"), "rider"),
        (("version = 1", "version = -1"), "rider.version"),
        (("version = 1", "version = true"), "rider.version"),
        (('key = "', 'key = "0'), "rider.key"),
        (('key = "', 'key = "zz'), "rider.key"),
        (("[[card]]", "[card]"), "card"),
        (('master = "', 'master = "00'), "card[0].master"),
        (("id = 1", "id = 256"), "issuer[0].id"),
        (('public = "', 'public = "00'), "issuer[0].public"),
        (("[device]", "[device"), "not a TOML file"),
    ],
)
def test_a_broken_key_file_names_the_field_and_shows_no_key(change: tuple[str, str], named: str, tmp_path: Path) -> None:
    path = tmp_path / "desk.toml"
    keys = demo_keys(1)
    write_keys(path, keys)
    path.write_text(path.read_text().replace(*change, 1))
    with pytest.raises(VaultFileRefused) as refused:
        VaultFile.open(path)
    assert named in str(refused.value)
    assert keys.rider.hex()[2:10] not in str(refused.value)


def test_a_file_that_is_a_folder_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir(mode=0o700)
    with pytest.raises(VaultFileRefused, match="cannot be read"):
        VaultFile.open(tmp_path / "folder")


def test_printed_keys_show_no_key() -> None:
    keys = demo_keys(1)
    assert keys.rider.hex() not in repr(keys)
    assert str(keys.rider) not in repr(keys)
    assert str(keys.cards[0].master) not in repr(keys)


def test_demo_keys_follow_from_the_seed_and_new_keys_from_chance() -> None:
    assert demo_keys(1) == demo_keys(1) != demo_keys(2)
    assert new_keys(secrets.token_bytes) != new_keys(secrets.token_bytes)


def test_the_vault_fits_its_protocols() -> None:
    desk = DeskVaultFile(demo_keys(1))
    vault: Vault = desk
    keys: Keys = desk
    grants: GrantChecker = desk.grants
    assert len(keys.card_key(IDM, 1)) == 16
    grants.check(1, keys.sign_grant(1, vault.rider(IDM)), vault.rider(IDM))


# --- what it answers ---


def rotated() -> KeySet:
    """Version 2 came after version 1."""
    return replace(demo_keys(1), cards=(CardMaster(2, challenge(24)), *demo_keys(1).cards))


def test_an_older_key_version_still_opens_a_card_and_a_retired_one_does_not(granted_card: HeldCard) -> None:
    vault = VaultFile(rotated())
    assert purse.read(granted_card, vault, vault.grants, lambda _rider, _digest: False, challenge).session.key_version == 1
    retired = VaultFile(replace(rotated(), cards=rotated().cards[:1]))
    with pytest.raises(NotAuthentic):
        purse.read(granted_card, retired, retired.grants, lambda _rider, _digest: False, challenge)


def test_a_new_card_gets_the_newest_key(blank_card: HeldCard) -> None:
    desk = DeskVaultFile(rotated())
    for _ in range(2):
        list(issuing.issue(blank_card, desk, challenge, desk.newest_card_key))
        blank_card.lay_again()
    assert purse.read(blank_card, desk, desk.grants, lambda _rider, _digest: False, challenge).session.key_version == 2


def test_a_rider_is_the_same_on_each_bus_of_the_town_and_another_in_each_other_town() -> None:
    bus, other_bus = VaultFile(demo_keys(1).for_terminal(bytes(32))), VaultFile(demo_keys(1).for_terminal(challenge(32)))
    assert bus.rider(IDM) == other_bus.rider(IDM)
    assert len(bus.rider(IDM)) == 8
    assert bus.rider(IDM) != VaultFile(demo_keys(2)).rider(IDM)
    assert bus.rider_key_version == 1


def test_a_device_signs_with_a_key_of_its_own() -> None:
    bus = VaultFile(demo_keys(1).for_terminal(challenge(32)))
    ed25519.verify(bus.device_public_key(), bus.sign(b"batch 1"), b"batch 1")
    with pytest.raises(NotAuthentic):
        ed25519.verify(bus.device_public_key(), bus.sign(b"batch 1"), b"batch 2")


def test_a_grant_of_an_unknown_issuer_or_with_a_bad_signature_is_not_authentic() -> None:
    desk = DeskVaultFile(demo_keys(1))
    signature = desk.sign_grant(1, b"a grant")
    desk.grants.check(1, signature, b"a grant")
    for key_id, given, message in ((2, signature, b"a grant"), (1, bytes(64), b"a grant"), (1, signature, b"more"), (1, b"", b"a grant")):
        with pytest.raises(NotAuthentic):
            desk.grants.check(key_id, given, message)
    with pytest.raises(NotAuthentic):
        GrantCheckerFile({1: bytes(3)}).check(1, signature, b"a grant")


def test_the_desk_gives_a_cards_key_in_card_order() -> None:
    desk = DeskVaultFile(demo_keys(1))
    key = desk.card_key(IDM, 1)
    assert not lite_s.is_weak(lite_s.swap_halves(key))
    with pytest.raises(KeyError):
        desk.card_key(IDM, 9)


def test_the_secrets_of_a_whole_tap_cost_six_encryptions(granted_card: HeldCard) -> None:
    """Two for the card's key, one for the session, one for each of three MACs; the master's subkey is made once."""
    sizes: list[int] = []

    def counted(key: bytes, iv: bytes, data: bytes) -> bytes:
        sizes.append(len(data))
        return encrypt_cbc(key, iv, data)

    vault = VaultFile(demo_keys(1), counted)
    for _ in range(2):
        sizes.clear()
        reading = purse.read(granted_card, vault, vault.grants, lambda _rider, _digest: True, challenge)
        purse.debit(granted_card, reading, 1, purse.RegLog(1, 1, 1))
        purse.verify(granted_card, reading)
    assert sizes == [16, 16, 16, 56, 24, 40]
