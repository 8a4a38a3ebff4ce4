"""The corpus that the flags name -> its splits as data sets, with what the reports state about them.

corpus = load_corpus(["train", "validation"], data_args, cache_dir)
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import datasets
import numpy as np
from datasets.exceptions import DatasetGenerationError, DatasetsError
from huggingface_hub import HfApi
from huggingface_hub.utils import OfflineModeIsEnabled, httpx

from jnlpba_dataset import FULL, column, corpus_name, load_jnlpba, source_sha256, unwrapped
from ner_recipe.arguments import SPLITS, DataArguments, suggestion
from ner_recipe.corpora.building import build, document_numbers
from ner_recipe.corpora.collection import downloaded, folder_of, known_names, known_sha256, local, name_of
from ner_recipe.corpora.records import Columns
from ner_recipe.corpora.sources import content_sha256, rows_of_dataset, rows_of_file
from ner_recipe.launch import UsageError

JNLPBA, CUSTOM = "jnlpba", "custom"
COLUMN_FLAGS = ("text_column_name", "label_column_name", "document_column_name")


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a corpus comes from.

    name: jnlpba, sample, a corpus of the collection, the name of a data set, or custom for any other, which
    is taken to be private. sha256: the checksum of each split's file when it was read (of a data set: its
    fingerprint). license: of the data, if given.
    """

    name: str
    sha256: Mapping[str, str]
    license: str | None = None


class Reading(NamedTuple):
    """How a corpus is read: the flags, where prepared data are kept, and whether only to look at it."""

    flags: DataArguments
    cache_dir: str | None
    inspecting: bool

    @property
    def columns(self) -> Columns:
        return Columns(*(getattr(self.flags, name) for name in COLUMN_FLAGS))

    def corpus(self, name: str, rows: Mapping[str, datasets.Dataset], sha256: Mapping[str, str]) -> "Corpus":
        """Build the corpus from its rows."""
        splits, facts = build(rows, self.flags.repair_tags, self.cache_dir, self.inspecting)
        return Corpus(splits, facts, Source(name, sha256, self.flags.dataset_license))


class Corpus(NamedTuple):
    """All splits of a corpus, what the reports state about each, and where they come from."""

    splits: datasets.DatasetDict
    facts: Mapping[str, Mapping[str, str]]
    source: Source


def load_corpus(
    roles: Sequence[str], data_args: DataArguments, cache_dir: str | None, inspecting: bool = False
) -> Corpus:
    """Read the corpus that the flags name, from files, from a data set or by a known name.

    `inspecting`: as in `build`.
    """
    name, how = data_args.dataset_name, Reading(data_args, cache_dir, inspecting)
    if data_args.own_files:
        corpus = corpus_of_files(needed_files(roles, data_args), how)
    elif name is None or name.lower() == JNLPBA:
        refuse_void(data_args, "jnlpba", ("dataset_revision", *COLUMN_FLAGS, "repair_tags"))
        corpus = jnlpba(data_args, cache_dir)
    elif folder := folder_of(name):
        refuse_void(data_args, name, ("dataset_config_name", "dataset_revision", *COLUMN_FLAGS))
        corpus = corpus_of_collection(folder, how)
    elif os.path.isdir(name):
        refuse_void(data_args, "a folder", ("dataset_config_name", "dataset_revision", "data_dir"))
        corpus = corpus_of_dataset(CUSTOM, load_saved(name), how)
    else:
        refuse_void(data_args, "a data set of the Hub", ("data_dir",))
        data = load_from_hub(name, data_args, cache_dir)
        corpus = corpus_of_dataset(name if is_public_on_hub(name) else CUSTOM, data, how)
    if data_args.validation_fraction is not None:
        corpus = with_validation(corpus, data_args.validation_fraction)
    return corpus


def needed_files(roles: Sequence[str], data_args: DataArguments) -> dict[str, str]:
    """The files that the roles need. The types of train count even if only validation or test is scored."""
    names = f"{data_args.train_split_name}+{data_args.eval_split_name}".split("+")
    return {split: file for split, file in data_args.own_files.items() if split in ("train", *roles, *names)}


def jnlpba(data_args: DataArguments, cache_dir: str | None) -> Corpus:
    """JNLPBA or its sample, by the builder of jnlpba_dataset."""
    name = data_args.dataset_config_name or JNLPBA
    sha256 = source_sha256(data_args.data_dir, name)
    splits = load_jnlpba(data_args.data_dir, name, cache_dir)
    return Corpus(splits, {}, Source(corpus_name(name, sha256), sha256, data_args.dataset_license))


def corpus_of_files(files: Mapping[str, str], how: Reading) -> Corpus:
    """A user's own files, which are taken to be private."""
    sha256 = {split: content_sha256(Path(file)) for split, file in files.items()}
    rows = {
        split: rows_of_file(file, how.columns, how.cache_dir, sha256=sha256[split])
        for split, file in files.items()
    }
    return how.corpus(CUSTOM, rows, sha256)


def corpus_of_collection(folder: str, how: Reading) -> Corpus:
    """A corpus of the collection, from --data_dir or downloaded. Other files than its own are private."""
    files = local(how.flags.data_dir) if how.flags.data_dir else downloaded(folder, how.cache_dir)
    sha256 = {split: content_sha256(path) for split, (path, _) in files.items()}
    rows = {
        split: rows_of_file(path, Columns(), how.cache_dir, shown, sha256[split])
        for split, (path, shown) in files.items()
    }
    is_public = not how.flags.data_dir or sha256 == known_sha256(folder)
    return how.corpus(name_of(folder) if is_public else CUSTOM, rows, sha256)


