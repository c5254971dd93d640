"""What a tap costs with its keys in a token, beside a file: SoftHSM2, which is software, so this is what PKCS#11 itself costs, and no chip.

No bar but that the two agree: a real token's time is its maker's. A challenge is worked out while the card stores it; a rider's hash, too.
"""

import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rows import Row

from drivers.vault import TerminalVault, TokenAddress
from drivers.vault_file import CardMaster, KeySet, VaultFile, demo_keys
from drivers.vault_pkcs11 import VaultPkcs11, fill

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "4649"
TIMES = 300
MESSAGE = bytes(8_000)  # a batch of 200 rides


def rows() -> list[Row]:
    """All figures of the vaults; one row that says so when there is no SoftHSM2."""
    if not MODULE.exists():
        return [Row("vault in a token", "not measured: SoftHSM2 is not installed", "none", ok=True)]
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder, before = Path(name), os.environ.get("SOFTHSM2_CONF")
        os.environ["SOFTHSM2_CONF"] = str(_configured(folder))
        try:
            return _compared(folder)
        finally:
            os.environ.pop("SOFTHSM2_CONF")
            if before is not None:
                os.environ["SOFTHSM2_CONF"] = before


def _configured(folder: Path) -> Path:
    (folder / "tokens").mkdir()
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n")
    return configuration


def _compared(folder: Path) -> list[Row]:
    one = demo_keys(1)
    two = replace(one, cards=(CardMaster(2, bytes(range(24))), *one.cards))
    inside, inside_two = _token(folder, "one", one), _token(folder, "two", two)
    file, file_two = VaultFile(one), VaultFile(two)
    agree = all(vault.rider(bytes(8)) == file.rider(bytes(8)) for vault in (inside, inside_two))
    return [
        _row("challenge, one card key version", inside, file, _challenge, agree=agree),
        _row("challenge, two versions (a rotation)", inside_two, file_two, _challenge, agree=agree),
        _row("rider", inside, file, lambda vault, at: vault.rider(at.to_bytes(8, "big")), agree=agree),
        _row("device's signature over 8 kB", inside, file, lambda vault, _at: vault.sign(MESSAGE), agree=agree),
    ]


def _challenge(vault: TerminalVault, at: int) -> object:
    return vault.challenge(at.to_bytes(8, "big"), bytes(16))


def _token(folder: Path, label: str, keys: KeySet) -> VaultPkcs11:
    told = ["softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", "12345678", "--pin", PIN]
    subprocess.run([shutil.which(told[0]) or told[0], *told[1:]], check=True, capture_output=True)
    pin_file = folder / f"{label}.pin"
    pin_file.touch(mode=0o600)
    pin_file.write_text(PIN)
    address = TokenAddress(MODULE, label, pin_file)
    fill(address, keys)
    return VaultPkcs11(address)


def _row(what: str, inside: TerminalVault, file: TerminalVault, ask: Callable[[TerminalVault, int], object], *, agree: bool) -> Row:
    (token_p50, token_p99), (file_p50, _) = _times(inside, ask), _times(file, ask)
    value = f"p50 {token_p50 * 1000:.2f} ms, p99 {token_p99 * 1000:.2f} ms; file {file_p50 * 1000:.3f} ms"
    return Row(f"vault in a token: {what}", value, "none", agree)


def _times(vault: TerminalVault, ask: Callable[[TerminalVault, int], object]) -> tuple[float, float]:
    taken: list[float] = []
    for at in range(TIMES):
        began = time.perf_counter()
        ask(vault, at)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken), sorted(taken)[TIMES * 99 // 100]
