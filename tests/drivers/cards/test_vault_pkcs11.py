"""A vault in a token, with SoftHSM2 as the stranger that keeps the keys: the same answers as a file, and no key comes out."""

import os
import shutil
import subprocess
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import pkcs11
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pkcs11.constants import Attribute, ObjectClass
from pkcs11.exceptions import PKCS11Error
from pkcs11.mechanisms import KeyType, Mechanism
from pkcs11.types import Session

from drivers import vault_pkcs11
from drivers.cards import lite_s, purse
from drivers.cards.tdes import encrypt_cbc
from drivers.emulated.held_card import HeldCard
from drivers.errors import NotAuthentic, ReaderLost, VaultLost
from drivers.signer import Algorithm
from drivers.signing import SignatureChecker
from drivers.vault import FileAddress, MacRead, TerminalVault, TokenAddress, parse_address
from drivers.vault_file import CardMaster, Issuer, KeySet, VaultFile, demo_keys, write_keys
from drivers.vault_pkcs11 import VaultPkcs11, VaultTokenRefused, empty, fill
from firmware import cli, compose, config, rehearsal
from firmware.failure import Failure
from firmware.rehearsal import Town
from validator.messages import Message

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
HERE = MODULE.exists() and shutil.which("softhsm2-util") is not None
with_token = pytest.mark.skipif(not HERE, reason="SoftHSM2 is not installed (apt-get install softhsm2): no token was asked anything")
EXAMPLE = Path(__file__).parents[3] / "examples" / "bus.toml"
PIN = "4649"
IDM = bytes.fromhex("012E000000000001")
_numbers = count(1)


