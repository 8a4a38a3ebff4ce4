"""The `datasets` builder for JNLPBA (BioNLP / JNLPBA shared task 2004).

    python -c 'from jnlpba_dataset import load_jnlpba; print(load_jnlpba(name="sample"))'

Each line of a file holds `word TAB tag` (IOB2). A blank line ends a sentence, and a line `-DOCSTART- TAB O`
starts an abstract. In a file without any such mark, the abstract of each sentence is unknown.

This module imports no other module of this repository.
"""

import codecs
import contextlib
import dataclasses
import errno
import hashlib
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

import datasets
from datasets.exceptions import DatasetGenerationError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # a disk, a quota, and a limit of the shell
TYPES = ("protein", "DNA", "RNA", "cell_line", "cell_type")
LABELS = ("O", *(f"{prefix}-{kind}" for kind in TYPES for prefix in "BI"))

DOCUMENT_MARK = "-DOCSTART-"
FILE_NAMES = {"train": "train.tsv", "validation": "devel.tsv", "test": "test.tsv"}
SAMPLE_FOLDER = Path(__file__).parent / "sample"
UPSTREAM_COMMIT = "df0df02fae6dbb87d88ffcf323b9096528f06f84"
UPSTREAM_URL = (
    f"https://raw.githubusercontent.com/cambridgeltl/MTL-Bioinformatics-2016/{UPSTREAM_COMMIT}/data/JNLPBA"
)
UPSTREAM_SHA256 = {
    "train": "eb39b9e83089e2a7a05505012247b442a89f577b1b19fe55cf12ca6f0e00db84",
    "validation": "462b09bc79a4dd69cec2e70b6041f54383b4b94892d2ee971a587fdc74caae80",
    "test": "87c9b8f1f7fcf94add38c16088203d4ddf35c2f61eb2c7e61240c738d8dd9d35",
}
CITATION = """\
@inproceedings{kim-etal-2004-introduction,
  title = {Introduction to the Bio-Entity Recognition Task at {JNLPBA}},
  author = {Kim, Jin-Dong and Ohta, Tomoko and Tsuruoka, Yoshimasa and Tateisi, Yuka and Collier, Nigel},
  booktitle = {Proceedings of the International Joint Workshop on Natural Language Processing in Biomedicine
               and its Applications},
  year = {2004},
}"""


class CorpusError(ValueError):
    """The corpus can't be read. The message says where, what was found, what was expected and what to do."""


@dataclasses.dataclass
class JnlpbaConfig(datasets.BuilderConfig):
    """The files of one configuration and their checksums.

    `files` maps each split to a path or URL, and `sha256` maps it to a checksum. A downloaded file is checked
    against its checksum. For a local file the checksum is only part of the cache key, so that an edited file
    is read again.
    """

    files: dict[str, str] = dataclasses.field(default_factory=dict)
    sha256: dict[str, str] = dataclasses.field(default_factory=dict)


class Jnlpba(datasets.GeneratorBasedBuilder):
    """Sentences of JNLPBA with the features id, document_id, sentence_id, tokens and ner_tags.

    Change VERSION whenever the parser, `joined_sentences` or `alignment.encode` changes; it is part of the
    key under which their output is cached.
    """

    VERSION = datasets.Version("1.3.0")
    BUILDER_CONFIG_CLASS = JnlpbaConfig
    BUILDER_CONFIGS = [
        JnlpbaConfig(
            name="jnlpba",
            version=VERSION,
            description="The published corpus, from the pinned upstream commit or from a local folder",
            files={split: f"{UPSTREAM_URL}/{file}" for split, file in FILE_NAMES.items()},
            sha256=UPSTREAM_SHA256,
        ),
        JnlpbaConfig(
            name="sample",
            version=VERSION,
            description="Invented sentences in the same format, included in the package",
            files={split: str(SAMPLE_FOLDER / file) for split, file in FILE_NAMES.items()},
        ),
    ]

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description="Bio-entity recognition in MEDLINE abstracts (GENIA): five entity types, IOB2 tags.",
            features=datasets.Features(
                {
                    "id": datasets.Value("string"),
                    "document_id": datasets.Value("string"),
                    "sentence_id": datasets.Value("int32"),
                    "tokens": datasets.List(datasets.Value("string")),
                    "ner_tags": datasets.List(datasets.ClassLabel(names=list(LABELS))),
                }
            ),
            homepage="http://www.geniaproject.org/shared-tasks/bionlp-jnlpba-shared-task-2004",
            citation=CITATION,
            license="CC BY 3.0 (annotations, GENIA project)",
        )

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        generators = []
        for split, source in self.config.files.items():
            path = source
            if is_url(source):
                path = download(dl_manager, source, self.config.sha256[split])
            arguments = {"split": split, "path": path, "shown": source}
            generators.append(datasets.SplitGenerator(name=split, gen_kwargs=arguments))
        return generators

    def _generate_examples(self, split: str, path: str, shown: str) -> Iterator[tuple[str, dict]]:
        for number, (document, sentence, words, tags) in enumerate(read_sentences(path, shown)):
            marked = document is not None
            key = f"{split}-{document}.{sentence}" if marked else f"{split}-{number}"
            yield (
                key,
                {
                    "id": key,
                    "document_id": f"{split}-{document}" if marked else None,
                    "sentence_id": sentence,
                    "tokens": words,
                    "ner_tags": tags,
                },
            )


