"""The command `face-mask`, or `python -m face_mask`: its subcommands are modules that also run on their own.

face-mask predict street.jpg
face-mask live
"""

from __future__ import annotations

import sys
from importlib import import_module

# A module is imported when it is run, so that each command loads only what it needs.
COMMANDS = {
    "predict": ("face_mask.predict", "detect and classify faces in images, videos, folders, web addresses, streams"),
    "live": ("face_mask.live.__main__", "serve a web page that classifies the faces of a camera, video or picture"),
    "serve": ("face_mask.serve", "serve the model to other programs, over HTTP"),
    "replay": ("face_mask.replay", "run the live page's tracking on a video or a stream, and print its metrics"),
    "spark": ("face_mask.spark", "predict many images on Apache Spark, into Parquet files"),
    "evaluate": ("face_mask.evaluate", "evaluate a model of any origin beside this project's, in the repository"),
}
USAGE = """usage: face-mask COMMAND …

{}

`face-mask COMMAND --help` describes a command's options, `face-mask --version` prints the version."""


def main() -> None:
    """Run the command that the first argument names; without a valid one, exit with code 1."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in COMMANDS:
        from face_mask import errors

        del sys.argv[1]
        errors.run(import_module(COMMANDS[name][0]).main, name)
    elif name == "--version":
        print(f"face-mask {version()}")
    elif name in ("-h", "--help"):
        print(usage())
    else:
        message = f"{name!r} is not a valid command: use one of {', '.join(COMMANDS)}" if name else usage()
        print(f"face-mask: {message}" if name else message, file=sys.stderr)
        sys.exit(1)


def version() -> str:
    """The version of the package; a clone may be used without installing it."""
    from importlib import metadata

    try:
        return metadata.version("face-mask")
    except metadata.PackageNotFoundError:
        return "not installed"


def usage() -> str:
    return USAGE.format("\n".join(f"  {name:9}{description}" for name, (_, description) in COMMANDS.items()))


if __name__ == "__main__":
    main()
