"""Tests of the corpus builder: published counts, malformed files, failed downloads and the cache.

    python -m pytest tests/test_jnlpba.py                 # under a minute, no network but 127.0.0.1
    NER_DATA=FOLDER python -m pytest tests/test_jnlpba.py     # FOLDER holds jnlpba/, the published files

They use real files, the real builder, and a local HTTP server (http_server.py).
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from itertools import chain, groupby
from pathlib import Path

import datasets
import pytest
from conftest import DATA, REPO
from http_server import FileServer, Reply, silent_port
from hypothesis import given, settings
from hypothesis import strategies as st

from jnlpba_dataset import (
    LABELS,
    CorpusError,
    corpus_name,
    fingerprint,
    load_jnlpba,
    source_sha256,
    split_counts,
    whole_abstracts,
)
from jnlpba_dataset.jnlpba import FILE_NAMES, UPSTREAM_SHA256, build, read_sentences

TYPES = ("protein", "DNA", "RNA", "cell_line", "cell_type")
MARK = "-DOCSTART-\tO\n\n"
GOOD = MARK + "IL-2\tB-protein\ngene\tI-protein\n\n"  # five lines: appended text starts on line 6

# The published number of words with each label.
COUNTS = {
    "train": {"abstracts": 1_800, "sentences": 16_807, "words": 445_090, "O": 345_736}
    | {"B-protein": 27_803, "I-protein": 22_437, "B-cell_type": 6_192, "I-cell_type": 8_132}
    | {"B-DNA": 8_481, "I-DNA": 14_068, "B-cell_line": 3_430, "I-cell_line": 6_619}
    | {"B-RNA": 844, "I-RNA": 1_348},
    "validation": {"abstracts": 200, "sentences": 1_739, "words": 47_461, "O": 37_227}
    | {"B-protein": 2_466, "I-protein": 2_411, "B-cell_type": 526, "I-cell_type": 616}
    | {"B-DNA": 1_052, "I-DNA": 1_706, "B-cell_line": 400, "I-cell_line": 768}
    | {"B-RNA": 107, "I-RNA": 182},
    "test": {"abstracts": 404, "sentences": 3_856, "words": 101_039, "O": 81_647}
    | {"B-protein": 5_067, "I-protein": 4_774, "B-cell_type": 1_921, "I-cell_type": 2_991}
    | {"B-DNA": 1_056, "I-DNA": 1_789, "B-cell_line": 500, "I-cell_line": 989}
    | {"B-RNA": 118, "I-RNA": 187},
}
# Recorded with the first runs. A different value would make their results incomparable with later ones.
FINGERPRINTS = {"validation": "1074c70265b216fe", "test": "1d67f9a266d82b3c"}


def write_corpus(folder: Path, **files: str | bytes) -> Path:
    """Write the three files; `train="..."` and the like replace the content of one."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem in ("train", "devel", "test"):
        content = files.get(stem, f"{GOOD}{stem}\tO\n\n")
        (folder / f"{stem}.tsv").write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def words(split: datasets.Dataset) -> list[list[str]]:
    return list(split["tokens"])


def built(cache: Path) -> list[Path]:
    """The paths in a cache that a later load could use as a corpus, complete or not."""
    found = [path for path in cache.rglob("*.incomplete") if path.is_dir()]
    return [*found, *cache.rglob("*.arrow"), *cache.rglob("dataset_info.json")]


