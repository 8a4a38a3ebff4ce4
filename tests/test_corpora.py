"""Splits of a corpus: what a model is trained on, and whose documents are known.

python -m pytest tests/test_corpora.py
"""

import pytest

from jnlpba_dataset import load_jnlpba
from ner_recipe.corpora import Split, document_numbers, training_texts


@pytest.mark.parametrize(
    ("unknown", "on_abstracts", "texts"),
    [
        (0, True, "single sentences and whole abstracts"),
        (5, True, "single sentences and whole abstracts where documents are known"),
        (40, True, "single sentences, because documents are unknown"),
        (0, False, "single sentences"),
    ],
)
def test_reports_say_what_a_model_is_trained_on(unknown, on_abstracts, texts, cache_dir):
    sentences = load_jnlpba(name="sample", cache_dir=cache_dir)["test"]
    names = [None] * unknown + sentences["document_id"][unknown:]
    changed = sentences.remove_columns("document_id").add_column("document_id", names)
    split = Split("test", changed, len(changed), {})
    assert training_texts(split, on_abstracts) == {"trained on": texts}
    assert (document_numbers(changed) is None) == (split.counts["documents"] is None) == bool(unknown)
    assert training_texts(None, on_abstracts) == {}
