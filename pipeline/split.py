"""Stage `split`: every picture decoded once, near-duplicates grouped, classes balanced, 80/10/10.

    python -m pipeline.split

Reads data/raw/pictures.zip and the list of pictures that split.exclude names; writes data/split/images.npy (all decoded
pictures, uint8), data/split/manifest.csv (one row a picture: what it is and where it went) and metrics/split.json.
Parameters: seed, image_size, split.*, data.max_bad_fraction.
"""

from __future__ import annotations

import time
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from pipeline import atomic, errors, params, tracking
from pipeline.data import archives, decoding, duplicates, exclusion, packing, splitting
from pipeline.parallel import ordered_map

ARCHIVE = Path("data/raw/pictures.zip")
METRICS = Path("metrics/split.json")
CHUNK = 64  # pictures a worker decodes at a time: 3 MB of pixels at 128×128


def decode_chunk(members: list[str], archive: Path, size: int) -> tuple[np.ndarray, np.ndarray, list[dict]]:
    """Decode some members: pixels (k, size, size, 3), greys (k, 32, 32), and what the manifest says of each.

    A picture that cannot be decoded is black, and its manifest entry has the reason under `split`.
    """
    pixels = np.zeros((len(members), size, size, 3), np.uint8)
    entries: list[dict] = []
    with zipfile.ZipFile(archive) as zf:
        for i, member in enumerate(members):
            try:
                picture = decoding.decode(archives.read_member(zf, member), size)
            except (decoding.BadPicture, zipfile.BadZipFile) as error:
                entries.append({"split": f"bad: {error}"})
                continue
            pixels[i] = picture.pixels
            entries.append(
                {
                    "content_hash": picture.content_hash,
                    "width": picture.width,
                    "height": picture.height,
                    "format": picture.format,
                }
            )
    greys = np.stack([duplicates.grey_thumbnail(one) for one in pixels])
    return pixels, greys, entries


