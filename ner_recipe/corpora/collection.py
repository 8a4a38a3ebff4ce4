"""The public corpora that --dataset_name knows by name, beside JNLPBA: collection.yaml.

folder = folder_of("ncbi-disease")       # "NCBI-disease-IOB", or None for an unknown name
files, sha256 = downloaded(folder)
"""

import os
from collections.abc import Mapping
from pathlib import Path

import datasets
import yaml

from jnlpba_dataset import CorpusError, download

COLLECTION = yaml.safe_load((Path(__file__).parent / "collection.yaml").read_text(encoding="utf-8"))
SUFFIX = "-IOB"


def known_names() -> list[str]:
    """The names as --dataset_name takes them."""
    return [name_of(folder) for folder in COLLECTION["folders"]]


def name_of(folder: str) -> str:
    return folder.removesuffix(SUFFIX).lower()


def folder_of(name: str) -> str | None:
    """The corpus's folder in the collection, by its name in any case, with or without -IOB."""
    wanted = name.lower().replace("_", "-").removesuffix(SUFFIX.lower())
    return next((folder for folder in COLLECTION["folders"] if name_of(folder) == wanted), None)


def known_sha256(folder: str) -> Mapping[str, str]:
    """The checksum of each split's file, if it was checked; {} if not."""
    return COLLECTION["sha256"].get(folder, {})


def downloaded(folder: str, cache_dir: str | None) -> dict[str, tuple[Path, str]]:
    """Each split's file, in the cache of downloads, with its URL.

    Raises:
        CorpusError: a download fails, or its checksum is not the known one.
    """
    manager = datasets.DownloadManager(
        download_config=datasets.DownloadConfig(cache_dir=cache_dir and f"{cache_dir}/downloads")
    )
    files = {}
    for split, file in COLLECTION["files"].items():
        url = f"{COLLECTION['url']}/{folder}/{file}"
        files[split] = (Path(download(manager, url, known_sha256(folder).get(split))), url)
    return files


def local(folder: str) -> dict[str, tuple[Path, str]]:
    """The files of the corpus in a local folder, with their names for errors.

    Raises:
        CorpusError: one is missing.
    """
    paths = {split: Path(folder, file) for split, file in COLLECTION["files"].items()}
    missing = [path.name for path in paths.values() if not os.path.isfile(path)]
    if missing:
        state = f"missing {', '.join(missing)}" if os.path.isdir(folder) else "not a folder"
        expected = ", ".join(COLLECTION["files"].values())
        raise CorpusError(f"--data_dir: {folder}: {state}; expected the files {expected}")
    return {split: (path, str(path)) for split, path in paths.items()}
