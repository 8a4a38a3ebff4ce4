"""Reading any corpus: formats, columns, spans that tags can't express, and errors with their place.

python -m pytest tests/test_sources.py
"""

import json

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from transformers import AutoTokenizer

from jnlpba_dataset import CorpusError, column, encode, load_jnlpba
from jnlpba_dataset.jnlpba import SAMPLE_FOLDER
from metrics import entities
from ner_recipe.corpora.building import build
from ner_recipe.corpora.expressed import rows_of
from ner_recipe.corpora.records import Columns
from ner_recipe.corpora.sources import rows_of_dataset, rows_of_file
from ner_recipe.formats.document import Document, Entity
from ner_recipe.formats.writing import write_documents
from ner_recipe.serving import write_out

WORDS = [
    ("IL-2", "B-gene"),
    ("gene", "I-gene"),
    ("#1", "O"),
    ("in", "O"),
    ("T", "B-cell"),
    ("cells", "I-cell"),
]
ARTICLE = [WORDS[:4], WORDS[4:]]
SENTENCES = [(None, ARTICLE[0]), (None, ARTICLE[1])]
LISTS = [{"tokens": [w for w, _ in s], "ner_tags": [t for _, t in s]} for s in ARTICLE]


def lines(divider: str, sentences=ARTICLE, middle: str = "") -> str:
    return "\n\n".join("\n".join(f"{w}{divider}{middle}{t}" for w, t in s) for s in sentences) + "\n"


def csv_of(cell) -> str:
    rows = (
        ",".join('"' + cell(record[name]).replace('"', '""') + '"' for name in record) for record in LISTS
    )
    return "tokens,ner_tags\n" + "\n".join(rows) + "\n"


TEXTS = {
    "tabs.tsv": lines("\t"),
    "spaces.txt": lines(" "),
    "four columns.conll": lines(" ", middle="NN B-NP "),
    "crlf.iob2": "\ufeff" + lines("\t").replace("\n", "\r\n"),
    "comments.bio": "# global = 1\n" + lines(" ").replace("\n\n", "\n \n# id = 2\n"),
    "iobes.iob": lines("\t").replace("gene\tI-", "gene\tE-").replace("cells\tI-", "cells\tE-"),
    "lines.jsonl": "".join(json.dumps(record) + "\n" for record in LISTS),
    "list.json": json.dumps(LISTS),
    "data.json": json.dumps({"data": LISTS}),
    "lists.csv": csv_of(json.dumps),
    "texts.csv": csv_of(" ".join),
}


def read(path, cache_dir, *columns) -> list[tuple[str | None, list[tuple[str, str]]]]:
    splits, _ = build({"train": rows_of_file(path, Columns(*columns), str(cache_dir))}, False, str(cache_dir))
    return sentences_of(splits["train"])


def sentences_of(split) -> list[tuple[str | None, list[tuple[str, str]]]]:
    names = split.features["ner_tags"].feature.names
    return [
        (row["document_id"], [(w, names[t]) for w, t in zip(row["tokens"], row["ner_tags"], strict=True)])
        for row in split
    ]


@pytest.mark.parametrize("name", TEXTS)
def test_every_text_format_gives_the_same_sentences(name, tmp_path, cache_dir):
    path = tmp_path / name
    path.write_text(TEXTS[name], encoding="utf-8", newline="")
    assert read(path, cache_dir) == SENTENCES