def decode_all(archive: Path, members: list[str], size: int, images_path: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """Decode the members into the array at `images_path`: their manifest entries and greys (n, 32, 32)."""
    greys, entries = [], []
    chunks = [members[i : i + CHUNK] for i in range(0, len(members), CHUNK)]
    with images_path.open("wb") as file, tqdm(total=len(members), unit="picture", desc="decode", delay=1) as bar:
        packing.write_header(file, len(members), size)
        for pixels, grey, described in ordered_map(partial(decode_chunk, archive=archive, size=size), chunks):
            file.write(pixels.tobytes())
            greys.append(grey)
            entries += described
            bar.update(len(described))
    return pd.DataFrame(entries), np.concatenate(greys)


def refuse_too_many_bad(bad: pd.DataFrame, n: int, limit: float) -> None:
    """Print the pictures that cannot be decoded; UserError when they are more than `limit` of all."""
    for path, reason in zip(bad["path"], bad["split"], strict=True):
        print(f"left out: {path}: {reason.removeprefix('bad: ')}")
    if len(bad) > limit * n:
        raise errors.UserError(
            f"{len(bad)} of {n} pictures cannot be decoded, the first is {bad['path'].iloc[0]}"
            f" ({bad['split'].iloc[0]}): mend the archive, or raise data.max_bad_fraction"
        )


def summary(manifest: pd.DataFrame) -> dict:
    """metrics/split.json: counts per split and class, what is left out and why, duplicates."""
    reasons = manifest["split"].str.partition(":")[0]
    decoded = manifest[manifest["row"] >= 0]
    group_sizes = decoded.groupby("group").size()
    mixed = decoded.groupby("group")["label"].nunique() > 1
    counts = {
        name: {label: int(((reasons == name) & (manifest["label"] == label)).sum()) for label in packing.LABELS[::-1]}
        for name in splitting.SPLITS
    }
    why = ("bad", splitting.EXCLUDED, splitting.SURPLUS, splitting.NOT_SAMPLED)
    left_out = {reason: int((reasons == reason).sum()) for reason in why}
    return {
        "pictures": len(manifest),
        **counts,
        "left_out": left_out,
        "duplicate_groups": int((group_sizes > 1).sum()),
        "pictures_in_duplicate_groups": int(group_sizes[group_sizes > 1].sum()),
        "duplicate_groups_of_both_classes": int((mixed & (group_sizes > 1)).sum()),
        "largest_duplicate_group": int(group_sizes.max()),
        "exact_copies": int(decoded["content_hash"].duplicated().sum()),
        "cross_split_duplicates": splitting.crossing(
            manifest["group"].to_numpy(), manifest["split"].to_numpy(dtype="<U16")
        ),
    }


def main() -> None:
    started = time.time()
    p = params.load()
    members = [(member, label) for label, names in archives.list_pictures(ARCHIVE).items() for member in names]
    manifest = pd.DataFrame(sorted(members), columns=["path", "label"])
    classes = packing.to_classes(manifest["label"])
    keys = splitting.random_keys(manifest["path"].tolist(), p.seed)
    excluded = manifest["path"].isin(exclusion.read(p.split.exclude, set(manifest["path"]))).to_numpy()
    sampled = splitting.keep_first(classes, keys, p.split.per_class or len(manifest), among=~excluded)

    with atomic.replacing(packing.IMAGES_PATH) as images_path:
        entries, greys = decode_all(ARCHIVE, manifest["path"][sampled].tolist(), p.image_size, images_path)
        manifest = manifest.assign(split=splitting.NOT_SAMPLED, group=-1, row=-1, perceptual_hash="")
        manifest.loc[excluded, "split"] = splitting.EXCLUDED
        manifest.loc[sampled, "row"] = np.arange(sampled.sum())
        entries.index = manifest.index[sampled]
        manifest = manifest.join(entries.drop(columns="split", errors="ignore"))
        bad = pd.Series(False, manifest.index)
        if "split" in entries:
            reasons = entries["split"].dropna()
            bad[reasons.index] = True
            manifest.loc[reasons.index, ["split", "row"]] = [[reason, -1] for reason in reasons]
        refuse_too_many_bad(manifest[bad], int(sampled.sum()), p.data.max_bad_fraction)

        good = np.flatnonzero(sampled & ~bad)
        hashes, mirrored = duplicates.perceptual_hashes(greys[~bad[sampled].to_numpy()])
        pairs = duplicates.near_pairs(hashes, mirrored, p.split.hash_distance)
        groups = duplicates.group_by_pairs(len(good), pairs)
        manifest.loc[good, "group"] = groups
        manifest.loc[good, "perceptual_hash"] = [f"{value:016x}" for value in hashes]

        kept = splitting.keep_first(classes[good], keys[good], int(np.bincount(classes[good], minlength=2).min()))
        manifest.loc[good[~kept], "split"] = splitting.SURPLUS
        good, groups = good[kept], groups[kept]
        together = groups if p.split.group_duplicates else np.arange(len(good))
        manifest.loc[good, "split"] = splitting.assign(classes[good], together, keys[good], p.split.train, p.split.val)

    columns = ["path", "label", "split", "group", "row", "content_hash", "perceptual_hash", "width", "height", "format"]
    manifest = manifest.astype({"width": "Int64", "height": "Int64"})
    atomic.write_text(packing.MANIFEST_PATH, manifest[columns].to_csv(index=False, lineterminator="\n"))
    result = summary(manifest)
    atomic.write_json(METRICS, result)
    tracking.log_stage(
        "split",
        params=tracking.flatten({"seed": p.seed, "image_size": p.image_size, "split": p.split.model_dump()}),
        metrics=tracking.flatten(result),
        artifacts=[METRICS, packing.MANIFEST_PATH],
        started=started,
    )
    sizes = ", ".join(f"{name} {sum(result[name].values())}" for name in splitting.SPLITS)
    print(
        f"split: {result['pictures']} pictures to {sizes}; {result['pictures_in_duplicate_groups']} stand in"
        f" {result['duplicate_groups']} near-duplicate groups; {time.time() - started:.1f} s"
    )


if __name__ == "__main__":
    errors.run(main)
