"""Files -> sentences: the `datasets` builder of JNLPBA (BioNLP / JNLPBA shared task 2004).

    python -c 'from jnlpba_dataset import load_jnlpba; print(load_jnlpba(name="sample"))'

A file holds one `word TAB tag` a line (IOB2), a blank line after each sentence, and a line `-DOCSTART- TAB O`
before each abstract. Imports nothing of ours.
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import datasets
from datasets.exceptions import DatasetGenerationError

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
    """A corpus that can't be read: says where, what was found, what was expected."""


@dataclasses.dataclass
class JnlpbaConfig(datasets.BuilderConfig):
    """Where one configuration's files are, and what they must hash to.

    `files` maps split -> path or URL. `sha256` maps split -> digest: of a download it is checked; of a local
    file it only makes the cache follow the content, so an edited file is never served from an old cache.
    """

    files: dict[str, str] = dataclasses.field(default_factory=dict)
    sha256: dict[str, str] = dataclasses.field(default_factory=dict)


class Jnlpba(datasets.GeneratorBasedBuilder):
    """Sentences of JNLPBA with features id, document_id, sentence_id, tokens, ner_tags.

    A changed parser needs a new VERSION: the cache is keyed by it.
    """

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIG_CLASS = JnlpbaConfig
    BUILDER_CONFIGS = [
        JnlpbaConfig(
            name="jnlpba",
            version=VERSION,
            description="The corpus as published, from the pinned upstream commit or a local folder",
            files={split: f"{UPSTREAM_URL}/{file}" for split, file in FILE_NAMES.items()},
            sha256=UPSTREAM_SHA256,
        ),
        JnlpbaConfig(
            name="sample",
            version=VERSION,
            description="Sentences of our own in the same format, embedded in the package",
            files={split: str(SAMPLE_FOLDER / file) for split, file in FILE_NAMES.items()},
        ),
    ]

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description="Bio-entity recognition in MEDLINE abstracts (GENIA): five types, IOB2 tags.",
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
        for document, sentence, words, tags in read_sentences(path, shown):
            key = f"{split}-{document}.{sentence}"
            yield (
                key,
                {
                    "id": key,
                    "document_id": f"{split}-{document}",
                    "sentence_id": sentence,
                    "tokens": words,
                    "ner_tags": tags,
                },
            )


def load_jnlpba(
    data_dir: str | Path | None = None, name: str = "jnlpba", cache_dir: str | Path | None = None
) -> datasets.DatasetDict:
    """The corpus as a DatasetDict with splits train, validation and test.

    Args:
        data_dir: a local folder with train.tsv, devel.tsv and test.tsv; without it `jnlpba` is downloaded
            from the pinned upstream commit and each file's sha256 is checked.
        name: `jnlpba`, or `sample` (our own sentences, embedded, no network).
        cache_dir: where `datasets` keeps downloads and Arrow files (its own default if None).

    Raises:
        CorpusError: a bad file (`FILE:LINE: found; expected`), a missing one, a wrong checksum, no network.
    """
    names = [config.name for config in Jnlpba.BUILDER_CONFIGS]
    if name not in names:
        raise CorpusError(f"--dataset_config_name: found '{name}'; expected one of {', '.join(names)}")
    if name == "sample" and data_dir is not None:
        raise CorpusError(
            f"--data_dir: found '{data_dir}' beside the embedded sample; expected one of the two. "
            "Leave --data_dir out, or set --dataset_config_name jnlpba"
        )
    folder = SAMPLE_FOLDER if name == "sample" else data_dir
    return build(name, None if cache_dir is None else str(cache_dir), **local_files(folder))


def corpus_name(data_dir: str | Path | None, name: str) -> str:
    """`jnlpba` for the corpus as published, by its checksums; `sample`; `custom` for any other folder."""
    return "custom" if name == "jnlpba" and source_sha256(data_dir, name) != UPSTREAM_SHA256 else name


def source_sha256(data_dir: str | Path | None, name: str) -> dict[str, str]:
    """The checksum of each split's file."""
    folder = SAMPLE_FOLDER if name == "sample" else data_dir
    return UPSTREAM_SHA256 if folder is None else local_files(folder)["sha256"]


def with_abstracts(sentences: datasets.Dataset) -> datasets.Dataset:
    """The sentences one by one, and after them each abstract of several sentences as one row.

    A model trained on them has seen both what it may be given. An abstract's row has the id of its first
    sentence.
    """
    abstracts = []
    for _, rows in itertools.groupby(sentences, key=lambda row: row["document_id"]):
        first, *others = rows
        if others:
            joined = {
                name: [item for row in (first, *others) for item in row[name]]
                for name in ("tokens", "ner_tags")
            }
            abstracts.append({**first, **joined})
    if not abstracts:
        return sentences
    whole = datasets.Dataset.from_list(abstracts, features=sentences.features)
    return datasets.concatenate_datasets([sentences, whole])


def build(name: str, cache_dir: str | None, **config) -> datasets.DatasetDict:
    """Run the builder, with the error of a bad file freed from the library's wrapping."""
    builder = Jnlpba(config_name=name, cache_dir=cache_dir, **config)
    try:
        builder.download_and_prepare()
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, CorpusError):
            raise error.__cause__ from None
        raise
    return builder.as_dataset()