def test_parquet_and_data_sets_keep_the_names_of_their_labels(tmp_path, cache_dir):
    names = ["I-gene", "O", "B-gene", "I-cell", "B-cell"]
    records = {
        "words": [record["tokens"] for record in LISTS],
        "labels": [[names.index(tag) for tag in record["ner_tags"]] for record in LISTS],
        "pmid": [7, 7],
    }
    features = datasets.Features(
        {
            "words": datasets.List(datasets.Value("string")),
            "labels": datasets.List(datasets.ClassLabel(names=names)),
            "pmid": datasets.Value("int64"),
        }
    )
    data = datasets.Dataset.from_dict(records, features=features)
    data.to_parquet(tmp_path / "c.parquet")
    expected = [("train-7", sentence) for _, sentence in SENTENCES]
    assert read(tmp_path / "c.parquet", cache_dir) == expected
    rows = rows_of_dataset(data, "mine", Columns(), str(cache_dir))
    assert sentences_of(build({"train": rows}, False, str(cache_dir))[0]["train"]) == expected
    bare = pyarrow.table({"words": records["words"], "labels": records["labels"]})
    pyarrow.parquet.write_table(bare, tmp_path / "bare.parquet")
    with pytest.raises(CorpusError, match=r"bare.parquet, row 1, word 1: found 2 in 'labels'"):
        read(tmp_path / "bare.parquet", cache_dir)


def test_parquet_whose_labels_another_program_changed(tmp_path, cache_dir):
    kind = datasets.List(datasets.ClassLabel(names=["O", "B-gene"]))
    features = datasets.Features(
        {"tokens": datasets.List(datasets.Value("string")), "tags": kind, "old": kind}
    )
    data = datasets.Dataset.from_dict({"tokens": [["IL-2"]], "tags": [[1]], "old": [[1]]}, features=features)
    data.to_parquet(tmp_path / "a.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet").drop_columns(["old"])
    for number, tags in enumerate(([1], ["B-gene"])):
        path = tmp_path / f"{number}.parquet"
        pyarrow.parquet.write_table(table.set_column(1, "tags", pyarrow.array([tags])), path)
        assert pyarrow.parquet.read_schema(path).metadata
        assert read(path, cache_dir) == [(None, [("IL-2", "B-gene")])]


def test_parquet_with_bytes_that_are_not_text_is_refused_with_its_row(tmp_path, cache_dir):
    offsets = pyarrow.array([0, 1, 2], pyarrow.int32())
    words = pyarrow.Array.from_buffers(
        pyarrow.string(), 2, [None, offsets.buffers()[1], pyarrow.py_buffer(b"a\xff")]
    )
    table = pyarrow.table(
        {"tokens": pyarrow.ListArray.from_arrays(offsets, words), "tags": [["B-gene"], ["O"]]}
    )
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(CorpusError, match=r"a\.parquet, row 2: found byte 0xff in a text; expected UTF-8"):
        read(tmp_path / "a.parquet", cache_dir)


def test_document_marks_and_columns_name_documents(tmp_path, cache_dir):
    path = tmp_path / "marked.txt"
    path.write_text(
        "-DOCSTART- -X- O O\n\n" + lines(" ", ARTICLE[:1]) + "-DOCSTART-\n" + lines(" ", ARTICLE[1:])
    )
    assert [document for document, _ in read(path, cache_dir)] == ["train-0", "train-1"]
    records = [{**record, "abstract": "x"} for record in LISTS]
    path = tmp_path / "documents.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert [document for document, _ in read(path, cache_dir, None, None, "abstract")] == [
        "train-x",
        "train-x",
    ]
    changed = json.dumps({**records[0], "abstract": "y"})
    path.write_text(changed + "\n" + json.dumps(records[1]) + "\n")
    assert [document for document, _ in read(path, cache_dir, None, None, "abstract")] == [
        "train-y",
        "train-x",
    ]


SAMPLE_FORMATS = {
    "a.jsonl": "jsonl",
    "a.pubtator": "pubtator",
    "a.xml": "bioc",
    "a.json": "bioc",
    "brat": "brat",
}


