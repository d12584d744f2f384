"""A PostgreSQL server for a test, on a local socket of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

BINARIES = [
    *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True),
    Path("/usr/local/bin"),
]


def find(name):
    """Path of a program of PostgreSQL, "" where it is absent; Debian keeps them off the PATH."""
    found = [str(folder / name) for folder in BINARIES if (folder / name).is_file()]
    return found[0] if found else shutil.which(name) or ""


def reason_to_skip():
    if not find("initdb"):
        return "PostgreSQL is absent (Debian: apt-get install postgresql)"
    if os.getuid() == 0 and not _user():
        return "PostgreSQL refuses to run as root, and there is no user postgres"
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "the driver is absent (pip install 'psycopg[binary]')"
    return ""


def _user():
    with suppress(KeyError):
        return pwd.getpwnam("postgres")
    return None


class Server:
    """The server; ``url`` is what SQLAlchemy takes."""

    def __init__(self, folder):
        self.folder, self.process = Path(folder), None
        self.url = f"postgresql+psycopg://mmpanoptic@/postgres?host={self.folder}"

    def _as_user(self, command, **options):
        user = _user() if os.getuid() == 0 else None
        who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "LC_ALL": "C"}
        return subprocess.Popen(
            command, env=env, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            **who, **options,
        )  # fmt: skip

    def initialise(self):
        if os.getuid() == 0:
            os.chown(self.folder, _user().pw_uid, _user().pw_gid)
        options = ["-U", "mmpanoptic", "-A", "trust", "--no-sync", "-E", "UTF8"]
        done = self._as_user([find("initdb"), "-D", str(self.folder / "data"), *options])
        text, _ = done.communicate()
        assert done.returncode == 0, text.decode()[-2000:]

    def start(self):
        settings = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={self.folder}"]
        command = [find("postgres"), "-D", str(self.folder / "data"), *settings]
        with open(self.folder / "log", "ab") as log:
            user = _user() if os.getuid() == 0 else None
            who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, **who)
        end = time.monotonic() + 60
        while not (self.folder / ".s.PGSQL.5432").exists():
            assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
            assert time.monotonic() < end, "PostgreSQL does not start"
            time.sleep(0.05)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # fast: connections are cut
            self.process.wait(60)


@contextmanager
def server():
    """Run a server until the block ends."""
    # A socket's path must be short, so no folder of pytest's.
    folder = tempfile.mkdtemp(prefix="pg-", dir="/tmp")
    one = Server(folder)
    try:
        one.initialise()
        one.start()
        yield one
    finally:
        one.stop()
        shutil.rmtree(folder, ignore_errors=True)
