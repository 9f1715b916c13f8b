"""The sources of the unseen set (Kaggle, a zip, a folder, a CSV, synthetic), each as one zip with its provenance."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath

from tqdm import tqdm

from face_mask import decoding, web
from face_mask.errors import UserError, printable
from face_mask.schema import IMAGE_SUFFIXES
from pipeline.sources import annotated_images, annotation_files, archives, kaggle_client, training_sources

PARALLEL_FETCHES = 8
HELD_AT_ONCE = 64  # images in memory
KEPT = IMAGE_SUFFIXES | {".xml", ".txt", ".names", ".yaml", ".yml"}  # of a folder: images and annotations
Failure = dict[str, str]  # keys: image, reason


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
    """Write `archive` from the source and return its provenance; a previous `archive` is replaced only on success.

    `source` is kaggle (the data set `kaggle`), archive, folder or csv (at `path`), or synthetic (`scenes` and `seed`);
    `max_bytes` and `seconds` limit each download of a CSV, whose addresses must be `allowed`. The provenance has the
    keys source, name, kind, images, faces, failed, bytes and sha256. Raises UserError if the source is unavailable,
    invalid or harmful, or has no annotated face, or the disk is full.
    """
    name = name_of(source, kaggle, path, scenes, seed)
    failed: list[Failure] = []
    with training_sources.replacing(archive) as aside:
        if source == "kaggle":
            kaggle_client.download(kaggle, aside, section="unseen")
        elif source == "archive":
            training_sources.copy_archive(training_sources.resolve_path(path, "unseen"), aside, "unseen")
        elif source == "folder":
            training_sources.write_zip(
                aside, files_of_folder(training_sources.resolve_path(path, "unseen")), f"folder {name}"
            )
        elif source == "csv":
            failed = pack_list(training_sources.resolve_path(path, "unseen"), aside, max_bytes, seconds, allowed)
        else:
            from pipeline.synthetic import scenes as synthetic_scenes

            training_sources.write_zip(aside, synthetic_scenes.files(scenes, seed), "synthetic")
        contents = annotated_images.read(aside, display_name=f"{source} {name}")
        training_sources.report_ignored(contents.other_files, name, "unseen_download")
        return {
            "source": source,
            "name": name,
            "kind": contents.kind,
            "images": len({annotated.image for annotated in contents.images} - {None}) + contents.not_annotated,
            "faces": face_counts(contents),
            "failed": failed,
            "bytes": aside.stat().st_size,
            "sha256": training_sources.sha256(aside),
        }


def name_of(source: str, kaggle: str, path: str | None, scenes: int, seed: int) -> str:
    """Name the source: what distinguishes it from others of its kind, without the folders above a file."""
    if source == "kaggle":
        return kaggle
    if source == "synthetic":
        return f"{scenes} scenes, seed {seed}"
    return training_sources.resolve_path(path, "unseen").resolve().name


def face_counts(contents: annotated_images.Contents) -> dict[str, int]:
    """Count the annotated faces by label."""
    counts = Counter(face.label for annotated in contents.images for face in annotated.faces)
    return {label: counts[label] for label in annotation_files.SYNONYMS}


def files_of_folder(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of the images and annotations below a folder, sorted by name."""
    if not folder.is_dir():
        raise UserError(f"unseen.path = {folder} is not a folder: set it to one, or change unseen.source")
    names = sorted(
        name
        for name in training_sources.files_below(folder)
        if Path(name).suffix.lower() in KEPT and not archives.is_system_file(name)
    )
    for name in tqdm(names, desc=f"folder {folder.resolve().name}", unit="file", delay=1):
        yield name, training_sources.read_image_file(folder, name)


def pack_list(path: Path, aside: Path, max_bytes: int, seconds: float, allowed: Callable[[str], bool]) -> list[Failure]:
    """Zip the images that a CSV lists, as LABEL/LINE.SUFFIX. Returns those that failed, with the reason.

    Raises UserError if all failed.
    """
    entries = read_list(path)
    failed: list[Failure] = []
    load = partial(load_image, folder=path.parent, max_bytes=max_bytes, seconds=seconds, allowed=allowed)

    def images() -> Iterator[tuple[str, bytes]]:
        with (
            ThreadPoolExecutor(PARALLEL_FETCHES) as pool,
            tqdm(total=len(entries), desc=path.name, unit="image", delay=1) as bar,
        ):
            for start in range(0, len(entries), HELD_AT_ONCE):
                part = entries[start : start + HELD_AT_ONCE]
                for (line, location, label), result in zip(
                    part, pool.map(load, [entry[1] for entry in part]), strict=True
                ):
                    bar.update()
                    if isinstance(result, bytes):
                        yield f"{label}/{line:06d}{suffix_of(result)}", result
                    else:
                        failed.append({"image": f"line {line}: {display_name(location)}", "reason": result})
                        print(f"unseen_download: left out: {path.name} line {line}: {display_name(location)}: {result}")

    training_sources.write_zip(aside, images(), f"csv {path.name}")
    if len(failed) == len(entries):
        first = f"{failed[0]['image']}: {failed[0]['reason']}"
        raise UserError(
            f"{path}: none of its {len(entries)} images could be loaded, the first is {first}: fix the list"
        )
    return failed


def suffix_of(encoded: bytes) -> str:
    """The suffix by which an image is recognized in the archive; MPO is JPEG with several frames, as of a phone."""
    suffix = f".{decoding.format_of(encoded).lower()}"
    return suffix if suffix in IMAGE_SUFFIXES else ".jpg"


def read_list(path: Path) -> list[tuple[int, str, str]]:
    """Read a CSV: line number, path or URL, and label of each image, without a header."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"unseen.path = {path} is not a CSV file ({reason}): set it to one with lines of path or URL, label"
        ) from None
    if rows and [cell.lower() for cell in rows[0][1][1:2]] == ["label"]:
        rows = rows[1:]
    entries = []
    for line, row in rows:
        if len(row) != 2 or not row[0]:
            raise UserError(f"{path} line {line} is not a path or URL, a comma, and a label: fix it")
        if "://" not in row[0] and leads_out(row[0]):
            raise UserError(
                f"{path} line {line}: {archives.quoted(row[0])} is absolute or has `..`: move the image into the list's"
                " folder and give its path from there"
            )
        entries.append((line, row[0], annotation_files.parse_label(row[1], f"{path} line {line}")))
    if not entries:
        raise UserError(f"{path} lists no images: add lines of path or URL, label")
    return entries


def leads_out(location: str) -> bool:
    """Whether a path is absolute or has `..`, as on Windows or elsewhere."""
    windows, posix = PureWindowsPath(location), PurePosixPath(location)
    return bool(windows.drive or windows.root or posix.root) or ".." in windows.parts


def load_image(
    location: str, folder: Path, max_bytes: int, seconds: float, allowed: Callable[[str], bool]
) -> bytes | str:
    """Load the encoded image at a URL or a path relative to `folder`. Returns its bytes, or why that failed."""
    try:
        if "://" in location:
            content = web.fetch(location, max_bytes, seconds, allowed)
        else:
            content = training_sources.read_image_file(folder, location)
        decoding.format_of(content)
        return content
    except UserError as error:  # drop the path, which is private, and the remedy, which is for folders
        return str(error).replace(f"{folder / location} ", "").rpartition(":")[0]
    except (web.NotFetched, ValueError) as error:  # not an image, or an impossible path
        return str(error)


def display_name(location: str) -> str:
    """Name an image of the list in messages and records, without credentials in URLs and folders; safe to print."""
    return printable(web.redact(location) if "://" in location else Path(location).name)
