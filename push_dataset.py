"""The corpus on the Hub, as Parquet with its card, so that `load_dataset("USER/jnlpba")` works for others.

    python push_dataset.py USER/jnlpba [--data_dir FOLDER] [--private] [--revision BRANCH]

What goes up is what the builder makes of the files. Imports publish, model_card (for its cells) and
jnlpba_dataset.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import datasets
from huggingface_hub import DatasetCard, DatasetCardData, HfApi

from jnlpba_dataset import (
    CITATION,
    CorpusError,
    corpus_name,
    load_jnlpba,
    source_sha256,
    split_counts,
)
from model_card import CORPUS_NOTES, code, count_row
from publish import PublishError, check_access, hub_errors, make_repository

TEMPLATE = Path(__file__).resolve().parent / "dataset_card.md"
LICENSES = {"jnlpba": "cc-by-3.0", "sample": "apache-2.0"}  # another's corpus: its owner says
TITLES = {"jnlpba": "JNLPBA", "sample": "Sample sentences of jnlpba-ner"}


def push_dataset(
    repo_id: str,
    data_dir: str | None = None,
    name: str = "jnlpba",
    *,
    token: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
) -> str:
    """Push the corpus and its card; returns the full USER/NAME.

    Raises:
        CorpusError: the corpus can't be read.
        PublishError: the Hub refused or was not reached; the same command goes on.
    """
    corpus = load_jnlpba(data_dir, name)
    repo_id = check_access(repo_id, repo_id, token)
    kind = corpus_name(data_dir, name)
    with hub_errors("The corpus may be there in part: the same command puts it right"):
        api = HfApi(token=token)
        make_repository(api, repo_id, "dataset", private, revision)
        corpus.push_to_hub(repo_id, token=token, private=private, revision=revision)
        card = api.hf_hub_download(repo_id, "README.md", repo_type="dataset", revision=revision)
        api.upload_file(
            repo_id=repo_id,
            repo_type="dataset",
            revision=revision,
            path_in_repo="README.md",
            path_or_fileobj=make_card(card, repo_id, kind, corpus, source_sha256(data_dir, name)).encode(),
            commit_message="Card with counts, checksums and citation",
        )
    return repo_id


def make_card(
    pushed: str, repo_id: str, kind: str, corpus: datasets.DatasetDict, sha256: dict[str, str]
) -> str:
    """The card: the front matter that `push_to_hub` wrote (features, files) with what it can't know."""
    labels = corpus["train"].features["ner_tags"].feature.names
    known = DatasetCard.load(pushed).data.to_dict()
    data = DatasetCardData(
        **{
            **known,
            "language": "en",
            "license": LICENSES.get(kind),
            "task_categories": ["token-classification"],
            "task_ids": ["named-entity-recognition"],
            "pretty_name": TITLES.get(kind, repo_id),
            "tags": ["biomedical"],
        }
    )
    counts = [
        count_row({"name": split, "sha256": sha256[split], **split_counts(sentences)})
        for split, sentences in corpus.items()
    ]
    return str(
        DatasetCard.from_template(
            data,
            template_path=str(TEMPLATE),
            title=TITLES.get(kind, repo_id),
            description=CORPUS_NOTES[kind],
            repository=repo_id,
            counts=counts,
            labels=", ".join(code(label) for label in labels),
            citation=CITATION if kind == "jnlpba" else None,
        )
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Push the corpus to the Hub as Parquet.", allow_abbrev=False)
    parser.add_argument("repo_id", metavar="USER/NAME", help="the data set's name on the Hub")
    parser.add_argument("--data_dir", help="a folder with train.tsv, devel.tsv, test.tsv (else downloaded)")
    parser.add_argument("--dataset_config_name", default="jnlpba", help="jnlpba, or sample")
    parser.add_argument("--private", action="store_true", default=None, help="make a private repository")
    parser.add_argument("--revision", help="a branch to push to (made if there is none)")
    given = parser.parse_args(argv)
    try:
        repo_id = push_dataset(
            given.repo_id,
            given.data_dir,
            given.dataset_config_name,
            private=given.private,
            revision=given.revision,
        )
    except (CorpusError, PublishError) as error:
        print(f"push_dataset.py: error: {error}", file=sys.stderr)
        return 2
    print(f'Published: load_dataset("{repo_id}")')
    return 0


if __name__ == "__main__":
    sys.exit(main())
