"""A corpus -> its splits, with words, tags, documents (if known) and the checksums of the files.

splits = load_splits(["train", "validation"], data_args, args, cache_dir)
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import datasets

from jnlpba_dataset import column, split_counts
from ner_recipe.arguments import DataArguments, RecipeArguments
from ner_recipe.corpora.building import label_names, relabelled
from ner_recipe.corpora.loading import Source, load_corpus
from ner_recipe.corpora.silver import Silver, joined, load_silver
from ner_recipe.corpora.sources import content_sha256
from ner_recipe.launch import UsageError

PRESENTED = {  # the abstracts of known documents, by --train_on
    "abstracts": "whole abstracts",
    "both": "single sentences and whole abstracts",
    "alternate": "single sentences and whole abstracts in turn",
}


@dataclasses.dataclass(frozen=True)
class Split:
    """One split: its sentences and, once encoded, the windows that the model sees.

    `name` is the corpus's own (`train+validation` if joined), `total` its sentences before --max_..._samples.
    `facts` are the lines about it that every report states. `silver` is text that a model tagged, to be
    trained on beside the sentences. `taught_by` is the checksum of the teachers whose probabilities the
    windows hold.
    """

    name: str
    sentences: datasets.Dataset
    total: int
    source: Source
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    silver: Silver | None = None
    windows: datasets.Dataset | None = None
    taught_by: str | None = None

    @functools.cached_property
    def counts(self) -> dict[str, int | str | None]:
        """documents (None if unknown), sentences, words, entities, and the fingerprint of the content."""
        return split_counts(self.sentences)

    @functools.cached_property
    def with_silver(self) -> datasets.Dataset:
        """The sentences, then those that a model tagged: what is trained on."""
        return joined([self.sentences, self.silver.sentences]) if self.silver else self.sentences


def load_splits(
    roles: Sequence[str], data_args: DataArguments, args: RecipeArguments, cache_dir: str | None
) -> dict[str, Split]:
    """Load the splits for these roles: train, validation, test. A corpus without test has no such split.

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
        corpus = load_corpus(roles, data_args, cache_dir)
        untested = {} if "test" in corpus.splits else {"test": "the corpus has no test split"}
        splits = {}
        for role in roles:
            name, limit = parts[role]
            if role == "test" and untested:
                continue
            whole = select_split(corpus.splits, name)
            sentences = whole.select(range(min(limit or len(whole), len(whole))))
            facts = joined_facts({part: corpus.facts.get(part, {}) for part in name.split("+")})
            splits[role] = Split(name, sentences, len(whole), corpus.source, facts | untested)
        if "train" in splits and data_args.silver_train_file:
            train, read = splits["train"], corpus.source.sha256
            own = data_args.own_files.items()
            sha256 = read | {split: content_sha256(Path(file)) for split, file in own if split not in read}
            labels = label_names(train.sentences)
            silver = load_silver(data_args.silver_train_file, labels, sha256, cache_dir)
            splits["train"] = dataclasses.replace(train, silver=silver)
    if not splits:
        raise UsageError("--do_predict: the corpus has no test split; give --test_file, or use --do_eval")
    return splits


def joined_facts(facts: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The facts about splits that are joined. Where they differ, each is named."""
    joined = {}
    for name in dict.fromkeys(name for of_split in facts.values() for name in of_split):
        values = {split: of_split[name] for split, of_split in facts.items() if name in of_split}
        same = len(set(values.values())) == 1
        joined[name] = next(iter(values.values())) if same else "; ".join(map(": ".join, values.items()))
    return joined


def select_split(corpus: datasets.DatasetDict, name: str) -> datasets.Dataset:
    """A split by name; names joined by + are concatenated."""
    parts = name.split("+")
    unknown = [part for part in parts if part not in corpus]
    if unknown:
        remedy = "; give --validation_file, or --validation_fraction 0.1" if unknown == ["validation"] else ""
        raise UsageError(
            f"found no split '{unknown[0]}' ('{name}'); expected names among {', '.join(corpus)}{remedy}"
        )
    return datasets.concatenate_datasets([corpus[part] for part in parts])


def with_labels(split: Split, labels: Sequence[str]) -> Split:
    """The same split with label ids in another order, or among more labels."""
    if label_names(split.sentences) == list(labels):
        return split
    silver = split.silver
    if silver:
        silver = dataclasses.replace(silver, sentences=relabelled(silver.sentences, labels))
    return dataclasses.replace(split, sentences=relabelled(split.sentences, labels), silver=silver)


def training_texts(split: Split | None, train_on: str) -> dict[str, str]:
    """What was trained on, for the reports; nothing without training. Unknown documents are never joined."""
    if split is None:
        return {}
    unknown = sum(name is None for name in column(split.with_silver, "document_id"))
    if train_on == "sentences":
        texts = "single sentences"
    elif unknown == len(split.with_silver):
        texts = "single sentences, because documents are unknown"
    else:
        texts = PRESENTED[train_on] + (" where documents are known" if unknown else "")
    return {"trained on": texts} | ({"tagged by a model": split.silver.files} if split.silver else {})