@pytest.mark.parametrize("name", SAMPLE_FORMATS)
def test_the_sample_is_the_same_in_every_format_of_documents(name, tmp_path, cache_dir):
    documents = as_documents(load_jnlpba(name="sample", cache_dir=cache_dir)["test"])
    write_documents(documents, tmp_path / name, SAMPLE_FORMATS[name])
    splits, facts = build(
        {"train": rows_of_file(tmp_path / name, Columns(), str(cache_dir))}, False, str(cache_dir)
    )
    assert facts["train"] == {"entities left out": "none"}
    found = as_documents(splits["train"])
    assert {one.id.removeprefix("train-"): (one.text, one.entities) for one in found} == {
        one.id: (one.text, one.entities) for one in documents
    }


@pytest.mark.slow
@pytest.mark.parametrize("corpus", ["jnlpba", "ncbi_disease"])
def test_a_real_corpus_is_the_same_in_every_format_and_gives_the_builders_windows(
    corpus, real_corpus, tmp_path, cache_dir, tiny_bert
):
    path = real_corpus.parent / corpus / "test.tsv"
    if not path.is_file():
        pytest.skip(f"{corpus}/test.tsv is not there")
    cache = str(cache_dir)
    split = build({"test": rows_of_file(path, Columns(), cache)}, False, cache)[0]["test"]
    if corpus == "jnlpba":
        built = load_jnlpba(real_corpus, cache_dir=cache_dir)["test"]
        assert windows_of(built, tiny_bert) == windows_of(split, tiny_bert)
    else:  # the files mark no documents
        names = [f"test-{number // 8}" for number in range(len(split))]
        split = split.remove_columns("document_id").add_column("document_id", names)
    documents = as_documents(split)
    count = sum(len(document.entities) for document in documents)
    assert count == {"jnlpba": 8662, "ncbi_disease": 960}[corpus]
    for name, kind in SAMPLE_FORMATS.items():
        write_documents(documents, tmp_path / name, kind)
        splits, facts = build({"test": rows_of_file(tmp_path / name, Columns(), cache)}, False, cache)
        assert facts["test"] == {"entities left out": "none"}, name
        found = {
            one.id.removeprefix("test-"): (one.text, one.entities) for one in as_documents(splits["test"])
        }
        assert found == {one.id: (one.text, one.entities) for one in documents}, name


def windows_of(split, encoder) -> dict[str, list]:
    """The windows of a split, with the names of the labels instead of their ids."""
    names = split.features["ner_tags"].feature.names
    options = {
        "tokenizer": AutoTokenizer.from_pretrained(encoder),
        "max_seq_length": 32,
        "label_names": names,
    }
    windows = encode(split[:], range(len(split)), **options)
    labels = windows.pop("labels")
    return windows | {"names": [[label if label < 0 else names[label] for label in row] for row in labels]}


def as_documents(split) -> list[Document]:
    """The abstracts as text, a line for the first sentence and one for the rest, with their entities."""
    names = split.features["ner_tags"].feature.names
    rows: dict[str, list] = {}
    for row in split:
        rows.setdefault(row["document_id"], []).append(row)
    documents = []
    for document, (title, *rest) in rows.items():
        text, spans = "", []
        for part in ([title], rest):
            words = [word for row in part for word in row["tokens"]]
            tags = [names[tag] for row in part for tag in row["ner_tags"]]
            spaces = [space for row in part for space in row["spaces"]] if "spaces" in title else None
            start = len(text) + 1 if text else 0
            line, places = write_out(words, spaces)
            text += ("\n" if text else "") + line
            spans += [
                Entity(start + places[first][0], start + places[end - 1][1], kind)
                for kind, first, end in entities(tags)
            ]
        documents.append(Document(document, text, tuple(sorted(spans))))
    return documents


