"""A PostgreSQL of the tests' own: in a folder of its own, on a unix socket, without fsync."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

import psycopg
from psycopg import sql

READY_S = 60.0
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_connections": "200",
    "shared_buffers": "32MB",
    # Whoever waits for so long is looked at for a deadlock; the log then tells of it.
    "deadlock_timeout": "100ms",
    "log_lock_waits": "on",
    "autovacuum": "off",
}


def missing() -> str:
    """Return why no server can be started here, empty if one can."""
    if program("initdb") is None:
        return "PostgreSQL is not installed (Debian: postgresql)"
    if shutil.which("setpriv") is None:
        return "setpriv is not installed (Debian: util-linux)"
    return ""


def program(name: str) -> str | None:
    """Return the path of one of PostgreSQL's programs; Debian keeps the server's out of PATH."""
    found = shutil.which(name)
    if found is not None:
        return found
    homes = Path("/usr/lib/postgresql").glob(f"*/bin/{name}")
    return next((str(path) for path in sorted(homes, reverse=True)), None)


class Server:
    """A server from `with` on. Everybody on its socket may do anything, but for `locked_in`."""

    def __init__(self) -> None:
        # Short: the path of a unix socket has 107 characters at most.
        self.folder = Path(tempfile.mkdtemp(prefix="wk-pg-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.data = self.folder / "data"
        self.log = self.folder / "log"
        self._owner = ["setpriv"]
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = 0

    def __enter__(self) -> Self:
        try:
            self._make()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def url(self, name: str, user: str = "postgres", password: str = "") -> str:
        """Return the URL of a database, as `ledger.url` has it."""
        who = f"{user}:{password}" if password else user
        return f"postgresql://{who}@/{name}?host={self.folder}"

    def database(self, template: str = "template1") -> str:
        """Make a database and return its name."""
        self._numbers += 1
        name = f"t{self._numbers}"
        self.run(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        return name

    def drop(self, name: str) -> None:
        """Drop a database, whoever still uses it."""
        self.run(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def run(self, statement: sql.Composed, database: str = "postgres") -> None:
        """Run one statement as superuser."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                # It ends with the tests, however they end.
                [*self._owner, "--pdeathsig=QUIT", _path("postgres"), "-D", str(self.data),
                 "-k", str(self.folder), *settings],
                stdout=log, stderr=log, cwd=self.folder,
            )  # fmt: skip
        until_s = time.monotonic() + READY_S
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > until_s:
                    raise RuntimeError(self.log.read_text()) from None
                time.sleep(0.02)
            else:
                return

    def stop(self, *, at_once: bool = True) -> None:
        """End it: `at_once` as a crash, else with every session cut off in order."""
        if self._process is not None:
            mode = "immediate" if at_once else "fast"
            subprocess.run(
                [*self._owner, _path("pg_ctl"), "stop", "-D", str(self.data), "-m", mode],
                stdout=subprocess.DEVNULL, check=True, timeout=READY_S, cwd=self.folder,
            )  # fmt: skip
            self._process.wait(READY_S)
            self._process = None

    def close(self) -> None:
        """Stop it and remove what it left."""
        try:
            if self._process is not None and self._process.poll() is None:
                self.stop()
        finally:
            if self._process is not None:
                self._process.kill()
                self._process.wait()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _make(self) -> None:
        if os.geteuid() == 0:
            # PostgreSQL refuses to run as root.
            self._owner += ["--reuid=nobody", "--regid=nogroup", "--clear-groups"]
            shutil.chown(self.folder, "nobody", "nogroup")
        subprocess.run(
            [*self._owner, _path("initdb"), "-D", str(self.data), "-U", "postgres", "-A", "trust",
             "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"],
            stdout=subprocess.DEVNULL, check=True, timeout=READY_S, cwd=self.folder,
        )  # fmt: skip
        # Roles of this name have to show their password, also on the socket.
        rules = self.data / "pg_hba.conf"
        rules.write_text("local all locked_in scram-sha-256\n" + rules.read_text())


def _path(name: str) -> str:
    path = program(name)
    assert path is not None
    return path
