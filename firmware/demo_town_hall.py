"""The demo's town hall: the city's door and the clerks' pages in a process of its own, on loopback.

Everything in it is what a city has, put together where a city's is (``backoffice.compose``). Only its clock is the demo's, which skips:
each line on the standard input says how much was skipped so far and is answered when it holds. When the input ends, so does the process,
whoever started it.

The back office's libraries are imported inside, because no vehicle has them.
"""

import json
import logging
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import cast

from drivers.emulated.skipping_clock import SkippingClock
from firmware import compose

_INSIST_S = 0.5


def main() -> int:
    """Read from the first line where the settings are and what time it is; serve until the input ends."""
    from backoffice import compose as office

    file, origin_ns, utc_ms, skipped_ns = cast("tuple[str, int, int, int]", json.loads(sys.stdin.readline()))
    clock = SkippingClock(origin_ns, utc_ms, skipped_ns)
    settings = office.settings_of(Path(file))
    logging.basicConfig(filename=Path(file).with_name("city.log"), level=logging.INFO, format="%(name)s %(message)s")
    key, pages = compose.open_city_key(settings.keys), office.office_of(settings)
    with office.bind(replace(settings, listen=replace(settings.listen, port=0))) as door:
        _write(int(door.getsockname()[1]))
        threading.Thread(target=_follow, args=(clock,), daemon=True).start()
        office.serve(settings, (key,), door, pages, lambda: clock.now().utc_ms)
    return 0


def _follow(clock: SkippingClock) -> None:
    for line in sys.stdin:
        clock.skipped_ns = int(line)
        _write(clock.skipped_ns)
    while True:  # a signal that comes before the server takes it is lost
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_INSIST_S)


def _write(number: int) -> None:
    os.write(sys.stdout.fileno(), f"{number}\n".encode())


if __name__ == "__main__":
    sys.exit(main())
