"""The JNLPBA corpus: loading, windows and labels.

    from jnlpba_dataset import LABELS, decode, encode, load_jnlpba

This package imports nothing else of this repository.
"""

from jnlpba_dataset.alignment import (
    OWNED,
    AlignmentError,
    Frame,
    WordValues,
    decode,
    encode,
    encode_subtokens,
    gather,
    inside_ids,
    require_fast,
    special_frame,
    window_capacity,
    windows,
)
from jnlpba_dataset.jnlpba import (
    CITATION,
    LABELS,
    CorpusError,
    column,
    columns,
    corpus_name,
    fingerprint,
    load_jnlpba,
    source_sha256,
    split_counts,
    whole_abstracts,
)

__all__ = [
    "CITATION",
    "LABELS",
    "OWNED",
    "AlignmentError",
    "CorpusError",
    "Frame",
    "WordValues",
    "column",
    "columns",
    "corpus_name",
    "decode",
    "encode",
    "encode_subtokens",
    "fingerprint",
    "gather",
    "inside_ids",
    "load_jnlpba",
    "require_fast",
    "source_sha256",
    "special_frame",
    "split_counts",
    "whole_abstracts",
    "window_capacity",
    "windows",
]
