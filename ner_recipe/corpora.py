"""A corpus -> its splits, with words, tags, documents (if known) and the checksums of the files.

splits = load_splits(["train", "validation"], data_args, args, cache_dir)
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import datasets

from jnlpba_dataset import column, load_jnlpba, source_sha256, split_counts
from ner_recipe.arguments import DataArguments, RecipeArguments
from ner_recipe.launch import UsageError

PRESENTED = {  # the abstracts of known documents, by --train_on
    "abstracts": "whole abstracts",
    "both": "single sentences and whole abstracts",
    "alternate": "single sentences and whole abstracts in turn",
}


@dataclasses.dataclass(frozen=True)
class Split:
    """One split: its sentences and, once encoded, the windows that the model sees.

    `name` is the corpus's own (`train+validation` if joined), `total` its sentences before --max_..._samples,
    `sha256` the checksum of each file of the corpus when it was read, by split.
    """

    name: str
    sentences: datasets.Dataset
    total: int
    sha256: Mapping[str, str]
    windows: datasets.Dataset | None = None

    @functools.cached_property
    def counts(self) -> dict[str, int | str | None]:
        """documents (None if unknown), sentences, words, entities, and the fingerprint of the content."""
        return split_counts(self.sentences)


def load_splits(
    roles: Sequence[str], data_args: DataArguments, args: RecipeArguments, cache_dir: str | None
) -> dict[str, Split]:
    """Load the splits for these roles: train, validation, test.

    Raises:
        CorpusError: the corpus can't be read.
        UsageError: it has no split of that name.
    """
    parts = {
        "train": (data_args.train_split_name, data_args.max_train_samples),
        "validation": (data_args.eval_split_name, data_args.max_eval_samples),
        "test": ("test", data_args.max_predict_samples),
    }
    with args.main_process_first(desc="building the corpus"):
        sha256 = source_sha256(data_args.data_dir, data_args.dataset_config_name)
        corpus = load_jnlpba(data_args.data_dir, data_args.dataset_config_name, cache_dir)
        splits = {}
        for role in roles:
            name, limit = parts[role]
            whole = select_split(corpus, name)
            sentences = whole.select(range(min(limit or len(whole), len(whole))))
            splits[role] = Split(name, sentences, len(whole), sha256)
    return splits


def select_split(corpus: datasets.DatasetDict, name: str) -> datasets.Dataset:
    """A split by name; names joined by + are concatenated."""
    parts = name.split("+")
    unknown = [part for part in parts if part not in corpus]
    if unknown:
        raise UsageError(
            f"found no split '{unknown[0]}' ('{name}'); expected names among {', '.join(corpus)}"
        )
    return datasets.concatenate_datasets([corpus[part] for part in parts])


def label_names(sentences: datasets.Dataset) -> list[str]:
    """The labels in the order of their ids."""
    return list(sentences.features["ner_tags"].feature.names)


def document_numbers(sentences: datasets.Dataset) -> list[int] | None:
    """A number for each sentence's document, in the order of the corpus; None if any document is unknown."""
    names = list(column(sentences, "document_id"))
    numbers: dict[str, int] = {}
    return None if None in names else [numbers.setdefault(name, len(numbers)) for name in names]


def training_texts(split: Split | None, train_on: str) -> dict[str, str]:
    """The fact `trained on` for the reports; nothing without training. Unknown documents are never joined."""
    if split is None:
        return {}
    unknown = sum(name is None for name in column(split.sentences, "document_id"))
    if train_on == "sentences":
        texts = "single sentences"
    elif unknown == len(split.sentences):
        texts = "single sentences, because documents are unknown"
    else:
        texts = PRESENTED[train_on] + (" where documents are known" if unknown else "")
    return {"trained on": texts}
