"""Adapter: an ASGI application on a socket (uvicorn), by one process or by several that share it.

The socket is bound before anything else happens, so that a port that is taken is a sentence and not half a start. A request that is being
worked on when the server is told to stop is finished (``GRACE_S``); a vehicle whose batch was cut off sends it again.

Several processes are for a machine with several cores and PostgreSQL: Python decodes in one core per process. They are forked before any
has threads or a database connection. When one of them dies, all stop, and whoever started the server starts it again: a server that goes
on with fewer hands than it was given is a fault that nobody sees.
"""

import multiprocessing
import multiprocessing.connection
import signal
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any

import uvicorn

GRACE_S = 20
BACKLOG = 1024
MAX_HEAD = 16 * 1024


Opening = Callable[[], AbstractContextManager[Callable[..., Any]]]
"""Opens an ASGI application, and closes what it stands on."""


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0: any that is free. Raises ``OSError``."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
        found.listen(BACKLOG)
    except OSError:
        found.close()
        raise
    return found


def serve(application: Opening, door: socket.socket, workers: int) -> bool:
    """Serve until SIGTERM or SIGINT; whether it ended because it was told to. ``application`` opens it, once in each process."""
    if workers == 1:
        _work(application, door)
        return True
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_work, args=(application, door)) for _ in range(workers)]
    for child in children:
        child.start()
    told: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        told.append(number)
        for child in children:
            child.terminate()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    multiprocessing.connection.wait([child.sentinel for child in children])
    for child in children:
        child.terminate()
        child.join()
    return bool(told)


def _work(application: Opening, door: socket.socket) -> None:
    # uvicorn takes the signals while it serves, and raises them again when it has stopped; then there is nothing left to stop.
    signal.signal(signal.SIGTERM, _done)
    signal.signal(signal.SIGINT, _done)
    with application() as app:
        config = uvicorn.Config(
            app,
            http="h11",
            loop="asyncio",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=MAX_HEAD,
            timeout_graceful_shutdown=GRACE_S,
        )
        uvicorn.Server(config).run([door])


def _done(_number: int, _frame: FrameType | None) -> None:
    return