def run_python(code: str, *arguments: object, **environment: str) -> subprocess.Popen:
    """Start `code` in a new process. The offline switches are off unless given."""
    clean = {name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=REPO,
        env=clean | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answer(process: subprocess.Popen):
    """Parse the last line that the process printed as JSON."""
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return json.loads(output.splitlines()[-1])


# ------------------------------------------------------------------------------------ the published corpus


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> datasets.DatasetDict:
    if not (DATA / "test.tsv").is_file():
        pytest.skip("the published corpus is not here (set NER_DATA to the folder that holds jnlpba/)")
    return load_jnlpba(DATA, cache_dir=tmp_path_factory.mktemp("published"))


@pytest.mark.parametrize("split", COUNTS)
def test_published_corpus_has_the_published_counts(published, split):
    rows = published[split]
    names = rows.features["ner_tags"].feature.names
    tags = Counter(names[tag] for tag in chain.from_iterable(rows["ner_tags"]))
    counts = {
        "abstracts": len(set(rows["document_id"])),
        "sentences": len(rows),
        "words": sum(map(len, rows["tokens"])),
        **tags,
    }
    assert counts == COUNTS[split]
    if split == "test":
        assert sum(count for tag, count in tags.items() if tag.startswith("B-")) == 8_662


@pytest.mark.parametrize("split", COUNTS)
def test_pinned_digests_are_those_of_the_published_files(published, split):
    content = (DATA / FILE_NAMES[split]).read_bytes()
    assert UPSTREAM_SHA256[split] == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("split", FINGERPRINTS)
def test_published_fingerprints_stay_the_same(published, split):
    assert fingerprint(published[split]) == FINGERPRINTS[split]


def test_published_rows_keep_to_the_documented_features(published):
    ids, documents = [], []
    for split in published.values():
        rows = split.select_columns(["id", "document_id", "sentence_id"]).to_list()
        ids += [row["id"] for row in rows]
        for document, sentences in groupby(rows, key=lambda row: row["document_id"]):
            documents.append(document)
            numbers = [row["sentence_id"] for row in sentences]
            assert numbers == list(range(len(numbers))), document
        assert "-DOCSTART-" not in set(chain.from_iterable(split["tokens"]))
    assert len(set(ids)) == len(ids) == 16_807 + 1_739 + 3_856
    assert len(set(documents)) == len(documents) == 1_800 + 200 + 404


def test_rows_of_a_small_corpus(tmp_path):
    train = f"{MARK}IL-2\tB-protein\ngene\tI-protein\n\nbinds\tO\n\n{MARK}AP-1\tB-protein\nT\tB-cell_type\n\n"
    corpus = load_jnlpba(write_corpus(tmp_path / "in", train=train), cache_dir=tmp_path / "cache")
    assert list(corpus) == ["train", "validation", "test"]
    assert corpus["train"].features == datasets.Features(
        {
            "id": datasets.Value("string"),
            "document_id": datasets.Value("string"),
            "sentence_id": datasets.Value("int32"),
            "tokens": datasets.List(datasets.Value("string")),
            "ner_tags": datasets.List(datasets.ClassLabel(names=list(LABELS))),
        }
    )
    # Trained models depend on this order.
    assert list(LABELS) == ["O", *(f"{prefix}-{kind}" for kind in TYPES for prefix in "BI")]
    rows = corpus["train"].to_list()
    assert [row["tokens"] for row in rows] == [["IL-2", "gene"], ["binds"], ["AP-1", "T"]]
    assert [row["ner_tags"] for row in rows] == [[1, 2], [0], [1, 9]]
    assert [row["sentence_id"] for row in rows] == [0, 1, 0]
    assert rows[0]["document_id"] == rows[1]["document_id"] != rows[2]["document_id"]
    everywhere = [row for split in corpus.values() for row in split.to_list()]
    assert len({row["id"] for row in everywhere}) == len(everywhere) == 7
    assert len({row["document_id"] for row in everywhere}) == 4
    assert corpus["validation"][-1]["tokens"] == ["devel"] and corpus["test"][-1]["tokens"] == ["test"]


# ------------------------------------------------------------------------------------ the embedded sample


def test_sample_is_a_corpus_in_small(tmp_path):
    sample = load_jnlpba(name="sample", cache_dir=tmp_path)
    sizes = {"train": 200, "validation": 40, "test": 40}
    assert list(sample) == list(sizes)
    seen = Counter()
    for split, size in sizes.items():
        rows = sample[split]
        assert abs(len(rows) - size) <= size / 10, split
        begun = set(chain.from_iterable(rows["ner_tags"])) & {LABELS.index(f"B-{kind}") for kind in TYPES}
        assert len(begun) == len(TYPES), f"{split} lacks a type"
        assert len(set(rows["document_id"])) > 1, split
        seen.update(set(map(tuple, rows["tokens"])))
    assert [sentence for sentence, splits in seen.items() if splits > 1] == []


def test_sample_is_not_taken_from_the_published_corpus(published, tmp_path):
    sample = load_jnlpba(name="sample", cache_dir=tmp_path)
    ours, theirs = (
        {tuple(tokens) for split in corpus.values() for tokens in split["tokens"]}
        for corpus in (sample, published)
    )
    assert not ours & theirs


# ------------------------------------------------------------------------------------ reading files


def is_word_character(character: str) -> bool:
    return character.split() == [character] and character not in "\0\ufeff"


WORD = st.text(st.characters(exclude_categories=["Cs"]).filter(is_word_character), min_size=1, max_size=6)
ENTITY = st.tuples(st.sampled_from([None, *TYPES]), st.lists(WORD.filter(lambda word: word != "-DOCSTART-")))


@st.composite
def sentence(draw) -> tuple[list[str], list[str]]:
    """Draw words and their IOB2 tags, as adjacent stretches of one type each (None is outside)."""
    tokens, tags = [], []
    for kind, stretch in draw(st.lists(ENTITY, min_size=1, max_size=4)):
        tokens += stretch
        tags += [f"{'I' if i else 'B'}-{kind}" if kind else "O" for i in range(len(stretch))]
    return (tokens, tags) if tokens else (["word"], ["O"])


@settings(derandomize=True, deadline=None, max_examples=150)
@given(
    documents=st.lists(st.lists(sentence(), max_size=3), min_size=1, max_size=4).filter(any),
    marked=st.booleans(),
    end=st.sampled_from(["\n", "\r\n"]),
    blank_lines=st.integers(1, 3),
    last_end=st.integers(0, 2),
    byte_order_mark=st.booleans(),
)
def test_written_sentences_are_read_back(
    tmp_path_factory, documents, marked, end, blank_lines, last_end, byte_order_mark
):
    """If `marked` is False, the first mark is left out; without any mark, no document is known."""
    marked = marked or not documents[0]
    any_mark = marked or len(documents) > 1
    lines, expected = [], []
    for number, document in enumerate(documents):
        if number or marked:
            lines += ["-DOCSTART-\tO", ""]
        for position, (tokens, tags) in enumerate(document):
            lines += [f"{word}\t{tag}" for word, tag in zip(tokens, tags, strict=True)] + [""] * blank_lines
            expected.append((*((number, position) if any_mark else (None, None)), tokens, tags))
    text = end.join(lines).rstrip("\r\n") + end * last_end
    path = tmp_path_factory.getbasetemp() / "round_trip.tsv"
    path.write_bytes(text.encode("utf-8-sig" if byte_order_mark else "utf-8"))
    assert list(read_sentences(path)) == expected


BAD_FILES = {
    "one field": (GOOD + "word\n", 6, "found 1 field: 'word'", "expected 2, word TAB tag"),
    "three fields": (
        GOOD + "word\tNN\tO\n",
        6,
        "found 3 fields: 'word\\tNN\\tO'",
        "expected 2, word TAB tag",
    ),
    "blank line with a space": (
        GOOD + "a\tO\n \nb\tO\n",
        7,
        "found 1 field: ' '",
        "expected 2, word TAB tag",
    ),
    "empty word": (GOOD + "\tO\n", 6, "found the word ''", "expected a word without white space"),
    "space in a word": (GOOD + "a b\tO\n", 6, "found the word 'a b'", "expected a word without white space"),
    "space after a word": (GOOD + "a \tO\n", 6, "found the word 'a '", "expected a word without white space"),
    "space after a tag": (GOOD + "a\tO \n", 6, "found the unknown tag 'O '", "expected one of O, B-protein"),
    "unknown tag": (
        GOOD + "x\tB-gene\n",
        6,
        "found the unknown tag 'B-gene'",
        "expected one of O, B-protein",
    ),
    "unknown tag, CRLF": (
        "a\tO\r\nx\tB-\r\n",
        2,
        "found the unknown tag 'B-'",
        "expected one of O, B-protein",
    ),
    "I- at the start": (
        GOOD + "x\tI-protein\n",
        6,
        "found 'I-protein' at the start",
        "expected B-protein first",
    ),
    "I- after O": (GOOD + "a\tO\nx\tI-DNA\n", 7, "found 'I-DNA' after O", "expected B-DNA first"),
    "I- after another type": (
        GOOD + "a\tB-RNA\nx\tI-DNA\n",
        7,
        "found 'I-DNA' after B-RNA",
        "expected B-DNA",
    ),
    "not UTF-8": (GOOD.encode() + b"a\tO\ncaf\xe9\tO\nb\tO\n", 7, "found byte 0xe9", "expected UTF-8 text"),
    "a second file appended": (
        GOOD.encode() + b"\n\xef\xbb\xbf-DOCSTART-\tO\n\ngene\tO\n",
        7,
        "found a byte-order mark",
        "expected none after the first line",
    ),
    "not UTF-8 after a byte-order mark": (
        b"\xef\xbb\xbf" + GOOD.encode() + b"\xff\tO\n",
        6,
        "found byte 0xff",
        "expected UTF-8 text",
    ),
    "NUL byte": (GOOD + "a\0\tO\n", 6, "found a NUL byte", "expected UTF-8 text"),
    "UTF-16": (GOOD.encode("utf-16"), 1, "found a NUL byte", "expected UTF-8 text"),
    "empty": ("", None, "found no sentence", "expected lines of 'word TAB tag'"),
    "blank lines only": ("\n\r\n\n", None, "found no sentence", "expected lines of 'word TAB tag'"),
    "marks only": (MARK * 2, None, "found no sentence", "expected lines of 'word TAB tag'"),
    "mark in a sentence": (
        GOOD + "a\tO\n-DOCSTART-\tO\n",
        7,
        "found -DOCSTART- in a sentence",
        "expected a blank line before",
    ),
}


@pytest.mark.parametrize(("content", "line", "found", "expected"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_file_is_refused_and_leaves_nothing_behind(tmp_path, content, line, found, expected):
    """The malformed file is read last, when two good splits are already written."""
    folder = write_corpus(tmp_path / "in", test=content)
    place = f"{folder / 'test.tsv'}:" + ("" if line is None else f"{line}:")
    for _attempt in range(2):  # a half-built cache would make the second one succeed
        with pytest.raises(CorpusError) as caught:
            load_jnlpba(folder, cache_dir=tmp_path / "cache")
        text = str(caught.value)
        assert text.startswith(f"{place} {found}") and expected in text.removeprefix(place)
        assert built(tmp_path / "cache") == []
    write_corpus(folder)
    assert words(load_jnlpba(folder, cache_dir=tmp_path / "cache")["test"]) == [["IL-2", "gene"], ["test"]]


def no_split_file(folder: Path):
    write_corpus(folder)
    (folder / "devel.tsv").unlink()


def folder_for_a_file(folder: Path):
    no_split_file(folder)
    (folder / "devel.tsv").mkdir()


BAD_FOLDERS = {
    "a file missing": (no_split_file, "devel.tsv is missing;"),
    "a folder in place of a file": (folder_for_a_file, "devel.tsv is a folder;"),
    "no folder": (lambda folder: None, "not a folder;"),
    "a file": (lambda folder: folder.write_text(GOOD), "not a folder;"),
    "an empty folder": (Path.mkdir, "train.tsv is missing, devel.tsv is missing, test.tsv is missing;"),
}


@pytest.mark.parametrize(("prepare", "found"), BAD_FOLDERS.values(), ids=BAD_FOLDERS)
def test_bad_folder_is_refused(tmp_path, prepare, found):
    folder = tmp_path / "in"
    prepare(folder)
    with pytest.raises(CorpusError) as caught:
        load_jnlpba(folder, cache_dir=tmp_path / "cache")
    text = str(caught.value)
    assert text.startswith(f"{folder}: {found}") and "train.tsv, devel.tsv, test.tsv" in text
    assert built(tmp_path) == []


# This runs in a new process, because `datasets` replaces `Path` in a builder's module after the first builder
# is made; only the first load of a process gets the operating system's own errors. Root can read every file,
# so it switches to the user nobody.
UNREADABLE = """
import json, os, sys
from jnlpba_dataset import CorpusError, load_jnlpba
if os.geteuid() == 0:
    os.seteuid(65534)
said = []
for folder in json.loads(sys.argv[1]):
    try:
        load_jnlpba(folder)
    except CorpusError as error:
        said.append(str(error))
print(json.dumps(said))
"""


def test_unreadable_names_are_refused(tmp_path):
    closed = write_corpus(tmp_path / "closed" / "in")
    folders = ["", str(closed), str(tmp_path / ("x" * 300)), "a\0b"]
    closed.parent.chmod(0)
    try:
        said = answer(run_python(UNREADABLE, json.dumps(folders)))
    finally:
        closed.parent.chmod(0o700)
    places = [".:", str(closed), folders[2], "a\0b:"]
    assert len(said) == len(places)
    for text, place in zip(said, places, strict=True):
        assert text.startswith(place) and "expected" in text


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"name": "nope"}, ["--dataset_config_name", "'nope'", "expected one of jnlpba, sample"]),
        (
            {"name": "sample", "data_dir": "/some/folder"},
            ["--data_dir: found '/some/folder'", "leave --data_dir out"],
        ),
    ],
)
def test_impossible_arguments_are_refused(tmp_path, arguments, parts):
    with pytest.raises(CorpusError) as caught:
        load_jnlpba(cache_dir=tmp_path, **arguments)
    assert all(part in str(caught.value) for part in parts)


