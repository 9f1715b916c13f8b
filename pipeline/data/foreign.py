"""The foreign set as one zip, whatever it comes from: Kaggle, a zip, a folder, a list in CSV, or drawn."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tqdm import tqdm

from pipeline.data import annotated_pictures, annotation_files, archives, decoding, kaggle_client, sources, web
from pipeline.errors import UserError

FETCHED_AT_ONCE = 8
HELD_AT_ONCE = 64  # pictures in memory
KEPT = archives.SUFFIXES | {".xml", ".txt", ".names", ".yaml", ".yml"}  # of a folder: pictures and annotations
Failure = dict[str, str]  # "picture" and "reason"


def make_archive(
    archive: Path,
    source: str,
    kaggle: str,
    path: str | None,
    scenes: int,
    seed: int,
    max_bytes: int,
    seconds: float,
    allowed: Callable[[str], bool] = web.is_public,
) -> dict:
    """Write `archive` from the source and return its provenance; the former `archive` stays until all is well.

    `source` is kaggle (the data set `kaggle`), archive, folder or csv (at `path`), or synthetic (`scenes` and `seed`);
    `max_bytes` and `seconds` bound each picture that a CSV fetches, from addresses that are `allowed`. The provenance:
    {source, name, kind, pictures, faces, failed, bytes, sha256}. UserError where the source cannot be had, shows no
    face, or is not to be trusted, and where the disk is full.
    """
    name = name_of(source, kaggle, path, scenes, seed)
    failed: list[Failure] = []
    with sources.replacing(archive) as aside:
        if source == "kaggle":
            kaggle_client.download(kaggle, aside, section="unseen")
        elif source == "archive":
            sources.copy_archive(sources.located(path, "unseen"), aside, "unseen")
        elif source == "folder":
            sources.write_zip(aside, files_of_folder(sources.located(path, "unseen")), f"folder {name}")
        elif source == "csv":
            failed = pack_list(sources.located(path, "unseen"), aside, max_bytes, seconds, allowed)
        else:
            from pipeline.data import synthetic_scenes

            sources.write_zip(aside, synthetic_scenes.files(scenes, seed), "synthetic")
        contents = annotated_pictures.read(aside, called=f"{source} {name}")
        sources.report_ignored(contents.others, name, "unseen_download")
        return {
            "source": source,
            "name": name,
            "kind": contents.kind,
            "pictures": len({one.picture for one in contents.pictures} - {None}) + contents.not_annotated,
            "faces": face_counts(contents),
            "failed": failed,
            "bytes": aside.stat().st_size,
            "sha256": sources.sha256(aside),
        }


def name_of(source: str, kaggle: str, path: str | None, scenes: int, seed: int) -> str:
    """What tells this source from others of its kind, without the folders above a file."""
    if source == "kaggle":
        return kaggle
    if source == "synthetic":
        return f"{scenes} scenes, seed {seed}"
    return sources.located(path, "unseen").resolve().name


def face_counts(contents: annotated_pictures.Contents) -> dict[str, int]:
    """Label → faces."""
    counts = Counter(face.label for one in contents.pictures for face in one.faces)
    return {label: counts[label] for label in annotation_files.CALLED}


def files_of_folder(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The pictures and annotations below a folder, sorted by name."""
    if not folder.is_dir():
        raise UserError(f"unseen.path = {folder} is no folder: name one, or set unseen.source to what it is")
    names = sorted(
        name
        for name in sources.files_below(folder)
        if Path(name).suffix.lower() in KEPT and not archives.is_litter(name)
    )
    for name in tqdm(names, desc=f"folder {folder.resolve().name}", unit="file", delay=1):
        yield name, sources.read_picture(folder, name)


def pack_list(path: Path, aside: Path, max_bytes: int, seconds: float, allowed: Callable[[str], bool]) -> list[Failure]:
    """Zip the pictures that a CSV lists as LABEL/LINE.SUFFIX, and return those that could not be had, with the reason.

    UserError where none could be.
    """
    listed = read_list(path)
    failed: list[Failure] = []
    get = partial(get_picture, folder=path.parent, max_bytes=max_bytes, seconds=seconds, allowed=allowed)

    def pictures() -> Iterator[tuple[str, bytes]]:
        with (
            ThreadPoolExecutor(FETCHED_AT_ONCE) as pool,
            tqdm(total=len(listed), desc=path.name, unit="picture", delay=1) as bar,
        ):
            for start in range(0, len(listed), HELD_AT_ONCE):
                part = listed[start : start + HELD_AT_ONCE]
                for (line, place, label), result in zip(part, pool.map(get, [one[1] for one in part]), strict=True):
                    bar.update()
                    if isinstance(result, bytes):
                        yield f"{label}/{line:06d}.{decoding.format_of(result).lower()}", result
                    else:
                        failed.append({"picture": f"line {line}: {called(place)}", "reason": result})
                        print(f"unseen_download: left out: {path.name} line {line}: {called(place)}: {result}")

    sources.write_zip(aside, pictures(), f"csv {path.name}")
    if len(failed) == len(listed):
        first = f"{failed[0]['picture']}: {failed[0]['reason']}"
        raise UserError(f"{path}: none of its {len(listed)} pictures could be had, the first is {first}: mend the list")
    return failed


def read_list(path: Path) -> list[tuple[int, str, str]]:
    """Line, path or URL, and label of each picture in a CSV; a first line with the label "label" is a header."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"unseen.path = {path} is no CSV ({reason}): name one with lines of path or URL, label"
        ) from None
    if rows and [cell.lower() for cell in rows[0][1][1:2]] == ["label"]:
        rows = rows[1:]
    listed = []
    for line, row in rows:
        if len(row) != 2 or not row[0]:
            raise UserError(f"{path} line {line} is not a path or URL, a comma, and a label: mend it")
        listed.append((line, row[0], annotation_files.known(row[1], f"{path} line {line}")))
    if not listed:
        raise UserError(f"{path} lists no pictures: give it lines of path or URL, label")
    return listed


def get_picture(
    place: str, folder: Path, max_bytes: int, seconds: float, allowed: Callable[[str], bool]
) -> bytes | str:
    """The encoded picture at a URL, or at a path from `folder` on; or why there is none."""
    try:
        if "://" in place:
            content = web.fetch(place, max_bytes, seconds, allowed)
        else:
            content = sources.read_picture(folder, place)
        decoding.format_of(content)
        return content
    except UserError as error:  # without the path, which is this machine's, and the remedy, which is for folders
        return str(error).replace(f"{folder / place} ", "").rpartition(":")[0]
    except (web.NotFetched, ValueError) as error:  # a bad picture, or a path that no file can have
        return str(error)


def called(place: str) -> str:
    """What messages and records call a picture of the list: nothing secret, nothing of this machine."""
    return web.shown(place) if "://" in place else Path(place).name
