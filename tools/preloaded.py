"""Stages that start at once: processes forked from one that has imported TensorFlow and MLflow.

Importing the libraries takes longer than most stages do on small data. `serving` starts a process that imports them,
and gives an environment in which `python -m pipeline.STAGE` and `python -m dvc` run in copies of that process, which
has imported nothing of this repository yet. Any other command runs as usual, and so does every command on systems other
than Linux, where a fork is not safe with these libraries.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

LIBRARIES = (
    "dvc.cli",
    "dvc.commands.repro",
    "dvc.repo.reproduce",
    "keras",
    "matplotlib.pyplot",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "pandas",
    "scipy.stats",
    "sklearn.linear_model",
    "tensorflow",
)
OURS = ("face_mask", "pipeline", "tools")

# What `python` is: a few milliseconds of Python that hand over the standard streams and wait for the exit code.
CLIENT = """#!{python} -IS
import os, signal, socket, sys
if sys.argv[1:2] != ["-m"] or not sys.argv[2].startswith(("dvc", "pipeline.")):
    os.execv("{python}", ["{python}", *sys.argv[1:]])
import json
with socket.socket(socket.AF_UNIX) as server:
    try:
        server.connect("{address}")
        socket.send_fds(server, [b"."], [0, 1, 2])
        file = server.makefile("rw")
        print(json.dumps([sys.argv[2:], os.getcwd(), dict(os.environ)]), file=file, flush=True)
        stage = int(file.readline())
    except (OSError, ValueError):
        sys.exit("the process that starts the stages has ended, see its messages above: run again")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the stage as well: it has the same terminal
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(stage, number))
    code = int(file.readline() or 1)
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


@contextmanager
def serving(
    folder: Path, environment: Mapping[str, str], libraries: Sequence[str] = LIBRARIES
) -> Iterator[dict[str, str]]:
    """Yield `environment` with a `python` that is quick to start for the stages of the repository in `folder`."""
    if sys.platform != "linux":
        yield dict(environment)
        return
    with ExitStack() as stack:
        scripts = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="preloaded-")))
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(scripts / "socket"))
        listener.listen()
        (scripts / "python").write_text(CLIENT.format(python=sys.executable, address=scripts / "socket"))
        (scripts / "python").chmod(0o755)
        command = [sys.executable, "-m", "tools.preloaded", str(listener.fileno()), *libraries]
        server = subprocess.Popen(command, cwd=folder, env=environment, pass_fds=[listener.fileno()])
        listener.close()  # of this process: if the server has ended, a stage is not to wait for it
        try:
            yield {**environment, "PATH": f"{scripts}{os.pathsep}{environment['PATH']}"}
        finally:
            server.terminate()
            server.wait()


def serve(listener: socket.socket) -> None:
    """Run each stage in a fork. Returns only in the forks, with `sys.argv`, the standard streams and the rest set."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks that wait for the stages
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            start(connection)
            return
        connection.close()


def start(connection: socket.socket) -> None:
    """Fork the stage that is asked for, and return in it; this process reports its id and exit code, and ends."""
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    file = connection.makefile("rw")
    arguments, folder, environment = json.loads(file.readline())
    stage = os.fork()
    if stage == 0:
        file.close()
        connection.close()
        become(arguments, folder, environment, streams)
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the stage as well, and this reports how it ended
    for stream in streams:
        os.close(stream)
    with suppress(BrokenPipeError):  # whoever asked has ended
        print(stage, file=file, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(stage, 0)[1]), file=file, flush=True)
    os._exit(0)


def become(arguments: list[str], folder: str, environment: Mapping[str, str], streams: list[int]) -> None:
    """Take over another process's arguments, working directory, environment and standard streams."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdout.reconfigure(line_buffering=sys.stdout.isatty())  # type: ignore[union-attr]
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = arguments
    sys.path[0] = folder


def end(codes: list[int]) -> None:
    """End the process now with this exit code, if there is one: freeing all memory first takes half a second."""
    if codes:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(codes[0])


def main() -> None:
    leave: list[int] = []
    atexit.register(end, leave)  # the first to be registered is the last to be called
    for number in (signal.SIGINT, signal.SIGTERM):  # the latter from `serving`
        signal.signal(number, lambda *_: os._exit(0))
    for name in ("pipeline.tracking", *sys.argv[2:]):  # the former sets what the libraries read when they are imported
        importlib.import_module(name)
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    gc.freeze()  # what is here now is never garbage; looking at it would copy its memory in every fork
    serve(socket.socket(fileno=int(sys.argv[1])))
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if not isinstance(ended.code, int | None):
            raise
        code = ended.code or 0
    else:
        code = 0
    leave.append(code)


if __name__ == "__main__":
    main()