def test_entities_that_tags_cannot_express_are_counted_by_reason(tmp_path, cache_dir):
    text = "Breast and ovarian cancer of BRCA1mutant mice.\nE\u0301tude IL-2 Rα chain"

    def entity(words: str, label: str) -> Entity:
        return Entity(text.index(words), text.index(words) + len(words), label)

    kept = [entity("and ovarian cancer", "D"), entity("IL-2 Rα chain", "G")]
    lost = {
        "with a gap 1": Entity(0, 25, "D", ((0, 6), (19, 25))),
        "not at the ends of words 1": entity("BRCA1", "G"),
        "inside a longer one 1": entity("IL-2", "G"),
        "overlapping a longer one 1": entity("Breast and", "D"),
        "a second type for the same words 1": entity("IL-2 Rα chain", "D"),
        "annotated twice 1": kept[0],
        "without a word 1": entity("\n", "D"),
    }
    path = tmp_path / "spans.jsonl"
    write_documents([Document("1", text, (*kept, *lost.values()))], path, "jsonl")
    rows = {"train": rows_of_file(path, Columns(), str(cache_dir))}
    splits, facts = build(rows, False, str(cache_dir))
    left_out = facts["train"]["entities left out"]
    assert left_out.startswith("7, because tags can't express them: ") and all(
        part in left_out for part in lost
    )
    first, second = splits["train"]
    assert first["tokens"] == ["Breast", "and", "ovarian", "cancer", "of", "BRCA1mutant", "mice", "."]
    assert second["tokens"] == ["E\u0301tude", "IL", "-", "2", "Rα", "chain"]
    assert second["spaces"] == [True, True, False, False, True, True]
    assert write_out(second["tokens"], second["spaces"])[0] == text.split("\n")[1]
    assert splits["train"].features["ner_tags"].feature.names == ["O", "B-D", "I-D", "B-G", "I-G"]
    assert first["ner_tags"] == [0, 1, 2, 2, 0, 0, 0, 0]
    assert second["ner_tags"] == [0, 3, 4, 4, 4, 4]


def test_a_line_break_inside_an_entity_starts_no_row():
    document = Document("1", "acute\nleukemia cells\nhere", (Entity(0, 14, "D"),))
    assert [row["tokens"] for row in rows_of(document)] == [["acute", "leukemia", "cells"], ["here"]]
    assert [row["tags"] for row in rows_of(document)] == [["B-D", "I-D", "O"], ["O"]]


