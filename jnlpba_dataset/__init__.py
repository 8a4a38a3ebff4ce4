"""The door to the corpus: `from jnlpba_dataset import load_jnlpba, LABELS, encode, decode`.

Imports nothing of ours outside this folder; everything else in the repository may import it.
"""

from jnlpba_dataset.alignment import AlignmentError, decode, encode
from jnlpba_dataset.jnlpba import LABELS, CorpusError, corpus_name, fingerprint, load_jnlpba

__all__ = [
    "LABELS",
    "AlignmentError",
    "CorpusError",
    "corpus_name",
    "decode",
    "encode",
    "fingerprint",
    "load_jnlpba",
]
