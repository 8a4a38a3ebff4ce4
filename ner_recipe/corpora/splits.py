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
from ner_recipe.corpora.building import build, document_numbers
from ner_recipe.corpora.loading import Source, load_corpus
from ner_recipe.corpora.records import Columns
from ner_recipe.corpora.sources import content_sha256, rows_of_file
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
    `facts` are the lines about it that every report states. `silver` says which text that a model tagged is
    among the sentences. `taught_by` is the checksum of the teachers whose probabilities the windows hold.
    """

    name: str
    sentences: datasets.Dataset
    total: int
    source: Source
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    silver: str | None = None
    windows: datasets.Dataset | None = None
    taught_by: str | None = None

    @functools.cached_property
    def counts(self) -> dict[str, int | str | None]:
        """documents (None if unknown), sentences, words, entities, and the fingerprint of the content."""
        return split_counts(self.sentences)


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
            splits["train"] = with_silver(splits["train"], data_args.silver_train_file, cache_dir)
    if not splits:
        raise UsageError("--do_predict: the corpus has no test split; give --test_file, or use --do_eval")
    return splits


def with_silver(split: Split, files: Sequence[str], cache_dir: str | None) -> Split:
    """Add text that a model tagged to what is trained on."""
    parts, said = [split.sentences], []
    for number, file in enumerate(files):
        sha256 = content_sha256(Path(file))
        parts.append(silver_sentences(file, sha256, f"silver{number}", split, cache_dir))
        documents = document_numbers(parts[-1])
        size = f"{len(parts[-1]):,} sentences" if documents is None else f"{len(set(documents)):,} documents"
        said.append(f"{Path(file).name} ({size}, sha256 {sha256[:16]})")
    shared = [name for name in split.sentences.column_names if all(name in part.features for part in parts)]
    sentences = datasets.concatenate_datasets([part.select_columns(shared) for part in parts])
    total = split.total + len(sentences) - len(split.sentences)
    return dataclasses.replace(split, sentences=sentences, total=total, silver=", ".join(said))


def silver_sentences(
    file: str, sha256: str, name: str, split: Split, cache_dir: str | None
) -> datasets.Dataset:
    """The sentences of one file with the labels of a split. Their ids begin with `name`.

    Raises:
        CorpusError: the file can't be read.
        UsageError: it has other types than the corpus, or is one of the corpus's own.
    """
    own = [part for part, digest in split.source.sha256.items() if digest == sha256]
    if own:
        raise UsageError(f"--silver_train_file: {file} is the {own[0]} split of the corpus; leave it out")
    rows = rows_of_file(file, Columns(), cache_dir, sha256=sha256)
    sentences = build({name: rows}, repair=False, cache_dir=cache_dir)[0][name]
    labels = label_names(split.sentences)
    if strange := sorted(set(label_names(sentences)) - set(labels)):
        raise UsageError(
            f"--silver_train_file: {file} has {strange[0]}, and the corpus has {', '.join(labels)}; expected "
            "text that a model of this corpus tagged"
        )
    return relabelled(sentences, labels)


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


def label_names(sentences: datasets.Dataset) -> list[str]:
    """The labels in the order of their ids."""
    return list(sentences.features["ner_tags"].feature.names)


def with_labels(split: Split, labels: Sequence[str]) -> Split:
    """The same split with label ids in another order, or among more labels."""
    return dataclasses.replace(split, sentences=relabelled(split.sentences, labels))


def relabelled(sentences: datasets.Dataset, labels: Sequence[str]) -> datasets.Dataset:
    """The same sentences with label ids in another order, or among more labels."""
    names = label_names(sentences)
    if names == list(labels):
        return sentences
    features = sentences.features.copy()
    features["ner_tags"] = datasets.List(datasets.ClassLabel(names=list(labels)))
    return sentences.map(
        renumbered,
        batched=True,
        features=features,
        fn_kwargs={"new_ids": [labels.index(name) for name in names]},
    )


def renumbered(examples: Mapping[str, list], new_ids: list[int]) -> dict[str, list]:
    return {"ner_tags": [[new_ids[tag] for tag in tags] for tags in examples["ner_tags"]]}


def training_texts(split: Split | None, train_on: str) -> dict[str, str]:
    """What was trained on, for the reports; nothing without training. Unknown documents are never joined."""
    if split is None:
        return {}
    unknown = sum(name is None for name in column(split.sentences, "document_id"))
    if train_on == "sentences":
        texts = "single sentences"
    elif unknown == len(split.sentences):
        texts = "single sentences, because documents are unknown"
    else:
        texts = PRESENTED[train_on] + (" where documents are known" if unknown else "")
    return {"trained on": texts} | ({"tagged by a model": split.silver} if split.silver else {})
