"""Fail when dvc.lock no longer fits code, parameters or dvc.yaml.

    python -m tools.check_lock

`dvc repro --dry` exits 0 even when stages would run, and `dvc status -q` exits 1 in every clone without the data, so
this reads `dvc status --json`: data that is merely not here is no fault.
"""

from __future__ import annotations

import json
import subprocess
import sys


def faults(status: dict) -> list[str]:
    """What `dvc status --json` says that means the committed results are of other code or parameters."""
    found = []
    for stage, entries in status.items():
        for entry in entries:
            if isinstance(entry, str):  # "changed command", "changed dependencies", …
                found.append(f"{stage}: {entry}")
                continue
            for kind, changes in entry.items():
                found += [f"{stage}: {kind}: {fault}" for fault in changed(changes)]
    return found


def changed(changes: dict, prefix: str = "") -> list[str]:
    """Paths and parameters in a part of the status that are other than the lock says."""
    harmless = ("deleted", "not in cache")
    found = []
    for name, state in changes.items():
        if isinstance(state, dict):
            found += changed(state, f"{prefix}{name}: ")
        elif state not in harmless:
            found.append(f"{prefix}{name} is {state}")
    return found


def main() -> None:
    done = subprocess.run([sys.executable, "-m", "dvc", "status", "--json"], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"check_lock: dvc status failed: {done.stderr.strip()}")
    found = faults(json.loads(done.stdout))
    if found:
        print("\n".join(found), file=sys.stderr)
        sys.exit(f"check_lock: dvc.lock is stale in {len(found)} places: run `make repro` and commit what it changes")
    print("check_lock: dvc.lock fits code and parameters")


if __name__ == "__main__":
    main()
