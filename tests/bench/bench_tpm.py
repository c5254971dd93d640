"""What a signature costs with the device key in a TPM, beside a file: swtpm, which is software, so this is what the conversation costs.

No bar but that a stranger to the TPM believes the signatures: a chip's time is its maker's.
"""

import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rows import Row

from drivers.signer import Signer
from drivers.signing import Ed25519Key, SignatureChecker
from drivers.signing_tpm import TpmKey, new_key

TIMES = 300
MESSAGE = bytes(8_000)  # a batch of 200 rides


def rows() -> list[Row]:
    """All figures of the TPM; one row that says so when there is no swtpm."""
    if shutil.which("swtpm") is None:
        return [Row("device key in a TPM", "not measured: swtpm is not installed", "none", ok=True)]
    with tempfile.TemporaryDirectory(prefix="tpm-") as name:
        device = Path(name) / "tpm"
        told = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={name}", "--server", f"type=unixio,path={device}"]
        process = subprocess.Popen([*told, "--flags", "not-need-init,startup-clear"], stderr=subprocess.DEVNULL)
        try:
            _wait_for(device)
            return _measured(device)
        finally:
            process.terminate()
            process.wait(10)


def _wait_for(device: Path) -> None:
    for _ in range(1000):
        with socket.socket(socket.AF_UNIX) as line:
            if line.connect_ex(str(device)) == 0:
                return
        time.sleep(0.005)
    raise TimeoutError(device)


def _measured(device: Path) -> list[Row]:
    inside, file = TpmKey(device, new_key(device)), Ed25519Key(bytes(32))
    made, signed, in_a_file = _times(lambda: new_key(device)), _times(lambda: inside.sign(MESSAGE)), _times(lambda: file.sign(MESSAGE))
    believed = _believed(inside)
    return [
        Row("device key in a TPM (swtpm): one is made", f"p50 {made[0]:.1f} ms, p99 {made[1]:.1f} ms", "none", ok=True),
        Row(
            "device key in a TPM (swtpm): a signature over 8 kB",
            f"p50 {signed[0]:.1f} ms, p99 {signed[1]:.1f} ms; file (Ed25519) {in_a_file[0]:.2f} ms",
            "believed",
            believed,
        ),
    ]


def _believed(signer: Signer) -> bool:
    SignatureChecker().check(signer.algorithm, signer.public, signer.sign(MESSAGE), MESSAGE)
    return True


def _times(ask: Callable[[], object]) -> tuple[float, float]:
    taken: list[float] = []
    for _ in range(TIMES):
        began = time.perf_counter()
        ask()
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken), sorted(taken)[TIMES * 99 // 100]
