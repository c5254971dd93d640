"""A disk that writes down what is done to it: a plug-in of nbdkit's (nbdkit-python-plugin(3)), never imported by us.

``disk=FILE`` is what is read and written, ``log=FILE`` gets a record for each write and flush when it is answered (its form stands in
``disk_log``). Requests run beside each other, and each takes a moment, as on a real disk: a flush that comes while a write is still under
way has promised nothing about it, and a server that did one thing after the other would hide that.

It runs under Debian's own Python, so it needs nothing but the standard library.
"""

import os
import struct
import threading
import time

API_VERSION = 2
_PARALLEL = 3  # NBDKIT_THREAD_MODEL_PARALLEL
_RECORD = struct.Struct("<cxxxIQQQ")  # disk_log.RECORD
_TAKES_S = 0.0003
_given: dict[str, str] = {}
_open: dict[str, int] = {}
_one_at_a_time = threading.Lock()


def thread_model() -> int:
    """As many requests at a time as the client likes."""
    return _PARALLEL


def config(key: str, value: str) -> None:
    """``disk=`` and ``log=``."""
    if key not in {"disk", "log"}:
        raise ValueError(f"{key}= is not known here; say disk=FILE log=FILE")
    _given[key] = value


def config_complete() -> None:
    """Open both; the log begins empty."""
    if missing := {"disk", "log"} - _given.keys():
        raise ValueError(f"{min(missing)}= is missing; say disk=FILE log=FILE")
    _open["disk"] = os.open(_given["disk"], os.O_RDWR)
    _open["log"] = os.open(_given["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)


def _come(_readonly: object) -> int:
    """A client has come."""
    return 1


globals()["open"] = _come  # nbdkit asks for it by this name, which is a built-in's


def get_size(_client: int) -> int:
    """In bytes."""
    return os.fstat(_open["disk"]).st_size


def pread(_client: int, wanted: bytearray, offset: int, _flags: int) -> None:
    """Fill ``wanted``."""
    os.preadv(_open["disk"], [wanted], offset)


def pwrite(_client: int, data: bytes, offset: int, _flags: int) -> None:
    """Write, and write down what."""
    begin_ns = time.monotonic_ns()
    time.sleep(_TAKES_S)
    os.pwrite(_open["disk"], data, offset)
    _note(b"W", begin_ns, offset, bytes(data))


def flush(_client: int, _flags: int) -> None:
    """Promise that all that was answered before is on the disk."""
    begin_ns = time.monotonic_ns()
    time.sleep(_TAKES_S)
    _note(b"F", begin_ns, 0, b"")


def _note(kind: bytes, begin_ns: int, offset: int, data: bytes) -> None:
    with _one_at_a_time:
        os.writev(_open["log"], (_RECORD.pack(kind, len(data), begin_ns, time.monotonic_ns(), offset), data))
