"""The official `kaggle` client as a command that also reports the results of its HTTP requests, in its own process.

    python -m pipeline.sources.kaggle_command datasets download OWNER/NAME -p .

The client's own output does not distinguish a 403 from a 404: it prints only the server's message.
"""

from __future__ import annotations

import sys
from typing import Any

MARK = "\x1fhttp "  # starts the lines with which this command reports to kaggle_client


def command() -> None:
    """Run the `kaggle` command, and report the result of each HTTP request on stdout."""
    # The client downloads public data sets without credentials only if it runs as the command `kaggle`.
    sys.argv[0] = "kaggle"
    import requests

    plain_send = requests.Session.send

    def send(self: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        try:
            response = plain_send(self, request, **options)
        except requests.RequestException as error:
            print(f"\n{MARK}unreachable {type(error).__name__}", flush=True)
            raise
        print(f"\n{MARK}status {response.status_code}", flush=True)
        total = archive_size(response)
        if total is not None:
            print(f"\n{MARK}total {total}", flush=True)
        return response

    requests.Session.send = send  # type: ignore[method-assign]
    from kaggle import api, cli

    # The verbose client prints the Authorization header and the archive itself.
    type(api).args = [flag for flag in api.args if flag not in ("--verbose", "-v")]
    cli.main()


def archive_size(response: Any) -> int | None:
    """Size of the whole archive in bytes, if the response contains it or a range of it; else None."""
    kind = response.headers.get("Content-Type", "")
    if response.status_code == 206:
        total = response.headers.get("Content-Range", "").rpartition("/")[2]
    else:
        total = response.headers.get("Content-Length", "")
    wanted = response.status_code in (200, 206) and not kind.startswith(("application/json", "text/"))
    return int(total) if wanted and total.isdigit() else None


if __name__ == "__main__":
    command()