# ------------------------------------------------------------------------------------ the cache


def test_edited_file_is_read_anew_and_an_unchanged_one_is_not(tmp_path):
    """The edit keeps the file's size and times, so a cache keyed by them would miss it."""
    folder = write_corpus(tmp_path / "a folder [1] *é", test=GOOD)
    first = load_jnlpba(folder, cache_dir=tmp_path / "cache")
    assert words(first["test"]) == [["IL-2", "gene"]]
    arrow = Path(first["test"].cache_files[0]["filename"])
    assert tmp_path / "cache" in arrow.parents
    written = (arrow.stat().st_ino, arrow.stat().st_mtime_ns)
    again = load_jnlpba(folder, cache_dir=tmp_path / "cache")
    assert again["test"].cache_files == first["test"].cache_files
    assert (arrow.stat().st_ino, arrow.stat().st_mtime_ns) == written

    path = folder / "test.tsv"
    times = path.stat()
    path.write_text(GOOD.replace("IL-2", "IL-4"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (times.st_size, times.st_mtime_ns)
    assert words(load_jnlpba(folder, cache_dir=tmp_path / "cache")["test"]) == [["IL-4", "gene"]]
    path.write_text(GOOD)
    assert words(load_jnlpba(folder, cache_dir=tmp_path / "cache")["test"]) == [["IL-2", "gene"]]


TWO_BUILDERS = """
import json, sys, time
from pathlib import Path
from jnlpba_dataset import fingerprint, load_jnlpba
folder, cache, mine, other = map(Path, sys.argv[1:])
mine.touch()
while not other.exists():
    time.sleep(0.001)
corpus = load_jnlpba(folder, cache_dir=cache)
print(json.dumps({split: fingerprint(rows) for split, rows in corpus.items()}))
"""


def test_two_processes_may_build_into_one_cache(tmp_path):
    folder = write_corpus(tmp_path / "in", train=GOOD * 2_000)
    ready = (tmp_path / "ready 1", tmp_path / "ready 2")
    racers = [run_python(TWO_BUILDERS, folder, tmp_path / "cache", *pair) for pair in (ready, ready[::-1])]
    first, second = map(answer, racers)
    alone = load_jnlpba(folder, cache_dir=tmp_path / "another cache")
    assert first == second == {split: fingerprint(rows) for split, rows in alone.items()}


def test_fingerprint_follows_content_and_nothing_else(tmp_path):
    base = f"{MARK}ab\tB-DNA\nc\tI-DNA\n\nd\tO\n\n{MARK}e\tO\n\n"
    variants = {
        "word": base.replace("d\t", "D\t"),
        "word boundary": base.replace("ab\t", "a\t").replace("c\t", "bc\t"),
        "tag": base.replace("d\tO", "d\tB-DNA"),
        "sentence boundary moved": base.replace("c\tI-DNA\n\nd\tO", "c\tI-DNA\nd\tO\n"),
        "sentence boundary added": base.replace("c\tI-DNA", "\nc\tB-DNA"),
        "sentence boundary added, tags as they were": base.replace("e\tO", "e\tO\n\ne\tO"),
        "same words in one sentence": base.replace("e\tO", "e\tO\ne\tO"),
        "document boundary added": base.replace("d\tO", f"{MARK}d\tO"),
        "document boundary moved": f"{MARK}ab\tB-DNA\nc\tI-DNA\n\n{MARK}d\tO\n\ne\tO\n\n",
        "document boundary removed": base.replace(f"\n{MARK}e", "\ne"),
        "document boundaries unknown": base.replace(MARK, ""),
        "order": f"{MARK}d\tO\n\nab\tB-DNA\nc\tI-DNA\n\n{MARK}e\tO\n\n",
    }
    prints = {}
    for number, (kind, text) in enumerate([("base", base), *variants.items()]):
        folder = write_corpus(tmp_path / str(number), train=text)
        prints[kind] = fingerprint(load_jnlpba(folder, cache_dir=tmp_path / "cache")["train"])
    assert len(set(prints.values())) == len(prints), prints
    elsewhere = write_corpus(tmp_path / "elsewhere", train=base.replace("\n", "\r\n"))
    for cache in ("cache", "another cache"):
        assert fingerprint(load_jnlpba(elsewhere, cache_dir=tmp_path / cache)["train"]) == prints["base"]


# ------------------------------------------------------------------------------------ downloads

PAGES = {f"/{name}": f"{GOOD}{split}\tO\n\n".encode() for split, name in FILE_NAMES.items()}
DIGESTS = {split: hashlib.sha256(PAGES[f"/{name}"]).hexdigest() for split, name in FILE_NAMES.items()}
TEST_PAGE = "/test.tsv"
CHANGED = PAGES[TEST_PAGE].replace(b"gene", b"gems")


@pytest.fixture
def online(monkeypatch):
    """Undo the offline switch that conftest.py sets. The server is on 127.0.0.1."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)


def replies(**changed: Reply) -> dict[str, Reply]:
    return {page: Reply(body) for page, body in PAGES.items()} | {
        f"/{stem}.tsv": reply for stem, reply in changed.items()
    }


def fetch(server_url, cache: Path) -> datasets.DatasetDict:
    urls = {split: server_url(f"/{name}") for split, name in FILE_NAMES.items()}
    return build("jnlpba", str(cache), files=urls, sha256=DIGESTS)


def refusal(url_of, cache: Path, seconds: float = 60.0) -> str:
    """Return the error of a failing download. It must fail soon and leave nothing that a load would use."""
    start = time.monotonic()
    with pytest.raises(CorpusError) as caught:
        fetch(url_of, cache)
    assert time.monotonic() - start < seconds
    assert built(cache) == []
    kept = [
        path
        for path in (cache / "downloads").glob("*")
        if path.suffix not in (".json", ".lock", ".incomplete")
    ]
    assert {path.read_bytes() for path in kept} <= set(PAGES.values())
    return str(caught.value)


def test_download_gives_the_corpus_and_is_kept(tmp_path, online):
    with FileServer(replies()) as server:
        assert words(fetch(server.url, tmp_path)["test"]) == [["IL-2", "gene"], ["test"]]
        asked = len(server.requests)
        assert words(fetch(server.url, tmp_path)["train"]) == [["IL-2", "gene"], ["train"]]
        assert asked and len(server.requests) == asked


BAD_REPLIES = {
    "changed byte": (Reply(CHANGED), ["found sha256 " + hashlib.sha256(CHANGED).hexdigest(), "try again"]),
    "ends early, no length announced": (
        Reply(PAGES[TEST_PAGE], cut_at=20, send_length=False),
        ["found sha256 " + hashlib.sha256(PAGES[TEST_PAGE][:20]).hexdigest(), "try again"],
    ),
    "connection cut": (
        Reply(PAGES[TEST_PAGE], cut_at=20),
        ["could not be downloaded (", "not completed", "try again"],
    ),
    "404": (Reply(b"no", status=404), ["could not be downloaded (", "404", "try again"]),
    "500": (Reply(b"no", status=500), ["could not be downloaded (", "500", "try again"]),
}


@pytest.mark.parametrize(("reply", "parts"), BAD_REPLIES.values(), ids=BAD_REPLIES)
def test_failed_download_says_what_to_do_and_is_not_kept(tmp_path, online, reply, parts):
    with FileServer(replies(test=reply)) as server:
        for _attempt in range(2):  # if a bad file were kept, the second message would differ
            text = refusal(server.url, tmp_path)
            assert text.startswith(server.url(TEST_PAGE) + ": ") and "--data_dir" in text
            assert all(part in text for part in parts), text
            assert "sha256" not in text or f"expected {DIGESTS['test']}" in text
        server.replies[TEST_PAGE] = Reply(PAGES[TEST_PAGE])
        assert words(fetch(server.url, tmp_path)["test"]) == [["IL-2", "gene"], ["test"]]


def test_nothing_listening_is_said_and_passes(tmp_path, online):
    with silent_port() as port:
        text = refusal(lambda page: f"http://127.0.0.1:{port}{page}", tmp_path)
    assert text.startswith(f"http://127.0.0.1:{port}/train.tsv: could not be downloaded (ClientConnector")
    assert "--data_dir" in text
    with FileServer(replies(), port=port) as server:
        assert words(fetch(server.url, tmp_path)["test"]) == [["IL-2", "gene"], ["test"]]


def test_bad_line_of_a_download_is_named_by_its_url(tmp_path, online, monkeypatch):
    page = (GOOD + "word\n").encode()
    monkeypatch.setitem(DIGESTS, "test", hashlib.sha256(page).hexdigest())
    monkeypatch.setitem(PAGES, TEST_PAGE, page)
    with FileServer(replies()) as server:
        assert refusal(server.url, tmp_path).startswith(f"{server.url(TEST_PAGE)}:6: found 1 field: 'word'")


OFFLINE = """
import json, sys, time
from jnlpba_dataset import CorpusError
from jnlpba_dataset.jnlpba import build
start = time.monotonic()
try:
    build("jnlpba", sys.argv[2], files={"train": sys.argv[1]}, sha256={"train": "0" * 64})
except CorpusError as error:
    print(json.dumps([str(error), time.monotonic() - start]))
"""


def test_offline_switches_are_obeyed_and_named(tmp_path):
    switches = ["HF_DATASETS_OFFLINE", "HF_HUB_OFFLINE"]
    with FileServer(replies()) as server:
        url = server.url("/train.tsv")
        processes = [run_python(OFFLINE, url, tmp_path / switch, **{switch: "1"}) for switch in switches]
        for process in processes:
            text, seconds = answer(process)
            assert text.startswith(f"{url}: could not be downloaded (Offline") and "--data_dir" in text
            assert seconds < 60
        assert server.requests == []


def test_each_abstract_is_its_sentences_joined(cache_dir):
    sentences = load_jnlpba(name="sample", cache_dir=cache_dir)["train"]
    abstracts = whole_abstracts(sentences, cache_dir)
    assert abstracts.features == sentences.features
    several = {name for name, count in Counter(sentences["document_id"]).items() if count > 1}
    assert set(abstracts["document_id"]) == several and len(abstracts) == len(several)
    for name in ("tokens", "ner_tags"):
        of_sentences = [row[name] for row in sentences if row["document_id"] in several]
        assert list(chain(*abstracts[name])) == list(chain(*of_sentences))
    first = whole_abstracts(sentences.select(range(5)), cache_dir)
    assert len(first) < len(abstracts), "another selection of the same corpus is not taken from the cache"


def test_a_corpus_without_abstracts_has_none(cache_dir):
    lone = load_jnlpba(name="sample", cache_dir=cache_dir)["train"].select([0])
    assert whole_abstracts(lone, cache_dir).to_list() == []


UNMARKED = "a\tO\n\nIL-2\tB-protein\ngene\tI-protein\n\nb\tO\n\n"


def test_a_file_without_marks_has_unknown_documents(tmp_path):
    """Only test.tsv has no marks; the documents of the other files stay known."""
    corpus = load_jnlpba(write_corpus(tmp_path / "in", test=UNMARKED), cache_dir=tmp_path / "cache")
    rows = corpus["test"].to_list()
    assert [(row["id"], row["document_id"], row["sentence_id"]) for row in rows] == [
        ("test-0", None, None),
        ("test-1", None, None),
        ("test-2", None, None),
    ]
    assert words(corpus["test"]) == [["a"], ["IL-2", "gene"], ["b"]]
    assert corpus["test"].features == corpus["train"].features
    assert [(row["document_id"], row["sentence_id"]) for row in corpus["train"]] == [
        ("train-0", 0),
        ("train-0", 1),
    ]
    counts = {"documents": None, "sentences": 3, "words": 4, "entities": 1}
    assert split_counts(corpus["test"]) == {**counts, "fingerprint": fingerprint(corpus["test"])}
    assert split_counts(corpus["train"])["documents"] == 1


def test_sentences_of_unknown_documents_are_not_joined(tmp_path):
    corpus = load_jnlpba(write_corpus(tmp_path / "in", test=UNMARKED), cache_dir=tmp_path / "cache")
    assert whole_abstracts(corpus["test"], tmp_path / "cache").to_list() == []
    mixed = datasets.concatenate_datasets([corpus["train"], corpus["test"], corpus["validation"]])
    abstracts = whole_abstracts(mixed, tmp_path / "cache")
    assert list(abstracts["document_id"]) == ["train-0", "validation-0"]
    assert words(abstracts) == [["IL-2", "gene", "train"], ["IL-2", "gene", "devel"]]
    assert split_counts(mixed)["documents"] is None


def test_only_the_published_files_are_named_jnlpba(tmp_path):
    assert corpus_name("jnlpba", source_sha256(None, "jnlpba")) == "jnlpba"
    assert corpus_name("sample", source_sha256(None, "sample")) == "sample"
    own = source_sha256(write_corpus(tmp_path), "jnlpba")
    assert corpus_name("jnlpba", own) == "custom"
    assert corpus_name("jnlpba", {**UPSTREAM_SHA256, "test": own["test"]}) == "custom"


def test_counts_of_a_split(cache_dir):
    counts = split_counts(load_jnlpba(name="sample", cache_dir=cache_dir)["test"])
    expected = {"documents": 6, "sentences": 40, "words": 710, "entities": 109}
    assert counts == {**expected, "fingerprint": counts["fingerprint"]}
