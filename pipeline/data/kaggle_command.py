"""The real `kaggle` client as a command that also says what its HTTP requests meet. Runs in a process of its own.

    python -m pipeline.data.kaggle_command datasets download OWNER/NAME -p .

The client's own words do not tell a 403 from a 404: it prints the server's message alone.
"""

from __future__ import annotations

import sys
from typing import Any

MARK = "\x1fheard "  # starts the lines by which this command tells kaggle_client what it heard


def command() -> None:
    """Be the `kaggle` command, and report on stdout what its HTTP requests meet."""
    # 2.x lets a public data set pass without credentials only where it runs as the command `kaggle`.
    sys.argv[0] = "kaggle"
    import requests

    plain_send = requests.Session.send

    def send(self: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        options["stream"] = True  # 1.7 would hold the whole archive in memory, and seem to stand still
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

    # Verbose, it prints the Authorization header and the archive itself.
    type(api).args = [flag for flag in api.args if flag not in ("--verbose", "-v")]
    if not hasattr(type(api), "_authenticate_anonymously"):
        mend_1_7(api)
    cli.main()


def archive_size(response: Any) -> int | None:
    """Bytes of the whole archive, where the response brings it or a range of it."""
    kind = response.headers.get("Content-Type", "")
    if response.status_code == 206:
        total = response.headers.get("Content-Range", "").rpartition("/")[2]
    else:
        total = response.headers.get("Content-Length", "")
    wanted = response.status_code in (200, 206) and not kind.startswith(("application/json", "text/"))
    return int(total) if wanted and total.isdigit() else None


def mend_1_7(api: Any) -> None:
    """Make kaggle 1.7, the last for Python 3.10, do what it means to: go without credentials, and resume.

    It looks up credentials it has found it does not need (KeyError), and resumes by a call that its own HTTP client
    does not take (TypeError).
    """
    import requests
    from kagglesdk.kaggle_http_client import KaggleHttpClient

    for key in (api.CONFIG_NAME_USER, api.CONFIG_NAME_KEY):
        api.config_values.setdefault(key, None)
    plain_call = KaggleHttpClient.call

    def call(self: Any, *arguments: Any, headers: dict[str, str] | None = None, _preload_content: bool = True) -> Any:
        if headers is None:
            return plain_call(self, *arguments)
        return requests.get(arguments[1], headers=headers)

    KaggleHttpClient.call = call


if __name__ == "__main__":
    command()
