"""Splits of a corpus: what a model is trained on, and whose documents are known.

python -m pytest tests/test_corpora.py
"""

import pytest

from jnlpba_dataset import load_jnlpba
from ner_recipe.corpora.building import document_numbers
from ner_recipe.corpora.splits import Split, training_texts


@pytest.mark.parametrize(
    ("unknown", "train_on", "texts"),
    [
        (0, "both", "single sentences and whole abstracts"),
        (0, "abstracts", "whole abstracts"),
        (0, "alternate", "single sentences and whole abstracts in turn"),
        (5, "both", "single sentences and whole abstracts where documents are known"),
        (40, "alternate", "single sentences, because documents are unknown"),
        (0, "sentences", "single sentences"),
    ],
)
def test_reports_say_what_a_model_is_trained_on(unknown, train_on, texts, cache_dir):
    sentences = load_jnlpba(name="sample", cache_dir=cache_dir)["test"]
    names = [None] * unknown + sentences["document_id"][unknown:]
    changed = sentences.remove_columns("document_id").add_column("document_id", names)
    split = Split("test", changed, len(changed), {})
    assert training_texts(split, train_on) == {"trained on": texts}
    assert (document_numbers(changed) is None) == (split.counts["documents"] is None) == bool(unknown)
    assert training_texts(None, train_on) == {}
