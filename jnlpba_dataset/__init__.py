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
    gather,
    inside_ids,
    require_fast,
    spaces_as_printed,
    special_frame,
    tokenize_words,
    window_capacity,
    windows,
)
from jnlpba_dataset.jnlpba import (
    CITATION,
    DOCUMENT_MARK,
    LABELS,
    CorpusError,
    column,
    columns,
    corpus_name,
    download,
    file_sha256,
    fingerprint,
    load_jnlpba,
    raw_lines,
    read_lines,
    source_sha256,
    split_counts,
    whole_abstracts,
)

__all__ = [
    "CITATION",
    "DOCUMENT_MARK",
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
    "download",
    "encode",
    "file_sha256",
    "fingerprint",
    "gather",
    "inside_ids",
    "load_jnlpba",
    "raw_lines",
    "read_lines",
    "require_fast",
    "source_sha256",
    "spaces_as_printed",
    "special_frame",
    "split_counts",
    "tokenize_words",
    "whole_abstracts",
    "window_capacity",
    "windows",
]
