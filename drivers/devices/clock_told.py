"""Adapter: asks chrony and gpsd about the wall clock, each by its own protocol."""

import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress

from drivers.devices.clock_sources import Fix, fix_in

_PATIENCE_S = 5.0
_MOST_BYTES = 64 * 1024
_WATCH = b'?WATCH={"enable":true,"json":true};\n'


def tracking(command: Sequence[str] = ("chronyc", "-c", "tracking")) -> str:
    """What chrony says; nothing when it cannot be asked."""
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE_S)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""
    return told.stdout if told.returncode == 0 else ""


def fix(address: tuple[str, int] = ("127.0.0.1", 2947)) -> Fix | None:
    """The receiver's time by gpsd; None when it has none within some seconds, or is not there."""
    until_s = time.monotonic() + _PATIENCE_S
    with suppress(OSError), socket.create_connection(address, _PATIENCE_S) as gpsd:
        gpsd.sendall(_WATCH)
        read = b""
        while len(read) < _MOST_BYTES and (left_s := until_s - time.monotonic()) > 0:
            gpsd.settimeout(left_s)
            piece = gpsd.recv(4096)
            if not piece:
                break
            read += piece
            *lines, read = read.split(b"\n")
            for line in lines:
                if (found := fix_in(line.decode(errors="replace"))) is not None:
                    return found
    return None
