"""An MLflow server for several machines: runs in PostgreSQL, artifacts in S3-compatible storage; Ctrl-C stops it.

    make store                                                  # installs requirements-store.txt into .store first
    python -m tools.store [--port 5000] [--host 127.0.0.1] [--folder .store]

PostgreSQL comes from the system's packages and the S3 server is rclone; both listen on this machine only, with
passwords generated at the first start. Clients need only the address of the MLflow server, which passes artifacts on.
Everything is kept in the folder: postgresql/ is the database, objects/ the artifacts, *.log what the servers print.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from face_mask import errors
from face_mask.errors import UserError

FOLDER = Path(".store")  # which Git ignores
PACKAGES = Path(__file__).resolve().parent.parent / FOLDER / "packages"
BUCKET, USER, DATABASE = "mlflow", "mlflow", "postgres"
MARK = "FACE_MASK_STORE"  # in the environment of all processes of a store: its folder
START_SECONDS, STOP_SECONDS, ABSENT_SECONDS = 300, 20, 10


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def check_port(host: str, port: int) -> None:
    """Raise UserError if the port is not available."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that was closed a moment ago is available
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise UserError(f"port {port} of {host} is not available ({error}): choose one with --port") from None


def keys(folder: Path) -> dict[str, str]:
    """The passwords of this store, generated at its first start; only its user can read the file."""
    path = folder / "keys.json"
    if not path.is_file():
        made = {name: secrets.token_hex(20) for name in ("database", "access_key", "secret_key")}
        temporary = path.with_suffix(".new")
        temporary.touch(mode=0o600)
        temporary.write_text(json.dumps(made))
        temporary.replace(path)
    return dict(json.loads(path.read_text()))


