"""The door to the corpus: `from jnlpba_dataset import load_jnlpba, LABELS, encode, decode`.

Imports nothing of ours outside this folder; everything else in the repository may import it.
"""

from jnlpba_dataset.alignment import AlignmentError, decode, encode
from jnlpba_dataset.jnlpba import (
    CITATION,
    LABELS,
    CorpusError,
    corpus_name,
    fingerprint,
    load_jnlpba,
    source_sha256,
    split_counts,
    with_abstracts,
)

__all__ = [
    "CITATION",
    "LABELS",
    "AlignmentError",
    "CorpusError",
    "corpus_name",
    "decode",
    "encode",
    "fingerprint",
    "load_jnlpba",
    "source_sha256",
    "split_counts",
    "with_abstracts",
]
