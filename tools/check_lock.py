"""Fail if dvc.lock does not match code, parameters or dvc.yaml.

    python -m tools.check_lock

`dvc repro --dry` exits 0 even if stages would run, and `dvc status -q` exits 1 in every clone without the data. This
reads `dvc status --json` instead and ignores data that is merely absent.
"""

from __future__ import annotations

import json
import subprocess
import sys


def faults(status: dict) -> list[str]:
    """Return the entries of `dvc status --json` that mean that the results are of other code or parameters."""
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
    """Return the paths and parameters in a part of the status that differ from the lock."""
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
        sys.exit(f"check_lock: dvc.lock is stale in {len(found)} places: run `make repro` and commit the changes")
    print("check_lock: dvc.lock matches code and parameters")


if __name__ == "__main__":
    main()