def executables(data: Path) -> Path:
    """The folder of PostgreSQL's programs: those that created the database or, for a new one, the latest version.

    Raises UserError if they are not installed.
    """
    wanted = (data / "PG_VERSION").read_text().strip() if (data / "PG_VERSION").is_file() else None
    folders = {path.parent.parent.name: path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")}
    if not folders and (found := shutil.which("initdb")):  # other systems have it in PATH
        printed = subprocess.run([found, "--version"], capture_output=True, text=True).stdout
        folders[printed.split()[-1].partition(".")[0] if printed else ""] = Path(found).resolve().parent
    if wanted in folders or (folders and wanted is None):
        return folders[wanted or max(folders, key=float)]
    package = f"postgresql-{wanted}" if wanted else "postgresql"
    raise UserError(f"PostgreSQL {wanted or ''} is not installed: `apt-get install {package}`, then run this again")


class Database:
    """A PostgreSQL server of its own in a folder, on loopback, which only the user with the password can use."""

    def __init__(self, folder: Path, password: str) -> None:
        self.folder, self.data, self.password = folder, folder / "data", password
        self.executables = executables(self.data)
        self.options: dict[str, Any] = {"cwd": "/", "env": environment(folder.parent, LC_ALL="C.UTF-8")}
        folder.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            known = {one.pw_name: one for one in pwd.getpwall()}
            owner = known.get("postgres") or known["nobody"]
            self.options |= {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
            os.chown(folder, owner.pw_uid, owner.pw_gid)
            if subprocess.run(["test", "-w", str(folder)], **self.options).returncode:
                raise UserError(
                    f"{folder} cannot be reached by the user {owner.pw_name}, since PostgreSQL does not run as root:"
                    " run this as another user, or choose another place with --folder"
                )

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess:
        """Run one of PostgreSQL's programs."""
        # Not through a pipe: the server, which `pg_ctl start` leaves behind, would keep it open.
        command = [str(self.executables / program), *arguments]
        with (self.folder.parent / "postgresql.log").open("a") as log:
            return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self.options)

    def control(self, *arguments: str) -> bool:
        return self.run("pg_ctl", "-D", str(self.data), "-w", "-t", str(START_SECONDS), *arguments).returncode == 0

    @contextmanager
    def running(self) -> Iterator[int]:
        """Start the server, after creating the database if there is none; yields its port and stops it at the end."""
        if not self.data.exists():
            new = self.folder / "data.new"
            shutil.rmtree(new, ignore_errors=True)  # of a start that was interrupted
            secret = self.folder / "password"  # a file, for initdb cannot open a pipe of another user
            secret.write_text(self.password)
            secret.chmod(0o644)  # in a folder that is closed to others
            how = ("-U", USER, "-A", "scram-sha-256", f"--pwfile={secret}", "-E", "UTF8", "--locale=C", "-k")
            code = self.run("initdb", *how, "-D", str(new)).returncode
            secret.unlink()
            if code:
                raise UserError(f"PostgreSQL could not create {self.data}: see {self.folder.parent}/postgresql.log")
            new.rename(self.data)
        if self.control("status"):  # left by a store that was killed
            self.control("stop", "-m", "fast")
        port = free_port()
        settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        try:  # SIGTERM may come while it starts
            if not self.control("start", "-o", settings):
                raise UserError(f"PostgreSQL did not start: see {self.folder.parent}/postgresql.log")
            yield port
        finally:
            self.control("stop", "-m", "fast")

    def alive(self) -> bool:
        """Whether the server's process exists; it does not for a moment while the server is restarted."""
        with suppress(OSError, ValueError, IndexError):
            return psutil.pid_exists(int((self.data / "postmaster.pid").read_text().splitlines()[0]))
        return False


def environment(folder: Path, **variables: str) -> dict[str, str]:
    """The environment of a store's processes, which find the packages of requirements-store.txt first."""
    path = os.pathsep.join([str(PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {MARK: str(folder), "PYTHONPATH": path} | variables


@contextmanager
def process(name: str, command: list[str], folder: Path, **variables: str) -> Iterator[subprocess.Popen]:
    """Run a server, out of reach of the terminal's Ctrl-C, and stop it with its workers at the end."""
    with (folder / f"{name}.log").open("a") as log:
        started = subprocess.Popen(
            command, env=environment(folder, **variables), stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield started
    finally:
        for kind in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(started.pid, kind)
            with suppress(subprocess.TimeoutExpired):
                started.wait(STOP_SECONDS)


def end_leftovers(folder: Path) -> None:
    """End the processes of a store in this folder that was killed itself; PostgreSQL's are left to pg_ctl."""
    found = []
    for one in psutil.process_iter():
        with suppress(psutil.Error):
            if one.environ().get(MARK) == str(folder) and "postgres" not in one.name():
                found.append(one)
                one.kill()
    psutil.wait_procs(found, STOP_SECONDS)


def wait_for(address: str, name: str, server: subprocess.Popen, folder: Path) -> None:
    """Wait until a server answers, with any HTTP status. Raises UserError if it ends instead."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except urllib.error.HTTPError:  # of rclone, which wants a signature
            return
        except OSError:
            time.sleep(0.2)
    raise UserError(f"{name} did not start: see {folder}/{name}.log")


def serve(folder: Path, host: str, port: int) -> None:
    """Run the three servers until Ctrl-C. Raises UserError if one does not start or ends."""
    end_leftovers(folder)
    check_port(host, port)
    known = keys(folder)
    passwords = folder / "pgpass"
    passwords.touch(mode=0o600)
    passwords.write_text(f"127.0.0.1:*:*:{USER}:{known['database']}\n")
    (folder / "objects" / BUCKET).mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))
        database = Database(folder / "postgresql", known["database"])
        database_port = stack.enter_context(database.running())
        storage = f"127.0.0.1:{free_port()}"
        rclone = [program("rclone"), "serve", "s3", "--addr", storage, "--config", os.devnull, str(folder / "objects")]
        pair = f'"{known["access_key"]},{known["secret_key"]}"'  # quoted, as one value of a list
        servers = {"rclone": stack.enter_context(process("rclone", rclone, folder, RCLONE_AUTH_KEY=pair))}
        wait_for(f"http://{storage}/", "rclone", servers["rclone"], folder)
        mlflow = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "2"]
        mlflow += ["--artifacts-destination", f"s3://{BUCKET}", "--serve-artifacts"]
        variables = {
            "MLFLOW_BACKEND_STORE_URI": f"postgresql+psycopg://{USER}@127.0.0.1:{database_port}/{DATABASE}",
            "PGPASSFILE": str(passwords),
            "MLFLOW_S3_ENDPOINT_URL": f"http://{storage}",
            "AWS_ACCESS_KEY_ID": known["access_key"],
            "AWS_SECRET_ACCESS_KEY": known["secret_key"],
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # of language models
        }
        servers["mlflow"] = stack.enter_context(process("mlflow", mlflow, folder, **variables))
        reachable = "127.0.0.1" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        shown = f"http://{reachable}:{port}"
        wait_for(f"{shown}/health", "mlflow", servers["mlflow"], folder)
        print(f"store: data in {folder}; Ctrl-C stops it", f"export MLFLOW_TRACKING_URI={shown}", sep="\n", flush=True)
        try:
            watch(servers, database, folder)
        except KeyboardInterrupt:
            print("store: stopping", flush=True)
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # while the servers stop


def watch(servers: dict[str, subprocess.Popen], database: Database, folder: Path) -> None:
    """Return never. Raises UserError if a server ends, or if PostgreSQL is not there for ten seconds."""
    seen = time.monotonic()
    while True:
        time.sleep(1)
        for name, server in servers.items():
            if server.poll() is not None:
                raise UserError(f"{name} ended: see {folder}/{name}.log, then run this again")
        if database.alive():
            seen = time.monotonic()
        elif time.monotonic() - seen > ABSENT_SECONDS:
            raise UserError(f"PostgreSQL ended: see {folder}/postgresql.log, then run this again")


def program(name: str) -> str:
    """The path of a program of requirements-store.txt. Raises UserError if it is not installed."""
    found = shutil.which(name, path=os.pathsep.join([str(PACKAGES / "bin"), os.environ.get("PATH", "")]))
    if not found:
        raise UserError(f"{name} is not installed: run `make store`, which installs requirements-store.txt")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.store", description="Serve MLflow for several machines.")
    parser.add_argument("--port", type=int, default=5000, help="of the MLflow server; default: 5000")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 for other machines: it has no access control")
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"of everything that is kept; default: {FOLDER}")
    arguments = parser.parse_args()
    program("rclone")
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "store.lock", timeout=0):
            serve(folder, arguments.host, arguments.port)
    except Timeout:
        raise UserError(f"a store is running in {folder}: stop it first, or choose another --folder") from None


if __name__ == "__main__":
    errors.run(main)