def load_jnlpba(
    data_dir: str | Path | None = None, name: str = "jnlpba", cache_dir: str | Path | None = None
) -> datasets.DatasetDict:
    """Load the splits train, validation and test.

    Args:
        data_dir: a local folder with train.tsv, devel.tsv and test.tsv. If None, `jnlpba` is downloaded from
            the pinned upstream commit and the sha256 of each file is checked.
        name: `jnlpba`, or `sample` for the invented sentences in this package (no network needed).
        cache_dir: where `datasets` keeps downloads and Arrow files. If None, its own default.

    Raises:
        CorpusError: a file is malformed (`FILE:LINE: found ...; expected ...`) or missing, a checksum is
            wrong, or a download fails.
    """
    names = [config.name for config in Jnlpba.BUILDER_CONFIGS]
    if name not in names:
        raise CorpusError(f"--dataset_config_name: found '{name}'; expected one of {', '.join(names)}")
    if name == "sample" and data_dir is not None:
        raise CorpusError(
            f"--data_dir: found '{data_dir}', but the sample is read from the package; "
            "leave --data_dir out, or set --dataset_config_name jnlpba"
        )
    folder = SAMPLE_FOLDER if name == "sample" else data_dir
    return build(name, None if cache_dir is None else str(cache_dir), **local_files(folder))


def corpus_name(name: str, sha256: Mapping[str, str]) -> str:
    """Return `custom` if the files of `jnlpba` are not the published ones, otherwise `name`.

    Args:
        name: the name of the configuration.
        sha256: the checksum of each split's file, as `source_sha256` returns it.
    """
    return "custom" if name == "jnlpba" and sha256 != UPSTREAM_SHA256 else name


def source_sha256(data_dir: str | Path | None, name: str) -> dict[str, str]:
    """Return the sha256 of each split's file."""
    folder = SAMPLE_FOLDER if name == "sample" else data_dir
    return UPSTREAM_SHA256 if folder is None else local_files(folder)["sha256"]


def whole_abstracts(sentences: datasets.Dataset, cache_dir: str | Path | None = None) -> datasets.Dataset:
    """Return one row for each abstract of several sentences, with the id of its first sentence.

    Sentences whose abstract is unknown (null `document_id`) are not joined. The rows are written to an Arrow
    file in `cache_dir`, so that a corpus of any size takes little memory.
    """
    pairs = itertools.pairwise(column(sentences, "document_id"))
    if not any(first is not None and first == second for first, second in pairs):
        return sentences.select([])
    with unwrapped(cache_dir):
        return datasets.Dataset.from_generator(
            joined_sentences,
            features=sentences.features,
            cache_dir=None if cache_dir is None else str(cache_dir),
            gen_kwargs={"sentences": sentences},
        )


def joined_sentences(sentences: datasets.Dataset) -> Iterator[dict]:
    """Yield the row of each abstract of several sentences. An abstract's sentences follow each other."""
    names = sentences.column_names
    rows = (dict(zip(names, row, strict=True)) for row in columns(sentences, *names))
    for document, group in itertools.groupby(rows, key=lambda row: row["document_id"]):
        first, *others = group
        if document is not None and others:
            lists = {
                name: [item for row in (first, *others) for item in row[name]]
                for name, value in first.items()
                if isinstance(value, list)
            }
            yield {**first, **lists}


def columns(rows: datasets.Dataset, *names: str) -> Iterator[tuple]:
    """Yield the values of these columns, row by row. Reading them in batches is several times as fast."""
    for batch in rows.select_columns(list(names)).iter(batch_size=1000):
        yield from zip(*(batch[name] for name in names), strict=True)