def challenge(size: int) -> bytes:
    return bytes(range(size))


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for tokens that SoftHSM2 knows and nobody else uses."""
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n")
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = str(configuration)
    yield folder
    if before is None:
        del os.environ["SOFTHSM2_CONF"]
    else:
        os.environ["SOFTHSM2_CONF"] = before


@pytest.fixture
def new_token(tokens: Path) -> Callable[[], TokenAddress]:
    """Makes initialised tokens with nothing in them."""

    def make() -> TokenAddress:
        label = f"bus {next(_numbers)}"
        told = ["softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", "12345678", "--pin", PIN]
        subprocess.run(told, check=True, capture_output=True)
        pin_file = tokens / f"{label}.pin"
        pin_file.touch(mode=0o600)
        pin_file.write_text(f"{PIN}\n")
        return TokenAddress(MODULE, label, pin_file)

    return make


@pytest.fixture
def token(new_token: Callable[[], TokenAddress]) -> TokenAddress:
    """A token with a vehicle's keys, of the demo's town."""
    address = new_token()
    fill(address, demo_keys(1))
    return address


@pytest.fixture
def inside(token: TokenAddress) -> Iterator[VaultPkcs11]:
    vault = VaultPkcs11(token)
    yield vault
    vault.close()


@pytest.fixture(scope="session")
def town_token(tokens: Path) -> Iterator[VaultPkcs11]:
    """One token for everything that only asks: two card key versions, the newer one first asked."""
    told = ["softhsm2-util", "--init-token", "--free", "--label", "town", "--so-pin", "12345678", "--pin", PIN]
    subprocess.run(told, check=True, capture_output=True)
    pin_file = tokens / "town.pin"
    pin_file.touch(mode=0o600)
    pin_file.write_text(PIN)
    address = TokenAddress(MODULE, "town", pin_file)
    fill(address, rotated())
    vault = VaultPkcs11(address)
    yield vault
    vault.close()


def rotated() -> KeySet:
    return replace(demo_keys(1), cards=(CardMaster(2, challenge(24)), *demo_keys(1).cards))


def session(address: TokenAddress) -> Session:
    """A session as somebody has it who knows the PIN and no vault of ours."""
    return pkcs11.lib(str(MODULE)).get_token(token_label=address.token).open(rw=True, user_pin=PIN)


# --- the same answers as a file ---


@with_token
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(idm=st.binary(min_size=8, max_size=8), rc=st.binary(min_size=16, max_size=16), data=st.binary(min_size=32, max_size=32))
def test_token_and_file_give_equal_sessions_macs_and_riders(town_token: VaultPkcs11, idm: bytes, rc: bytes, data: bytes) -> None:
    file = VaultFile(rotated())
    for card in rotated().cards:
        card_key = lite_s.card_key_des(encrypt_cbc, card.master, idm, card.version)
        by_hand = lite_s.session_of(encrypt_cbc, card_key, card.version, rc)
        answer = MacRead((0x0E, 0x90), data, by_hand.mac_read(MacRead((0x0E, 0x90), data, b"")))
        ours, theirs = (vault.challenge(idm, rc).proven_by(answer) for vault in (town_token, file))
        assert ours == theirs == by_hand
        assert ours.mac_write(0x0E, data[:16], 7) == by_hand.mac_write(0x0E, data[:16], 7)
    assert town_token.rider(idm) == file.rider(idm)
    with pytest.raises(NotAuthentic):
        town_token.challenge(idm, rc).proven_by(MacRead((0x0E, 0x90), data, bytes(8)))


@with_token
def test_a_card_is_read_debited_and_proven_with_keys_that_stay_inside(granted_card: HeldCard, inside: VaultPkcs11) -> None:
    reading = purse.read(granted_card, inside, inside.grants, lambda _rider, _digest: False, challenge)
    assert reading.balance == 2000
    log = purse.RegLog(1, 1, 1)
    purse.debit(granted_card, reading, 180, log)
    assert purse.verify(granted_card, reading) == purse.debited(reading, 180, log)


@with_token
def test_a_whole_tap_is_paid_with_the_token(tmp_path: Path, new_token: Callable[[], TokenAddress]) -> None:
    town, vault = on_a_bus(tmp_path, new_token())
    bus, card = town.vehicles[0], town.card()
    assert bus.touch(card)[-1] is Message.BOARDED
    bus.ride_to(4)
    assert bus.touch(card)[-1] is Message.PAID
    assert [verdict.why for verdict in town.verdicts() if not verdict.held] == []
    vault.close()


def on_a_bus(folder: Path, address: TokenAddress) -> tuple[Town, VaultPkcs11]:
    """A town whose one bus has its keys in a token, at its first stop."""
    town = Town(folder, rehearsal.tariff())
    fill(address, town.keys)
    vault = VaultPkcs11(address)
    bus = town.vehicle()
    bus.station.equipment = replace(bus.station.equipment, vault=vault, grants=vault.grants)
    bus.ride_to(2)
    return town, vault


# --- what stays inside ---


@with_token
def test_no_key_comes_out_of_the_token_and_none_can_be_made_to(token: TokenAddress) -> None:
    with session(token) as asked:
        kept = [found for kind in (ObjectClass.SECRET_KEY, ObjectClass.PRIVATE_KEY) for found in asked.get_objects({Attribute.CLASS: kind})]
        assert len(kept) == 3
        for key in kept:
            with pytest.raises(PKCS11Error):
                key[Attribute.VALUE]
            for change in ({Attribute.SENSITIVE: False}, {Attribute.EXTRACTABLE: True}):
                with pytest.raises(PKCS11Error):
                    key.copy({**change, Attribute.TOKEN: False})
                for attribute, value in change.items():
                    with pytest.raises(PKCS11Error):
                        key[attribute] = value


@with_token
def test_a_cards_key_is_derived_inside_cannot_be_read_and_is_gone_after_the_tap(inside: VaultPkcs11) -> None:
    assert inside._opened is not None
    master = inside._opened.cards[0].master
    key = vault_pkcs11._derive(master, bytes(16))
    assert (key[Attribute.SENSITIVE], key[Attribute.EXTRACTABLE], key[Attribute.TOKEN]) == (True, False, False)
    with pytest.raises(PKCS11Error):
        key[Attribute.VALUE]
    key.destroy()
    before = len(list(inside._opened.session.get_objects({})))
    inside.challenge(IDM, challenge(16))
    assert len(list(inside._opened.session.get_objects({}))) == before


@with_token
def test_what_the_token_does_not_prevent_is_use_by_whoever_has_the_pin(inside: VaultPkcs11) -> None:
    """docs/card-keys.md says so; here it is done, so that nobody believes otherwise."""
    assert inside._opened is not None
    card = inside._opened.cards[0]
    data = lite_s.key_data(lambda blocks: card.master.encrypt(blocks, mechanism=Mechanism.DES3_ECB), card.k1, IDM, card.version)
    assert card.master.encrypt(data, mechanism=Mechanism.DES3_ECB) == lite_s.card_key_des(
        encrypt_cbc, demo_keys(1).cards[0].master, IDM, card.version
    )


@with_token
def test_two_terminals_have_two_device_keys_and_neither_can_be_read(new_token: Callable[[], TokenAddress]) -> None:
    public: set[bytes] = set()
    for address in (new_token(), new_token()):
        fill(address, demo_keys(1))
        vault = VaultPkcs11(address)
        public.add(vault.device_public_key())
        vault.close()
    assert len(public) == 2


# --- who it is ---


@with_token
@pytest.mark.parametrize("algorithm", [Algorithm.EDDSA, Algorithm.ES256])
def test_the_device_signs_inside_by_either_algorithm(new_token: Callable[[], TokenAddress], algorithm: Algorithm) -> None:
    address = new_token()
    fill(address, demo_keys(1), algorithm)
    vault: TerminalVault = VaultPkcs11(address)
    assert vault.device_algorithm is algorithm
    message = bytes(60_000)
    SignatureChecker().check(algorithm, vault.device_public_key(), vault.sign(message), message)
    vault.close()


@with_token
def test_ed25519_is_taken_where_the_token_can(inside: VaultPkcs11) -> None:
    assert inside.device_algorithm is Algorithm.EDDSA


# --- filling ---


@with_token
def test_filling_twice_changes_nothing_and_keeps_the_device_key(token: TokenAddress) -> None:
    first = VaultPkcs11(token)
    public = first.device_public_key()
    first.close()
    assert fill(token, demo_keys(1)) == []
    again = VaultPkcs11(token)
    assert again.device_public_key() == public
    again.close()


@with_token
def test_a_rotation_puts_the_new_version_in_and_later_takes_the_old_one_out(token: TokenAddress, granted_card: HeldCard) -> None:
    assert fill(token, rotated()) == ["card key version 2: put in"]
    vault = VaultPkcs11(token)
    assert purse.read(granted_card, vault, vault.grants, lambda _rider, _digest: False, challenge).session.key_version == 1
    vault.close()
    assert fill(token, replace(rotated(), cards=rotated().cards[:1])) == ["card key version 1: destroyed, the key file has it no more"]
    vault = VaultPkcs11(token)
    with pytest.raises(NotAuthentic):
        purse.read(granted_card, vault, vault.grants, lambda _rider, _digest: False, challenge)
    vault.close()


@with_token
def test_a_new_issuer_and_a_new_rider_key_replace_the_old(token: TokenAddress) -> None:
    other = demo_keys(2)
    changed = replace(demo_keys(1), rider_version=2, rider=other.rider, issuers=(Issuer(9, other.issuers[0].public),))
    assert len(fill(token, changed)) == 4
    vault = VaultPkcs11(token)
    assert vault.rider_key_version == 2
    assert vault.rider(IDM) == VaultFile(changed).rider(IDM)
    with pytest.raises(NotAuthentic, match="no issuer"):
        vault.grants.check(1, bytes(64), b"")
    vault.close()


@with_token
def test_a_token_of_another_town_is_refused_and_left_as_it_is(token: TokenAddress) -> None:
    with pytest.raises(VaultTokenRefused, match="another town's keys"):
        fill(token, demo_keys(2))
    assert fill(token, demo_keys(1)) == []


@with_token
def test_no_issuers_private_key_goes_into_a_token(token: TokenAddress) -> None:
    with session(token) as asked:
        labels = [found[Attribute.LABEL] for found in asked.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY})]
        values = [found[Attribute.VALUE] for found in asked.get_objects({Attribute.CLASS: ObjectClass.DATA})]
    assert labels == [vault_pkcs11.DEVICE]
    assert all(demo_keys(1).issuers[0].private not in value for value in values)


@with_token
def test_an_emptied_token_holds_nothing_of_ours_and_opens_no_more(token: TokenAddress) -> None:
    assert empty(token) == 5
    with session(token) as asked:
        assert list(asked.get_objects({})) == []
    with pytest.raises(VaultTokenRefused, match="does not hold a vehicle's keys"):
        VaultPkcs11(token)


# --- what is refused ---


@with_token
def test_a_token_that_would_show_a_key_is_refused(token: TokenAddress) -> None:
    with session(token) as asked:
        next(asked.get_objects({Attribute.LABEL: vault_pkcs11.RIDER})).destroy()
        asked.create_object(
            {
                Attribute.CLASS: ObjectClass.SECRET_KEY,
                Attribute.KEY_TYPE: KeyType.GENERIC_SECRET,
                Attribute.LABEL: vault_pkcs11.RIDER,
                Attribute.ID: b"\0\1",
                Attribute.TOKEN: True,
                Attribute.PRIVATE: True,
                Attribute.SENSITIVE: False,
                Attribute.EXTRACTABLE: True,
                Attribute.SIGN: True,
                Attribute.VALUE: bytes(range(32)),
            }
        )
    with pytest.raises(VaultTokenRefused, match="would show a key"):
        VaultPkcs11(token)


@with_token
def test_an_issuer_that_somebody_put_there_without_the_pin_is_not_believed(token: TokenAddress) -> None:
    forger = demo_keys(3).issuers[0]
    with pkcs11.lib(str(MODULE)).get_token(token_label=token.token).open(rw=True) as without_pin:
        put = {Attribute.CLASS: ObjectClass.DATA, Attribute.LABEL: vault_pkcs11.ISSUER, Attribute.TOKEN: True, Attribute.PRIVATE: False}
        without_pin.create_object({**put, Attribute.VALUE: bytes((66,)) + forger.public})
    vault = VaultPkcs11(token)
    with pytest.raises(NotAuthentic, match="no issuer has this key id"):
        vault.grants.check(66, bytes(64), b"a grant")
    vault.close()


@with_token
def test_an_empty_token_says_how_to_fill_it(new_token: Callable[[], TokenAddress]) -> None:
    with pytest.raises(VaultTokenRefused, match="kazashi card keys --token"):
        VaultPkcs11(new_token())


@with_token
def test_two_keys_of_one_version_are_refused(token: TokenAddress) -> None:
    with session(token) as asked:
        asked.generate_key(KeyType.DES3, label=vault_pkcs11.CARD, id=b"\0\1", store=True, template={Attribute.EXTRACTABLE: False})
    with pytest.raises(VaultTokenRefused, match="two keys 'kazashi card' of version 1"):
        VaultPkcs11(token)


@with_token
def test_a_wrong_pin_is_said_once_and_never_tried_again(token: TokenAddress) -> None:
    vault = VaultPkcs11(token)
    assert vault._opened is not None
    vault._opened.session.close()
    token.pin_file.write_text("0000")
    for _ in range(2):
        with pytest.raises(VaultLost, match="refused the PIN"):
            vault.rider(IDM)
    token.pin_file.write_text(PIN)
    with pytest.raises(VaultLost, match="start anew"):
        vault.rider(IDM)
    token.pin_file.write_text("0000")
    with pytest.raises(VaultTokenRefused, match="refused the PIN"):
        VaultPkcs11(token)


@with_token
def test_a_pin_file_that_others_may_read_is_refused(token: TokenAddress) -> None:
    token.pin_file.chmod(0o644)
    with pytest.raises(VaultTokenRefused, match="chmod 600"):
        VaultPkcs11(token)


@with_token
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"module": Path("nowhere.so")}, "cannot be loaded"),
        ({"token": "another"}, "no such token"),
        ({"pin_file": Path("nowhere.pin")}, "PIN cannot be read"),
    ],
)
def test_what_is_not_there_is_said_in_one_sentence(token: TokenAddress, change: dict[str, object], said: str) -> None:
    with pytest.raises(VaultTokenRefused, match=said) as refused:
        VaultPkcs11(replace(token, **change))
    assert PIN not in str(refused.value)


# --- a token that goes away ---


@with_token
def test_a_lost_session_is_opened_again_without_anybody_noticing(inside: VaultPkcs11) -> None:
    expected = inside.rider(bytes(8))
    assert inside._opened is not None
    inside._opened.session.close()
    assert inside.rider(IDM) == VaultFile(demo_keys(1)).rider(IDM)
    pkcs11.lib(str(MODULE)).finalize()
    assert inside.rider(bytes(8)) == expected


@with_token
def test_an_unplugged_token_is_an_event_and_a_plugged_one_serves_again(tokens: Path, token: TokenAddress) -> None:
    vault = VaultPkcs11(token)
    with unplugged(tokens):
        for _ in range(2):
            with pytest.raises(ReaderLost, match="token 'bus"):
                vault.challenge(IDM, challenge(16))
    assert vault.rider(IDM) == VaultFile(demo_keys(1)).rider(IDM)
    vault.close()


@contextmanager
def unplugged(tokens: Path) -> Generator[None]:
    """Every token of the module is gone for a while, from its memory too."""
    (tokens / "tokens").rename(tokens / "away")
    (tokens / "tokens").mkdir()
    pkcs11.lib(str(MODULE)).reinitialize()
    yield
    (tokens / "tokens").rmdir()
    (tokens / "away").rename(tokens / "tokens")


@with_token
def test_without_its_token_a_bus_says_that_it_is_out_of_order_and_with_it_goes_on(
    tmp_path: Path, tokens: Path, new_token: Callable[[], TokenAddress]
) -> None:
    town, vault = on_a_bus(tmp_path, new_token())
    bus, card = town.vehicles[0], town.card()
    assert bus.touch(card)[-1] is Message.BOARDED
    bus.ride_to(4)
    with unplugged(tokens):
        said = bus.touch(card)
        assert Message.OUT_OF_ORDER in said
        assert Message.PAID not in said
    assert bus.touch(card)[-1] is Message.PAID
    assert [verdict.why for verdict in town.verdicts() if not verdict.held] == []
    vault.close()


@with_token
def test_another_token_under_the_same_label_is_not_taken_for_the_first(token: TokenAddress) -> None:
    vault = VaultPkcs11(token)
    empty(token)
    fill(token, demo_keys(1))
    for _ in range(2):
        with pytest.raises(VaultLost, match="start the program again"):
            vault.rider(IDM)
    vault.close()


# --- the command and the configuration ---


@with_token
def test_the_command_fills_a_token_from_the_desks_file_and_empties_it(
    tmp_path: Path, new_token: Callable[[], TokenAddress], capsys: pytest.CaptureFixture[str]
) -> None:
    address = new_token()
    write_keys(tmp_path / "desk.toml", demo_keys(1))
    assert cli.main(["card", "keys", "--keys", str(tmp_path / "desk.toml"), "--token", address.text]) == 0
    told = capsys.readouterr().out
    assert "device key: made inside (EDDSA)" in told
    assert all(secret.hex() not in told for secret in (demo_keys(1).rider, demo_keys(1).cards[0].master))
    with closing(compose.open_vault(address.text)) as vault:
        assert vault.rider(IDM) == VaultFile(demo_keys(1)).rider(IDM)
    assert cli.main(["card", "keys", "--token", address.text, "--empty"]) == 0
    assert "5 objects destroyed" in capsys.readouterr().out


def test_the_command_says_how_a_token_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_keys(tmp_path / "desk.toml", demo_keys(1))
    assert cli.main(["card", "keys", "--keys", str(tmp_path / "desk.toml"), "--token", "bus.toml"]) != 0
    assert "pkcs11:MODULE?token=LABEL&pin-file=PATH" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ("bus.keys", "file:{folder}/bus.keys"),
        ("file:bus.keys", "file:{folder}/bus.keys"),
        ("pkcs11:/lib/m.so?token=bus%201&pin-file=bus.pin", "pkcs11:/lib/m.so?token=bus%201&pin-file={folder}/bus.pin"),
    ],
)
def test_a_vehicles_configuration_names_a_file_or_a_token(tmp_path: Path, said: str, named: str) -> None:
    (tmp_path / "bus.toml").write_text(f'[keys]\nfile = "{said}"\n')
    assert config.load([EXAMPLE, tmp_path / "bus.toml"]).keys.text == named.format(folder=tmp_path)


def test_a_configuration_whose_token_is_incomplete_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "bus.toml").write_text('[keys]\nfile = "pkcs11:/lib/m.so?token=bus"\n')
    with pytest.raises(Failure, match=r"keys\.file.*pin-file is missing"):
        config.load([EXAMPLE, tmp_path / "bus.toml"])


# --- addresses ---


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("build/bus.keys", FileAddress(Path("build/bus.keys"))),
        ("file:/etc/kazashi/bus%20keys", FileAddress(Path("/etc/kazashi/bus keys"))),
        ("pkcs11:/lib/m.so?token=bus%201&pin-file=/etc/pin", TokenAddress(Path("/lib/m.so"), "bus 1", Path("/etc/pin"))),
        ("pkcs11:m.so?pin-file=pin&token=%26", TokenAddress(Path("m.so"), "&", Path("pin"))),
    ],
)
def test_a_short_text_names_a_vault(text: str, named: FileAddress | TokenAddress) -> None:
    assert parse_address(text) == named
    assert parse_address(named.text) == named


@pytest.mark.parametrize(
    "text",
    [
        "",
        "file:",
        "pkcs11:",
        "pkcs11:m.so",
        "pkcs11:m.so?token=t",
        "pkcs11:?token=t&pin-file=p",
        "pkcs11:m.so?token=&pin-file=p",
        "pkcs11:m.so?token=t&token=u&pin-file=p",
        "pkcs11:m.so?token=t&pin-file=p&pin=4649",
    ],
)
def test_a_text_that_names_no_vault_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="pkcs11:MODULE"):
        parse_address(text)


@given(st.text(min_size=1), st.text(min_size=1), st.text(min_size=1))
def test_every_token_address_reads_back(module: str, label: str, pin_file: str) -> None:
    address = TokenAddress(Path(module), label, Path(pin_file))
    assert parse_address(address.text) == address


def test_relative_paths_are_taken_from_the_folder_of_the_file_that_names_them() -> None:
    assert parse_address("pkcs11:m.so?token=t&pin-file=p").beneath(Path("/etc")).text == "pkcs11:/etc/m.so?token=t&pin-file=/etc/p"
    assert parse_address("bus.keys").beneath(Path("/etc")).text == "file:/etc/bus.keys"