def corpus_of_dataset(known: str, data: datasets.DatasetDict, how: Reading) -> Corpus:
    """A data set, by the name under which it is known."""
    name = how.flags.dataset_name
    rows = {
        split: rows_of_dataset(data[split], f"{name}, split {split}", how.columns, how.cache_dir)
        for split in SPLITS
        if split in data
    }
    return how.corpus(known, rows, {split: data[split]._fingerprint for split in rows})


def refuse_void(data_args: DataArguments, corpus: str, flags: Sequence[str]) -> None:
    """Refuse flags that have no effect on a kind of corpus."""
    for flag in flags:
        value = getattr(data_args, flag)
        if value:
            raise UsageError(f"--{flag}: '{value}' has no effect on {corpus}; leave it out")


def is_public_on_hub(name: str) -> bool:
    """Whether everybody may read a data set. One that can't be asked about is taken to be private."""
    try:
        info = HfApi().dataset_info(name)
    except (OSError, httpx.HTTPError, OfflineModeIsEnabled):
        return False
    return not info.private and not info.gated


def load_saved(folder: str) -> datasets.DatasetDict:
    """What `save_to_disk` wrote to a folder."""
    try:
        data = datasets.load_from_disk(folder)
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"--dataset_name: {folder} can't be loaded ({' '.join(str(error).split())[:200]}); expected a "
            "folder that save_to_disk wrote, the name of a data set on the Hub, or a known name"
        ) from None
    return checked_splits(data, folder)


def load_from_hub(name: str, data_args: DataArguments, cache_dir: str | None) -> datasets.DatasetDict:
    """A data set of the Hub. No code that comes with it is run."""
    try:
        with unwrapped(cache_dir):
            data = datasets.load_dataset(
                name, data_args.dataset_config_name, revision=data_args.dataset_revision, cache_dir=cache_dir
            )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, DatasetsError) as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise  # the name is right
        # A DatasetGenerationError alone says nothing.
        cause = (isinstance(error, DatasetGenerationError) and error.__cause__) or error
        reason = f"{type(cause).__name__}: {' '.join(str(cause).split())[:200]}"
        close = suggestion(name.lower(), [JNLPBA, *known_names()])
        raise UsageError(
            f"--dataset_name: '{name}' can't be loaded ({reason}){close}; expected jnlpba, "
            f"{', '.join(known_names())}, a folder that save_to_disk wrote, or a data set of the Hub"
        ) from error
    return checked_splits(data, name)


def checked_splits(data: object, name: str) -> datasets.DatasetDict:
    """Refuse data without any of the splits that are used."""
    if not isinstance(data, datasets.DatasetDict) or not set(SPLITS) & set(data):
        found = f"the splits {', '.join(data)}" if isinstance(data, dict) else "a single split"
        raise UsageError(f"--dataset_name: '{name}' has {found}; expected {', '.join(SPLITS)}")
    return data


def with_validation(corpus: Corpus, fraction: float) -> Corpus:
    """Take a part of train's documents (of its sentences, if documents are unknown) for validation.

    The draw depends on the corpus and the fraction alone, so that runs with different seeds can be compared.
    """
    if "validation" in corpus.splits:
        raise UsageError(
            "--validation_fraction: the corpus has a validation split; leave the flag out to use it"
        )
    if "train" not in corpus.splits:
        raise UsageError("--validation_fraction: there is no train split to take it from; give --train_file")
    train = corpus.splits["train"]
    documents = document_numbers(train)
    unit = "sentences" if documents is None else "documents"
    groups = np.arange(len(train)) if documents is None else np.array(documents)
    numbers = np.unique(groups)
    drawn = np.random.default_rng(0).permutation(numbers)[: max(1, round(fraction * len(numbers)))]
    held_out = np.isin(groups, drawn)
    if held_out.all():
        raise UsageError(
            f"--validation_fraction: {fraction} of {len(numbers)} {unit} leaves none to train on; use less"
        )
    splits = datasets.DatasetDict(corpus.splits)
    splits["train"], splits["validation"] = (
        train.select(np.flatnonzero(rows)) for rows in (~held_out, held_out)
    )
    only = sorted(types_of(splits["validation"]) - types_of(splits["train"]))
    without = f"; what is left has no entity of {', '.join(only)}" if only else ""
    count = f"{len(drawn):,} of the {len(numbers):,} {unit} of train"
    fact = {"validation": f"{count}, drawn with seed 0{without}"}
    facts = dict(corpus.facts)
    facts["train"] = dict(facts.get("train", {})) | fact
    facts["validation"] = facts["train"]
    part = f"part of {corpus.source.sha256['train']}"
    sha256 = {**corpus.source.sha256, "validation": part}
    return Corpus(splits, facts, dataclasses.replace(corpus.source, sha256=sha256))


def types_of(sentences: datasets.Dataset) -> set[str]:
    """The types that occur."""
    names = sentences.features["ner_tags"].feature.names
    return {names[tag][2:] for tags in column(sentences, "ner_tags") for tag in tags} - {""}