def column(rows: datasets.Dataset, name: str) -> Iterator:
    """Yield one column's value for each row, read in batches."""
    return (value for (value,) in columns(rows, name))


def build(name: str, cache_dir: str | None, **config) -> datasets.DatasetDict:
    """Run the builder."""
    builder = Jnlpba(config_name=name, cache_dir=cache_dir, **config)
    with unwrapped(cache_dir):
        builder.download_and_prepare()
    return builder.as_dataset()


@contextlib.contextmanager
def unwrapped(cache_dir: str | Path | None) -> Iterator[None]:
    """If a source is malformed or the disk of the cache is full, raise that error without the library's."""
    try:
        yield
    except DatasetGenerationError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in FULL and cause.filename is None:
            cause.filename = str(cache_dir or datasets.config.HF_DATASETS_CACHE)
        if isinstance(cause, CorpusError | OSError):
            raise cause from None
        raise


def local_files(folder: str | Path | None) -> dict[str, dict[str, str]]:
    """Return the builder's `files` and `sha256` for a local folder, or {} for None (the builder's own)."""
    if folder is None:
        return {}
    folder = Path(folder)
    paths = {split: folder / file for split, file in FILE_NAMES.items()}
    try:
        strange = {path.name: kind for path in paths.values() if (kind := what_is_there(path)) != "a file"}
        if not folder.is_dir():
            raise CorpusError(f"{folder}: not a folder; expected one with {', '.join(FILE_NAMES.values())}")
        if strange:
            found = ", ".join(f"{name} is {kind}" for name, kind in strange.items())
            raise CorpusError(f"{folder}: {found}; expected the files {', '.join(FILE_NAMES.values())}")
        sha256 = {split: file_sha256(path) for split, path in paths.items()}
    except OSError as error:
        raise CorpusError(f"{error.filename}: {error.strerror}; expected a readable file") from None
    return {"files": {split: str(path) for split, path in paths.items()}, "sha256": sha256}


def what_is_there(path: Path) -> str:
    """Say what a path leads to. Reading a FIFO would wait for ever."""
    if path.is_file():
        return "a file"
    if path.is_symlink() and not path.exists():
        return "a link to nothing"
    if path.is_dir():
        return "a folder"
    return "neither a file nor a folder" if path.exists() else "missing"


def download(dl_manager: datasets.DownloadManager, url: str, expected: str | None) -> str:
    """Download one file and check its sha256, if one is expected. A wrong file is deleted from the cache."""
    remedy = "download the files by other means and pass their folder as --data_dir"
    try:
        path = dl_manager.download(url)
    except Exception as error:  # fsspec, aiohttp and the Hub's client each raise their own classes
        # fsspec raises FileNotFoundError for any failure of the first request; the cause is the real error.
        reason = isinstance(error, FileNotFoundError) and error.__cause__ or error
        kind = f"{type(reason).__name__}: {reason}".splitlines()[0]
        raise CorpusError(f"{url}: could not be downloaded ({kind}); try again, or {remedy}") from error
    found = file_sha256(path)
    if expected is not None and found != expected:
        Path(path).unlink()
        raise CorpusError(
            f"{url}: found sha256 {found}; expected {expected}. The download was deleted; "
            f"try again, or {remedy}"
        )
    return path