BAD = {
    "one field": ("a.tsv", "IL-2\tB-x\nword\n", "a.tsv:2: found 1 field: 'word'; expected 2 with a tab"),
    "no divider": ("a.txt", "word\n", "a.txt:1: found 'word'; expected a word and its tag"),
    "more fields": (
        "a.conll",
        "a b B-x\na B-x\n",
        "a.conll:2: found 2 fields: 'a B-x'; expected 3",
    ),
    "empty word": ("a.tsv", "a\tO\n\tB-x\n", "a.tsv:2: found an empty word"),
    "empty": ("a.tsv", "\n\n", "a.tsv: found no sentence"),
    "not UTF-8": ("a.tsv", b"a\tO\n\xff\tO\n", "a.tsv:2: found byte 0xff"),
    "NUL": ("a.txt", "a O\n\0 O\n", "a.txt:2: found a NUL byte"),
    "no entity": ("a.tsv", "a\tO\n", "a.tsv: found no entity, every tag is O"),
    "JSON": ("a.jsonl", '{"tokens": ["a"], "ner_tags": ["O"]}\n{\n', "a.jsonl:2: found '{'"),
    "bytes in a list": ("a.json", b'[{"tokens": ["\xff"], "ner_tags": ["O"]}]', "a.json:1: found byte 0xff"),
    "not an object": ("a.jsonl", '{"tokens": ["a"], "ner_tags": ["O"]}\n3\n', "a.jsonl:2: found int"),
    "lengths": (
        "a.jsonl",
        '{"tokens": ["a"], "ner_tags": []}\n',
        "a.jsonl:1: found 1 words in 'tokens' and",
    ),
    "no words": ("a.json", '[{"tokens": [], "ner_tags": []}]', "a.json:1: found no words"),
    "null": ("a.jsonl", '{"tokens": null, "ner_tags": ["O"]}\n', "a.jsonl:1: found nothing in 'tokens'"),
    "columns": (
        "a.jsonl",
        '{"a": [], "b": []}\n',
        "a.jsonl:1: found the columns a, b; expected",
    ),
    "numbers": (
        "a.jsonl",
        '{"tokens": ["a"], "ner_tags": [1]}\n',
        "found 1 in 'ner_tags'; expected the",
    ),
    "CSV": ("a.csv", "tokens,ner_tags\na b,O B-x\na\n", "a.csv:3: found another number of fields"),
    "Parquet": ("a.parquet", "PAR1", "a.parquet: not Parquet"),
    "label id": (
        "a.jsonl",
        '{"tokens": ["a", null], "ner_tags": ["O", "O"]}\n',
        "a.jsonl:1, word 2: found",
    ),
    "surrogate": (
        "a.jsonl",
        '{"tokens": ["\\ud83d"], "ner_tags": ["O"]}\n',
        "a.jsonl:1, word 1: found",
    ),
    "surrogate in the name of a document": (
        "a.jsonl",
        '{"tokens": ["a"], "ner_tags": ["B-x"], "document_id": "\\ud83d"}\n',
        "a.jsonl:1: found '\\ud83d' in 'document_id'; expected the name of a document",
    ),
    "a word a row": ("a.csv", "tokens,tags\na,B-x\nb,O\n", "a.csv: found one word in each row; expected"),
    "text without spans": ("a.jsonl", '{"text": "a b", "tags": ["O", "O"]}\n', "or 'text' and 'spans'"),
    "packed": ("a.txt.gz", b"\x1f\x8b", "a.txt.gz: found"),
    "upper case": ("a.CSV", "tokens,ner_tags\na b,O\n", "a.CSV:2: found 2 words in 'tokens' and 1 tags"),
    "CR": ("a.tsv", "a\tB-x\r\rb\tB-x", "a.tsv:1: found a carriage return inside a line"),
    "scores": ("a.txt", "IL-2 B-x 0.9\ngene O 0.8\n", "a.txt:1: found the tag '0.9'; expected O"),
    "swapped": ("a.tsv", "O\tIL-2\nO\tgene\n", "a.tsv:1: found the tag 'IL-2', and no tag O in the corpus"),
    "average": ("a.tsv", "a\tB-micro\n", "a.tsv:1: found the type 'micro', the name of an average"),
    "document in two places": (
        "a.jsonl",
        "".join(f'{{"tokens": ["a"], "tags": ["B-x"], "pmid": {number}}}\n' for number in (1, 2, 1)),
        "a.jsonl:3, word 1: found the document '1' again after another one",
    ),
    "suffix": ("a.docx", "x", "a.docx: found a file name that ends with '.docx'; expected one of .tsv"),
    "span": (
        "a.jsonl",
        '{"text": "ab", "spans": [{"start": 0, "end": 9, "label": "x"}]}\n',
        "a.jsonl:1: found an entity",
    ),
    "scheme": (
        "a.tsv",
        "a\tO\nb\tI-x\nc\tO\nd\tB-x\n",
        "a.tsv:2: found 'I-x' after O; expected B-x first (IOB2)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_with_their_place(case, tmp_path, cache_dir):
    name, content, message = BAD[case]
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(CorpusError) as error:
        read(path, cache_dir)
    assert message in str(error.value) and "Traceback" not in str(error.value)


def test_a_data_set_with_unknown_label_ids_is_refused(cache_dir):
    names = datasets.ClassLabel(names=["O", "B-X", "I-X"])
    features = datasets.Features(
        {"tokens": datasets.List(datasets.Value("string")), "tags": datasets.List(names)}
    )
    for label in (-1, None):
        records = {"tokens": [["a", "b"]], "tags": [[1, label]]}
        data = datasets.Dataset.from_dict(records, features=features)
        with pytest.raises(CorpusError, match=f"mine, row 1, word 2: found the label id {label}"):
            rows_of_dataset(data, "mine", Columns(), str(cache_dir))


def test_changed_annotations_are_read_again_and_documents_of_one_name_stay_apart(tmp_path, cache_dir):
    folder = tmp_path / "brat"
    for name, label in (("a/1", "gene"), ("b/1", "cell"), ("b/2", "cell")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".txt").write_text("IL-2 gene")
        path.with_suffix(".ann").write_text(f"T1\t{label} 0 4;5 9\tIL-2 gene\n")
    expected = [("train-a/1", "gene"), ("train-b/1", "cell"), ("train-b/2", "cell")]

    def found(path):
        return [(name, {tag[2:] for _, tag in words}) for name, words in read(path, cache_dir)]

    assert found(folder) == [(name, {label}) for name, label in expected]  # white space alone is no gap
    (folder / "b" / "1.ann").write_text("T1\tgene 0 4\tIL-2\n")
    assert found(folder)[1] == ("train-b/1", {"gene", ""})
    (folder / "b" / "2.ann").write_text("T1\tgene 0 4\tIL-2\n")
    assert found(folder / "b" / "2.txt") == found(folder / "b" / "2.ann") == [("train-2", {"gene", ""})]
    (folder / "b" / "2.ann").rename(folder / "b" / "2.ANN")
    assert found(folder / "b")[1] == ("train-2", {"gene", ""})
    (folder / "b" / "2.ANN").write_text("T1\tcell 0 4\tIL-2\n")
    assert found(folder / "b")[1] == ("train-2", {"cell", ""}), "a suffix in any case"
    (folder / "README.txt").write_text("About this corpus.")
    with pytest.raises(CorpusError, match=r"README.txt: found no annotations beside this text"):
        read(folder, cache_dir)
    with pytest.raises(CorpusError, match="--label_column_name: 'x' has no effect on text with spans"):
        read(folder / "b", cache_dir, None, "x")


def test_a_word_may_be_a_hash_or_hold_a_no_break_space(tmp_path, cache_dir):
    path = tmp_path / "hashes.tsv"
    path.write_text("#\tNN\tO\ndrug\tNN\tgene\n#3\tNN\tgene\n# comment\n\xa0\tNN\tO\n10\xa0mg\tNN\tO\n")
    words = [("#", "O"), ("drug", "B-gene"), ("#3", "I-gene"), ("\xa0", "O"), ("10\xa0mg", "O")]
    assert read(path, cache_dir) == [(None, words)]


def test_a_type_that_train_does_not_have_is_refused(tmp_path, cache_dir):
    (tmp_path / "train.tsv").write_text("a\tB-x\n")
    (tmp_path / "test.tsv").write_text("a\tB-x\n\nb\tO\nc\tB-y\n")
    rows = {
        name: rows_of_file(tmp_path / f"{name}.tsv", Columns(), str(cache_dir)) for name in ("test", "train")
    }
    with pytest.raises(CorpusError, match=r"test.tsv:4: found 'B-y', but no word of train has the type y"):
        build(rows, False, str(cache_dir))
    assert build({"test": rows["test"]}, False, str(cache_dir))[0]["test"].num_rows == 2


def test_the_builder_and_train_file_give_the_same_windows(cache_dir, tiny_bert):
    built = load_jnlpba(name="sample", cache_dir=cache_dir)["train"]
    rows = rows_of_file(SAMPLE_FOLDER / "train.tsv", Columns(), str(cache_dir))
    read_again = build({"train": rows}, False, str(cache_dir))[0]["train"]
    assert windows_of(built, tiny_bert) == windows_of(read_again, tiny_bert)
    for name in ("id", "document_id", "sentence_id", "tokens"):
        assert list(column(built, name)) == list(column(read_again, name))
