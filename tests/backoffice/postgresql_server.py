"""A PostgreSQL of one's own, in a folder of its own, on a Unix socket: for tests and for the bench."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psycopg

PROGRAMS = Path("/usr/lib/postgresql/15/bin")
USER = "kazashi"


class Server:
    """``safe``: flushes as a real one does; tests that kill no machine need not wait for that."""

    def __init__(self, *, safe: bool, settings: tuple[str, ...] = ()) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="kazashi-pg-"))
        self._as = _somebody()
        if self._as:
            shutil.chown(self.folder, *self._as)
        self._settings = (*(() if safe else ("fsync=off", "synchronous_commit=off", "full_page_writes=off")), *settings)
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        options = ("-D", str(self.folder / "data"), "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "-k", "--no-sync")
        subprocess.run([str(PROGRAMS / "initdb"), *options], check=True, stdout=subprocess.DEVNULL, cwd="/", **self._identity())
        self.start()

    @staticmethod
    def is_here() -> bool:
        return (PROGRAMS / "postgres").exists() and (os.geteuid() != 0 or _somebody() is not None)

    def url(self, database: str = "postgres", user: str = USER) -> str:
        return f"postgresql://{user}@/{database}?host={self.folder}"

    def start(self) -> None:
        settings = [part for setting in ("listen_addresses=", "max_connections=60", *self._settings) for part in ("-c", setting)]
        command = [str(PROGRAMS / "postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder), *settings]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", **self._identity())
        self.wait()

    def wait(self) -> None:
        """Until it answers."""
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.url()).close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    def execute(self, *statements: str, database: str = "postgres") -> None:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def new_database(self, template: str = "template0") -> str:
        """The name of a new one."""
        self._databases += 1
        name = f"books_{self._databases}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def backends(self) -> list[int]:
        """Processes of the server that work for a client; none while it recovers."""
        asked = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        with suppress(psycopg.OperationalError), psycopg.connect(self.url(), autocommit=True) as connection:
            return [row[0] for row in connection.execute(asked)]
        return []

    def kill(self) -> None:
        """The whole server at once, as a machine that stops; not one of its processes gets to say a word."""
        assert self._process
        pids = [self._process.pid, *_children(self._process.pid)]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        while any(Path(f"/proc/{pid}/stat").exists() and _state(pid) != "Z" for pid in pids):
            time.sleep(0.005)
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)

    def close(self) -> None:
        """Nothing of it is wanted any more, so nothing needs to be put in order."""
        if self._process and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _identity(self) -> dict[str, object]:
        return {"user": self._as[0], "group": self._as[1], "extra_groups": []} if self._as else {}


def _somebody() -> tuple[str, str] | None:
    """Root may not run PostgreSQL; then it is Debian's own user for it."""
    if os.geteuid() != 0:
        return None
    with suppress(KeyError):
        pwd.getpwnam("postgres")
        return "postgres", "postgres"
    return None


def _children(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
    return found


def _state(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return "Z"