def is_url(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def file_sha256(path: str | Path) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_sentences(
    path: str | Path, shown: str | None = None
) -> Iterator[tuple[int | None, int | None, list[str], list[str]]]:
    """Yield (document, sentence in document, words, tags) for each sentence of one file.

    Documents and sentences count from 0. Both are None in a file without any document mark. If a file has
    marks, the words before the first one are a document too.

    CRLF line ends, a byte-order mark and a missing last blank line make no difference.

    Args:
        path: the file to read.
        shown: the name to use in errors, such as the URL of a cached file. If None, the path.

    Raises:
        CorpusError: `FILE:LINE: found ...; expected ...`.
    """
    shown = shown or str(path)
    marked = has_mark(path)
    document, sentence = -1, 0
    words: list[str] = []
    tags: list[str] = []
    found_any = False
    lines = itertools.chain(read_lines(path, shown), [""])  # the blank line at the end may be missing
    for number, line in enumerate(lines, start=1):
        if not line:
            if words:
                found_any = True
                yield (document, sentence, words, tags) if marked else (None, None, words, tags)
                sentence, words, tags = sentence + 1, [], []
            continue
        place = f"{shown}:{number}"
        word, tag = split_line(place, line)
        if word == DOCUMENT_MARK:
            check_mark(place, tag, words)
            document, sentence = document + 1, 0
        else:
            check_iob2(place, tag, tags)
            document = max(document, 0)  # there may be words before the first mark
            words.append(word)
            tags.append(tag)
    if not found_any:
        raise CorpusError(f"{shown}: found no sentence; expected lines of 'word TAB tag'")


def check_mark(place: str, tag: str, words_before: list[str]) -> None:
    """Refuse a document mark in the middle of a sentence, or with an entity tag."""
    if words_before:
        raise CorpusError(f"{place}: found {DOCUMENT_MARK} in a sentence; expected a blank line before it")
    if tag != "O":
        raise CorpusError(f"{place}: found {DOCUMENT_MARK} with the tag {tag}; expected O")


def check_iob2(place: str, tag: str, tags_before: list[str]) -> None:
    """Refuse an I- tag that does not continue an entity of its type."""
    if tag.startswith("I-") and (not tags_before or tags_before[-1][2:] != tag[2:]):
        before = f"after {tags_before[-1]}" if tags_before else "at the start of a sentence"
        raise CorpusError(f"{place}: found '{tag}' {before}; expected B-{tag[2:]} first (IOB2)")


def raw_lines(path: str | Path) -> Iterator[bytes]:
    """Yield the lines of a file without their line ends and without a byte-order mark at its start."""
    with Path(path).open("rb") as file:
        for number, line in enumerate(file):
            start = line.removeprefix(codecs.BOM_UTF8) if number == 0 else line
            yield start.removesuffix(b"\n").removesuffix(b"\r")


def has_mark(path: str | Path) -> bool:
    """Whether any line starts a document."""
    return any(line.startswith(f"{DOCUMENT_MARK}\t".encode()) for line in raw_lines(path))


def read_lines(path: str | Path, shown: str) -> Iterator[str]:
    """Yield the lines of a file. Refuse a file that is not UTF-8 text."""
    for number, line in enumerate(raw_lines(path), start=1):
        if line.startswith(codecs.BOM_UTF8):
            raise CorpusError(
                f"{shown}:{number}: found a byte-order mark; expected none after the first line (was a "
                "second file appended here?)"
            )
        if b"\r" in line:
            raise CorpusError(
                f"{shown}:{number}: found a carriage return inside a line; expected LF or CRLF at its end"
            )
        if b"\0" in line:
            raise CorpusError(f"{shown}:{number}: found a NUL byte; expected UTF-8 text")
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            found = f"0x{line[error.start]:02x}"
            raise CorpusError(f"{shown}:{number}: found byte {found}; expected UTF-8 text") from None


def split_line(place: str, line: str) -> tuple[str, str]:
    """Return (word, tag) of one line, or raise a CorpusError that names `place`."""
    fields = line.split("\t")
    if len(fields) != 2:
        found = f"{len(fields)} field{'s'[: len(fields) != 1]}: {line[:60]!r}"
        raise CorpusError(f"{place}: found {found}; expected 2, word TAB tag")
    word, tag = fields
    if not word or word.split() != [word]:
        raise CorpusError(f"{place}: found the word {word!r}; expected a word without white space")
    if tag not in LABELS:
        raise CorpusError(
            f"{place}: found the unknown tag {tag!r}; expected one of {', '.join(LABELS)}. For a corpus with "
            "other types give --train_file, not --data_dir"
        )
    return word, tag


def split_counts(sentences: datasets.Dataset) -> dict[str, int | str | None]:
    """Count the documents, sentences, words and entities of a split, and compute its fingerprint.

    `documents` is None if the document of any sentence is unknown.
    """
    documents = set(column(sentences, "document_id"))
    names = sentences.features["ner_tags"].feature.names
    begins = {i for i, name in enumerate(names) if name.startswith("B-")}
    return {
        "documents": None if None in documents else len(documents),
        "sentences": len(sentences),
        "words": sum(map(len, column(sentences, "ner_tags"))),
        "entities": sum(tag in begins for tags in column(sentences, "ner_tags") for tag in tags),
        "fingerprint": fingerprint(sentences),
    }


def fingerprint(sentences: datasets.Dataset) -> str:
    """Return 16 hexadecimal digits of a hash of all words, tags, and sentence and document boundaries."""
    digest = hashlib.sha256()
    for document, words, tags in columns(sentences, "document_id", "tokens", "ner_tags"):
        digest.update(repr((document, list(zip(words, tags, strict=True)))).encode())
    return digest.hexdigest()[:16]