def local_files(folder: str | Path | None) -> dict[str, dict[str, str]]:
    """The builder's `files` and `sha256` for a local folder; for None nothing, so that its own serve."""
    if folder is None:
        return {}
    folder = Path(folder)
    paths = {split: folder / file for split, file in FILE_NAMES.items()}
    try:
        missing = [path.name for path in paths.values() if not path.is_file()]
        if missing:
            state = "missing " + ", ".join(missing) if folder.is_dir() else "not a folder"
            raise CorpusError(f"{folder}: {state}; expected the files {', '.join(FILE_NAMES.values())}")
        sha256 = {split: file_sha256(path) for split, path in paths.items()}
    except OSError as error:
        raise CorpusError(f"{error.filename}: {error.strerror}; expected a readable file") from None
    return {"files": {split: str(path) for split, path in paths.items()}, "sha256": sha256}


def download(dl_manager: datasets.DownloadManager, url: str, expected: str) -> str:
    """Fetch one file and check its sha256; a file that fails the check is removed from the download cache."""
    remedy = "fetch the file by other means and give its folder as --data_dir"
    try:
        path = dl_manager.download(url)
    except Exception as error:  # each layer (fsspec, aiohttp, the Hub's client) has error classes of its own
        # fsspec calls whatever fails at first contact FileNotFoundError, with the reason behind it.
        reason = isinstance(error, FileNotFoundError) and error.__cause__ or error
        kind = f"{type(reason).__name__}: {reason}".splitlines()[0]
        raise CorpusError(f"{url}: could not be downloaded ({kind}); try again, or {remedy}") from error
    found = file_sha256(path)
    if found != expected:
        Path(path).unlink()
        raise CorpusError(
            f"{url}: found sha256 {found}; expected {expected}. It was removed: try again, or {remedy}"
        )
    return path


def is_url(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def file_sha256(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def read_sentences(
    path: str | Path, shown: str | None = None
) -> Iterator[tuple[int, int, list[str], list[str]]]:
    """Yield (document, sentence in document, words, tags) of one file.

    `shown` is the name that errors carry (a URL instead of its cached file). CRLF line ends, a byte-order
    mark and a missing last blank line are read as if they were not there.

    Raises:
        CorpusError: `FILE:LINE: what was found; what was expected`.
    """
    shown = shown or str(path)
    document, sentence = -1, 0
    words: list[str] = []
    tags: list[str] = []
    empty = True
    for number, line in numbered_lines(path, shown):
        if not line:
            if words:
                yield document, sentence, words, tags
                sentence, words, tags, empty = sentence + 1, [], [], False
            continue
        word, tag = split_line(f"{shown}:{number}", line)
        if word == DOCUMENT_MARK:
            if words:
                raise CorpusError(
                    f"{shown}:{number}: found {DOCUMENT_MARK} in a sentence; expected a blank line before"
                )
            if tag != "O":
                raise CorpusError(f"{shown}:{number}: found {DOCUMENT_MARK} with the tag {tag}; expected O")
            document, sentence = document + 1, 0
            continue
        if tag.startswith("I-") and (not tags or tags[-1][2:] != tag[2:]):
            before = f"after {tags[-1]}" if tags else "at the start of a sentence"
            raise CorpusError(f"{shown}:{number}: found '{tag}' {before}; expected B-{tag[2:]} first (IOB2)")
        document = max(document, 0)  # words before the first mark are a document of their own
        words.append(word)
        tags.append(tag)
    if words:
        yield document, sentence, words, tags
    elif empty:
        raise CorpusError(f"{shown}: found no sentence; expected lines of 'word TAB tag'")


def numbered_lines(path: str | Path, shown: str) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line without its end) of a UTF-8 file, or refuse its first bad byte."""
    content = Path(path).read_bytes()
    zero = content.find(b"\0")
    if zero >= 0:
        raise CorpusError(f"{shown}:{line_of(content, zero)}: found a NUL byte; expected UTF-8 text")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The codec counts from after a byte-order mark, if there is one.
        at = error.start + len(content) - len(error.object)
        raise CorpusError(
            f"{shown}:{line_of(content, at)}: found byte 0x{content[at]:02x}, not UTF-8; expected UTF-8 text"
        ) from None
    for number, line in enumerate(text.split("\n"), start=1):
        yield number, line.removesuffix("\r")


def line_of(content: bytes, position: int) -> int:
    return content.count(b"\n", 0, position) + 1


def split_line(place: str, line: str) -> tuple[str, str]:
    """(word, tag) of one line, or a CorpusError that names `place`."""
    fields = line.split("\t")
    if len(fields) != 2:
        found = f"{len(fields)} field{'s'[: len(fields) != 1]}: {line[:60]!r}"
        raise CorpusError(f"{place}: found {found}; expected 2, word TAB tag")
    word, tag = fields
    if not word or word.split() != [word]:
        raise CorpusError(f"{place}: found the word {word!r}; expected a word without white space")
    if tag not in LABELS:
        raise CorpusError(f"{place}: found the unknown tag {tag!r}; expected one of {', '.join(LABELS)}")
    return word, tag


def split_counts(sentences: datasets.Dataset) -> dict[str, int | str]:
    """documents, sentences, words, entities and fingerprint of a split."""
    begins = {i for i, name in enumerate(LABELS) if name.startswith("B-")}
    return {
        "documents": len(set(sentences["document_id"])),
        "sentences": len(sentences),
        "words": sum(map(len, sentences["tokens"])),
        "entities": sum(tag in begins for tags in sentences["ner_tags"] for tag in tags),
        "fingerprint": fingerprint(sentences),
    }


def fingerprint(sentences: Iterable[dict]) -> str:
    """16 hexadecimal digits that change with any word, tag, sentence or document boundary of a split."""
    digest = hashlib.sha256()
    for row in sentences:
        words = zip(row["tokens"], row["ner_tags"], strict=True)
        digest.update(repr((row["document_id"], list(words))).encode())
    return digest.hexdigest()[:16]
