"""Text that a model tagged, to be trained on beside a corpus: files, or folders of annotate.py.

    silver = load_silver(["entities", "more.jsonl"], labels, corpus_sha256, cache_dir)
    print(silver.files)     # entities (2,000 documents, 22,098 sentences, 18,353 entities, sha256 0123...)

It is not a part of the corpus: its sentences and entities are counted apart.
"""

import dataclasses
import functools
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import datasets

from jnlpba_dataset import CorpusError, column, split_counts
from ner_recipe.corpora.building import build, label_names, relabelled
from ner_recipe.corpora.records import Columns
from ner_recipe.corpora.sources import content_sha256, rows_of_file
from ner_recipe.launch import UsageError, visible

FLAG = "--silver_train_file"
OTHER_FLAGS = re.compile(r"--\w+_column_name|--repair_tags")  # as errors about the corpus advise
# What annotate.py writes to its folder: the last one when it has finished.
MANIFEST, PARTS, SUMMARY = "manifest.json", "part-*.jsonl", "summary.json"


@dataclasses.dataclass(frozen=True)
class Silver:
    """Sentences that a model tagged, with the columns of the corpus. `files` says what each file holds."""

    sentences: datasets.Dataset
    files: str

    @functools.cached_property
    def counts(self) -> dict[str, int | str | None]:
        """As those of a split."""
        return split_counts(self.sentences)


class Tagged(NamedTuple):
    """One file: its sentences, and how many of its entities tags can't express."""

    sentences: datasets.Dataset
    lost: int


def load_silver(
    names: Sequence[str], labels: Sequence[str], corpus_sha256: Mapping[str, str], cache_dir: str | None
) -> Silver:
    """Read the files, and the parts in folders of annotate.py.

    Args:
        names: of files and folders.
        labels: those of the corpus.
        corpus_sha256: the checksum of each split's file.

    Raises:
        CorpusError: a file can't be read.
        UsageError: a file has other types than the corpus, is one of its own, or is named twice.
    """
    known = {digest: f"the {split} split of the corpus" for split, digest in corpus_sha256.items()}
    read, said = [], []
    for name in names:
        parts, digests = [], []
        for file in files_of(Path(name)):
            sha256 = content_sha256(file)
            if sha256 in known:
                raise UsageError(f"{FLAG}: {file} is {known[sha256]}; leave it out")
            known[sha256] = f"the same text as {file}"
            parts.append(read_tagged(file, sha256, f"silver{len(read) + len(parts)}", labels, cache_dir))
            digests.append(sha256)
        read += parts
        said.append(description(Path(name), parts, digests))
    return Silver(joined([part.sentences for part in read]), ", ".join(said))


def files_of(path: Path) -> list[Path]:
    """The parts of a finished annotation; any other file or folder alone."""
    if not (path / MANIFEST).is_file():
        return [path]
    if not (path / SUMMARY).is_file():
        raise UsageError(f"{FLAG}: annotate.py has not finished {path}; repeat its command first")
    if parts := sorted(path.glob(PARTS)):
        return parts
    raise UsageError(f"{FLAG}: found no {PARTS} in {path}; expected the jsonl that annotate.py writes")


def read_tagged(file: Path, sha256: str, name: str, labels: Sequence[str], cache_dir: str | None) -> Tagged:
    """The sentences of one file with the labels of the corpus. Their ids begin with `name`."""
    try:
        rows = rows_of_file(file, Columns(), cache_dir, sha256=sha256)
        sentences = build({name: rows}, repair=False, cache_dir=cache_dir)[0][name]
    except CorpusError as error:
        if not OTHER_FLAGS.search(str(error)):
            raise
        raise CorpusError(f"{error}; in {FLAG} such flags have no effect: change the file") from None
    if strange := sorted(set(label_names(sentences)) - set(labels)):
        raise UsageError(
            f"{FLAG}: {file} has {strange[0]}, and the corpus has {', '.join(labels)}; expected text that a "
            "model of this corpus tagged"
        )
    return Tagged(relabelled(sentences, labels), sum(map(len, column(rows, "lost"))))


def description(path: Path, parts: Sequence[Tagged], digests: Sequence[str]) -> str:
    """Name, counts and checksum of what was named, for the reports. A folder's checksum is of its parts'."""
    counts = [split_counts(part.sentences) for part in parts]
    total = {
        unit: sum(count[unit] or 0 for count in counts) for unit in ("documents", "sentences", "entities")
    }
    if None in [count["documents"] for count in counts]:
        del total["documents"]
    held = [f"{number:,} {unit}" for unit, number in total.items()]
    if lost := sum(part.lost for part in parts):
        held.append(f"{lost:,} more entities left out, because tags can't express them")
    digest = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return f"{visible(path.resolve().name)} ({', '.join(held)}, sha256 {digest[:16]})"


def joined(parts: Sequence[datasets.Dataset]) -> datasets.Dataset:
    """Sentences one after the other. `spaces` is null where only other parts know the spaces of the text."""
    if any("spaces" in part.features for part in parts):
        kind = datasets.List(datasets.Value("bool"))
        parts = [
            part if "spaces" in part.features else part.add_column("spaces", [None] * len(part), feature=kind)
            for part in parts
        ]
    return datasets.concatenate_datasets(list(parts))
