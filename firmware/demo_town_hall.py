"""The demo's town hall: the city's door and the clerks' pages in a process of its own, on loopback.

Everything in it is what a city has: the settings file, the database, the application, the server. Only its clock is the demo's, which
skips: each line on the standard input says how much was skipped so far and is answered when it holds. When the input ends, so does the
process, whoever started it.

The back office's libraries are imported inside, because no vehicle has them.
"""

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from drivers.emulated.skipping_clock import SkippingClock
from firmware import compose

if TYPE_CHECKING:
    from backoffice.settings import Settings

_INSIST_S = 0.5


def main() -> int:
    """Read from the first line where the settings are and what time it is; serve until the input ends."""
    from backoffice import compose as office
    from backoffice import server

    file, origin_ns, utc_ms, skipped_ns = cast("tuple[str, int, int, int]", json.loads(sys.stdin.readline()))
    clock = SkippingClock(origin_ns, utc_ms, skipped_ns)
    settings = office.settings_of(Path(file))
    logging.basicConfig(filename=Path(file).with_name("city.log"), level=logging.INFO, format="%(name)s %(message)s")
    with server.bind(settings.listen.host, 0) as door:
        _write(int(door.getsockname()[1]))
        threading.Thread(target=_follow, args=(clock,), daemon=True).start()
        server.serve(lambda: _application(settings, lambda: clock.now().utc_ms), door, 1)
    return 0


@contextmanager
def _application(settings: "Settings", now_ms: Callable[[], int]) -> Generator[Callable[..., Any]]:
    from backoffice import billing
    from backoffice import compose as office
    from backoffice.api import create_app
    from backoffice.bill import Month
    from backoffice.city import City
    from backoffice.console.pages import Bill, Desk, console_router
    from backoffice.console_queries import ConsoleBooks
    from backoffice.registry import CityBooks
    from drivers.signing import SignatureChecker

    desk = office.office_of(settings)
    with office.open_store(settings) as store:
        store.migrate()
        books = CityBooks(store)
        city = City(books, (compose.open_city_key(settings.keys),), SignatureChecker(), now_ms, settings.pace)
        if desk is None:
            yield create_app(city, settings.limits)
            return

        def bill(operator: str, first: Any, kind: str) -> Bill | None:
            month = Month(first.year, first.month)
            try:
                content = billing.bill_file(store, settings, operator, month, kind=kind, now_ms=now_ms())
            except billing.CannotBill:
                return None
            return Bill(content, {"pdf": "application/pdf", "csv": "text/csv; charset=utf-8"}[kind], f"{operator}-{month}.{kind}")

        noted = logging.getLogger("kazashi.console").info
        asked = ConsoleBooks(store, books)
        pages = Desk(asked, desk.clerks, desk.secret, desk.rider, now_ms, settings.zone, noted, settings.health, bill)
        yield create_app(city, settings.limits, (console_router(pages),))


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
