"""Files of documents: round trips, what is recognised, what is refused and where, memory, hostile XML.

python -m pytest tests/test_formats.py
"""

import errno
import gzip
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import REPO
from hypothesis import given, settings
from hypothesis import strategies as st

from jnlpba_dataset.jnlpba import read_sentences
from ner_recipe.formats.document import Document, Entity, FormatError, Unreadable
from ner_recipe.formats.files import document_files, read_documents, recognised
from ner_recipe.formats.writing import write_documents

ODD = "\u00a0\u0301\u2028\u0085\U0001d6fc\U0001f9ec\x0b\x1c\ufeff\ufffe\t\r\n\"\\{}[],|&<>'é "
ANY = st.characters(exclude_categories=["Cs"], exclude_characters="\0") | st.sampled_from(ODD)
ONE_LINE = ANY.filter(lambda character: character not in "\r\n")
# XML 1.0 holds no other control characters, and not the last two code points of the plane.
XML = ANY.filter(lambda character: re.fullmatch(r"[\t\n\r\x20-\ufffd\U00010000-\U0010ffff]", character))
PLAIN_NAME = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=9)
LABELS = st.sampled_from(["DNA", "cell_type", "Gène", "a:b;c"])


@st.composite
def entities(draw, text: str, gaps: bool, scores: bool):
    """Entities of a text: nested, overlapping, equal, and with gaps if the format has them."""
    found = []
    for _ in range(draw(st.integers(0, 4)) if text else 0):
        edges = st.integers(0, len(text))
        count = 4 if gaps and len(text) > 3 and draw(st.booleans()) else 2
        cuts = sorted(draw(st.lists(edges, min_size=count, max_size=count, unique=True)))
        fragments = tuple(zip(cuts[::2], cuts[1::2], strict=True))
        score = draw(st.none() | st.floats(0, 1)) if scores else None
        found.append(Entity(cuts[0], cuts[-1], draw(LABELS), fragments if len(fragments) > 1 else (), score))
    return tuple(found)


@st.composite
def some_documents(draw, texts, names=PLAIN_NAME, gaps=True, scores=True):
    ids = draw(st.lists(names, max_size=4, unique_by=str.casefold))
    rows = [(name, draw(texts)) for name in ids]
    return [Document(name, text, draw(entities(text, gaps, scores))) for name, text in rows]


@st.composite
def titled(draw):
    """A title, and perhaps an abstract, in which an entity is not a tab."""
    line = st.text(ONE_LINE.filter(lambda character: character != "\t"))
    return draw(line) + draw(st.just("") | line.map(lambda abstract: "\n" + abstract))


DOCUMENTS = {
    ("jsonl", "x.jsonl"): some_documents(st.text(ANY), st.text(ANY, min_size=1)),
    ("jsonl", "x.jsonl.gz"): some_documents(st.text(ANY)),
    ("bioc", "x.json"): some_documents(st.text(ANY), st.text(ANY, min_size=1)),
    ("bioc", "x.xml"): some_documents(st.text(XML), st.text(XML, min_size=1)),
    ("pubtator", "x.pubtator"): some_documents(titled(), gaps=False, scores=False),
    ("brat", "x"): some_documents(
        st.text(ANY).filter(lambda text: not text.startswith("\ufeff")),
        st.lists(PLAIN_NAME, min_size=1, max_size=3).map("/".join),
        scores=False,
    ),
}


def plain(documents) -> list[Document | Unreadable]:
    """Without the place where each was read."""
    return [
        document
        if isinstance(document, Unreadable)
        else Document(document.id, document.text, document.entities)
        for document in documents
    ]


def by_id(documents) -> list[Document]:
    return sorted(documents, key=lambda document: document.id)


@pytest.mark.parametrize("case", DOCUMENTS, ids=lambda case: "-".join(case))
@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_what_is_written_is_read_back(case, data, tmp_path_factory):
    format, name = case
    documents = data.draw(DOCUMENTS[case])
    path = tmp_path_factory.mktemp("written") / name
    write_documents(iter(documents), path, format)
    if format == "brat":
        # An empty folder of documents is an error; a folder has no order but its files'.
        found = plain(read_documents(path)) if documents else []
        assert by_id(found) == by_id(documents)
    else:
        assert recognised(path) == format
        assert plain(read_documents(path)) == documents
    assert [file.name for file in path.parent.iterdir()] == [name]


def in_file(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def readable(path: Path, **options) -> list[tuple]:
    """(id, text, [(label, entity's text)]) of each document of a file, all of which can be read."""
    found = list(read_documents(path, **options))
    assert not [document for document in found if isinstance(document, Unreadable)], found
    assert all(document.place.startswith(str(path)) for document in found)
    return [
        (
            document.id,
            document.text,
            [(entity.label, document.text[entity.start : entity.end]) for entity in document.entities],
        )
        for document in found
    ]


def test_json_and_parquet_rows(tmp_path):
    rows = [
        {"id": "a", "text": "\U0001d6fc-globin", "spans": [{"start": 0, "end": 1, "label": "X"}]},
        {"id": 7, "text": "IL-2\r\n", "entities": [{"start": 0, "end": 4, "label": "X", "text": "IL-2"}]},
        {"id": "", "text": "none", "spans": None, "source": {"anything": [1, "]", "\\"]}},
    ]
    expected = [("a", "\U0001d6fc-globin", [("X", "\U0001d6fc")]), ("7", "IL-2\r\n", [("X", "IL-2")])]
    lines = "".join(json.dumps(row) + "\r\n\n" for row in rows)
    path = in_file(tmp_path, "x.jsonl", b"\xef\xbb\xbf" + lines.encode())
    assert readable(path) == [*expected, ("x.jsonl:5", "none", [])]
    # JSON lines in a .json file, packed, and as a list.
    assert readable(in_file(tmp_path, "y.json", lines)) == [*expected, ("y.json:5", "none", [])]
    assert readable(in_file(tmp_path, "y.ndjson.gz", gzip.compress(lines.encode())))[:2] == expected
    path = in_file(tmp_path, "z.json", "\ufeff" + json.dumps(rows, indent=1, ensure_ascii=False))
    assert readable(path)[:2] == expected and readable(path)[2][0] == "z.json:3"
    assert readable(in_file(tmp_path, "empty.json", "[]")) == []

    table = pa.table(
        {
            "pmid": [1, 2],
            "abstract": ["\U0001d6fc-globin", "x"],
            "spans": [[{"start": 0, "end": 1, "label": "X"}], None],
            "more": [1.5, None],
        }
    )
    pq.write_table(table, tmp_path / "x.parquet")
    found = readable(tmp_path / "x.parquet", text_column="abstract", id_column="pmid")
    assert found == [("1", *expected[0][1:]), ("2", "x", [])]
    found = readable(tmp_path / "x.parquet", text_column="abstract")
    assert [row[0] for row in found] == ["x.parquet:1", "x.parquet:2"]


def test_a_list_of_json_objects_is_read_as_json_reads_it(tmp_path):
    """Also where marks and escapes lie at the edges of what is read at once."""
    pieces = ["\\", '"', '\\"', "[", "]}", "{,", "\n", "é", "\U0001f9ec", "a" * 97]
    chosen = itertools.islice(itertools.cycle(itertools.combinations_with_replacement(pieces, 3)), 4000)
    rows = [{"id": str(number), "text": "".join(parts)} for number, parts in enumerate(chosen)]
    for indent, ascii_only in ((None, True), (2, False)):
        content = json.dumps(rows, indent=indent, ensure_ascii=ascii_only)
        assert len(content) > 3 << 16
        found = readable(in_file(tmp_path, "x.json", content))
        assert [(name, text) for name, text, _ in found] == [tuple(row.values()) for row in rows]


def test_brat(tmp_path):
    text = "\U0001d6fc-globin\r\nof T and B cells\n"
    notes = (
        "T1\tprotein 0 8\t\U0001d6fc-globin\r\n"
        "T2\tcell_type 13 14;21 26\tT cells\n"
        "T3\tgene 7 12\tn  of\n"
        "E1\tBinding:T1 Theme:T2\nR1\tPart-of Arg1:T1 Arg2:T2\nA1\tNegation E1\n"
        "N1\tReference T1 X:1\tx\n#1\tAnnotatorNotes T1\tsure\n*\tEquiv T1 T2\n\n"
    )
    path = in_file(tmp_path, "set/a.txt", text)
    notes_path = in_file(tmp_path, "set/a.ann", notes)
    in_file(tmp_path, "set/below/b.txt", "Nothing here.")
    in_file(tmp_path, "set/annotation.conf", "[entities]")
    (first,) = read_documents(path)
    assert (first.id, first.text) == ("a", text)
    assert first.entities == (
        Entity(0, 8, "protein"),
        Entity(13, 26, "cell_type", ((13, 14), (21, 26))),
        Entity(7, 12, "gene"),
    )
    assert list(read_documents(notes_path)) == [first] == list(read_documents(path, "brat"))
    assert [document.id for document in read_documents(tmp_path / "set")] == ["a", "below/b"]
    assert list(read_documents(path, lines=True))[1].text == "of T and B cells"
    for suffixes in ((".TXT", ".ANN"), (".txt", ".Ann"), (".TXT", ".ann")):
        case = tmp_path / "".join(suffixes)
        for suffix, content in zip(suffixes, (text, notes), strict=True):
            in_file(case, f"a{suffix}", content)
        assert plain(read_documents(case)) == plain([first])
    # BRAT itself counts a byte-order mark.
    path = in_file(tmp_path, "c.txt", "\ufeffIL-2 gene")
    in_file(tmp_path, "c.ann", "T1\tDNA 1 10\tIL-2 gene\n")
    assert readable(path) == [("c", "IL-2 gene", [("DNA", "IL-2 gene")])]


def test_pubtator(tmp_path):
    content = (
        "\n1|t|IL-2 gene|t|x \n1|a|It|a|binds NF-\U0001d6fcB.\n"
        "1\t0\t4\tIL-2\tprotein\n1\t30\t35\tNF-\U0001d6fcB\tprotein\t1|2\tNF|B\n"
        "1\tCID\tD1\tD2\n1\tCID\tD1\tD2\t1.0\n\n\n2|t|Title only\n\n3|t|\n3|a|No title"
    )
    text = "IL-2 gene|t|x \nIt|a|binds NF-\U0001d6fcB."
    start = text.index("NF-")
    content = content.replace("\t30\t35", f"\t{start}\t{start + 5}")
    expected = [
        ("1", text, [("protein", "IL-2"), ("protein", "NF-\U0001d6fcB")]),
        ("2", "Title only", []),
        ("3", "\nNo title", []),
    ]
    assert readable(in_file(tmp_path, "x.PubTator", content)) == expected
    windows = b"\xef\xbb\xbf" + content.replace("\n", "\r\n").encode()
    assert readable(in_file(tmp_path, "corpus.txt", windows)) == expected  # recognised by its first line


def test_bioc(tmp_path):
    def note(label, text, *places):
        return {
            "id": "1",
            "infons": {"type": label, "score": "0.5"},
            "text": text,
            "locations": [{"offset": start, "length": length} for start, length in places],
        }

    sentences = [
        {"offset": 8, "text": "T and", "annotations": [note("cell", "T", (8, 1))]},
        {"offset": 15, "text": "B cells", "annotations": [note("cell", "T ... cells", (17, 5), (8, 1))]},
    ]
    passages = [
        {"offset": 0, "text": "\U0001d6fc-IL2", "annotations": [note("gene", "IL2", (2, 3))]},
        {"offset": 8, "sentences": sentences, "annotations": [note("topic", "x")]},
    ]
    document = {"id": "7", "passages": passages}
    text = "\U0001d6fc-IL2\n\n\nT and  B cells"
    expected = [("7", text, [("gene", "IL2"), ("cell", "T"), ("cell", "T and  B cells")])]
    collection = {"source": "x", "infons": {"a": "{[{"}, "documents": [document]}
    for value in (collection, [collection], {"PubTator3": [document]}):
        path = in_file(tmp_path, "x.json", json.dumps(value, indent=1))
        assert readable(path) == expected
        assert next(read_documents(path)).entities[2] == Entity(8, 22, "cell", ((8, 9), (17, 22)), 0.5)

    path = in_file(
        tmp_path,
        "x.xml",
        "<?xml version='1.0' encoding='ISO-8859-1'?>\n<!DOCTYPE collection SYSTEM 'BioC.dtd'>\n"
        "<collection><source>x</source><date/><key/>\n<document>\n <id>7</id>\n"
        "<passage><infon key='type'>title</infon><offset>0</offset><text>&#x1d6fc;-IL2</text>"
        "<annotation id='1'><infon key='type'>gene</infon><location offset='2' length='3'/>"
        "<text>IL2</text></annotation></passage>\n"
        "<passage><offset>8</offset><sentence><offset>8</offset><text>T and</text></sentence>\n"
        "<sentence><offset>15</offset><text>B cells</text><annotation id='2'><infon key='type'>cell"
        "</infon><location offset='17' length='5'/><location offset='8' length='1'/><text>T cells</text>"
        "</annotation><relation id='R'><node refid='1' role=''/></relation></sentence></passage>\n"
        "</document></collection>",
    )
    assert readable(path) == [("7", text, [("gene", "IL2"), ("cell", "T and  B cells")])]
    path = in_file(tmp_path, "x.xml", f"<collection>{'<document><id></id></document>' * 2}</collection>")
    assert [name for name, _, _ in readable(path)] == ["x.xml:1", "x.xml:2"]


ARTICLE = """<PubmedArticle><MedlineCitation><PMID Version="1">{pmid}</PMID><Article>
<ArticleTitle>{title}</ArticleTitle>{abstract}</Article></MedlineCitation>
<PubmedData><ReferenceList><Reference><ArticleIdList><ArticleId>9</ArticleId></ArticleIdList></Reference>
</ReferenceList></PubmedData></PubmedArticle>
"""
PUBMED = """<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//DTD PubMedArticle//EN" "https://example.org/x.dtd">
<PubmedArticleSet>
"""


def test_pubmed(tmp_path):
    abstract = (
        '<Abstract><AbstractText Label="METHODS" NlmCategory="METHODS">Cells &lt; 10<sup>6</sup>, '
        "<b>NF-<i>\u03ba</i>B</b>.</AbstractText>\n<AbstractText>Plain.</AbstractText><AbstractText/>"
        "<CopyrightInformation>(c)</CopyrightInformation></Abstract>"
        '<OtherAbstract Language="fre"><AbstractText>Non.</AbstractText></OtherAbstract>'
    )
    content = (
        PUBMED
        + ARTICLE.format(pmid=1, title="The <i>IL2</i> gene.", abstract=abstract)
        + ARTICLE.format(pmid=2, title="Alone", abstract="")
        + "<PubmedBookArticle><PMID>3</PMID></PubmedBookArticle>"
        + "<DeleteCitation><PMID Version='1'>4</PMID></DeleteCitation></PubmedArticleSet>"
    )
    text = "The IL2 gene.\nMETHODS: Cells < 106, NF-\u03baB.\nPlain."
    assert readable(in_file(tmp_path, "x.xml", content)) == [("1", text, []), ("2", "Alone", [])]
    packed = in_file(tmp_path, "y.xml.gz", gzip.compress(content.encode()))
    assert recognised(packed) == "pubmed" and len(readable(packed)) == 2
    cut = in_file(tmp_path, "z.xml.gz", packed.read_bytes()[:-40])
    with pytest.raises(FormatError, match=r"z\.xml\.gz: found damaged or incomplete gzip data"):
        list(read_documents(cut))


def test_plain_text(tmp_path):
    path = in_file(tmp_path, "a.b.txt", b"\xef\xbb\xbfone\r\n\r\n  two\xc2\xa0\xe2\x80\xa8\nthree")
    assert readable(path) == [("a.b", "one\r\n\r\n  two\xa0\u2028\nthree", [])]
    names = ["a.b.txt:1", "a.b.txt:3", "a.b.txt:4"]
    texts = ["one", "  two\xa0\u2028", "three"]
    assert readable(path, lines=True) == [(*pair, []) for pair in zip(names, texts, strict=True)]
    assert readable(in_file(tmp_path, "c.txt.gz", gzip.compress(b"x"))) == [("c", "x", [])]


BIOC = '{"documents": [%s, {"id": "ok", "passages": []}]}'
# Name of a file, its content, where the bad document is, and why. One other document in it can be read.
BAD_DOCUMENTS = [
    ("x.jsonl", '{"text": "a"\n{"text": ""}', "x.jsonl:1", "Expecting ',' delimiter; expected a JSON object"),
    ("x.jsonl", '{"text": ""}\n["a"]', "x.jsonl:2", "found ['a']; expected an object with 'text'"),
    ("x.jsonl", '{"title": "a"}\n{"text": ""}', "x.jsonl:1", "found no 'text'"),
    ("x.jsonl", '{"text": "\\ud800"}\n{"text": ""}', "x.jsonl:1", "half a surrogate pair at character 0"),
    ("x.jsonl", '{"text": "a\\u0000"}\n{"text": ""}', "x.jsonl:1", "found a NUL at character 1"),
    ("x.jsonl", b'{"text": "\xff"}\n{"text": ""}', "x.jsonl:1", "found byte 0xff; expected UTF-8"),
    ("x.jsonl", b'{"text": "\0"}\n{"text": ""}', "x.jsonl:1", "found a NUL byte"),
    ("x.jsonl", "[" * 99_999 + '\n{"text": ""}', "x.jsonl:1", "found JSON that can't be read"),
    ("x.jsonl", '{"id": ' + "9" * 5000 + '}\n{"text": ""}', "x.jsonl:1", "found JSON that can't be read"),
    ("x.jsonl", '{"id": true, "text": ""}\n{"text": ""}', "x.jsonl:1", "found True as 'id'"),
    ("x.jsonl", '{"text": "", "spans": 1}\n{"text": ""}', "x.jsonl:1", "found 1 as 'spans'"),
    ("x.jsonl", '{"text": "", "spans": [], "entities": []}\n{"text": ""}', "x.jsonl:1", "found both"),
    *(
        ("x.jsonl", f'{{"text": "abcdef", "spans": [{entity}]}}\n{{"text": ""}}', "x.jsonl:1", reason)
        for entity, reason in {
            '{"start": 0, "end": 7, "label": "X"}': "from 0 to 7; expected one inside the text of 6",
            '{"start": 2, "end": 2, "label": "X"}': "found an entity from 2 to 2",
            '{"start": -1, "end": 2, "label": "X"}': "found an entity from -1 to 2",
            '{"start": 0.0, "end": 2, "label": "X"}': "found the offset 0.0",
            '{"start": false, "end": 2, "label": "X"}': "found the offset False",
            '{"start": 0, "end": 2, "label": null}': "found None as the label; expected text",
            '{"start": 0, "end": 2, "label": ""}': "found an entity with an empty label",
            '{"start": 0, "end": 2}': "expected start, end and label",
            '{"start": 0, "end": 2, "label": "X", "text": "ac"}': "found the entity text 'ac'; expected 'ab'",
            '{"start": 0, "end": 2, "label": "X", "score": NaN}': "found the score nan",
            '{"start": 0, "end": 4, "label": "X", "fragments": [[0,2],[1,4]]}': "fragments 0 2; 1 4",
            '{"start": 0, "end": 4, "label": "X", "fragments": [[0, 4]]}': "found the fragments 0 4",
            '{"start": 0, "end": 4, "label": "X", "fragments": [0, 4]}': "expected a list of pairs",
        }.items()
    ),
    ("x.json", '[\n{"text": ""},\n\n{"text": 1}]', "x.json:4, document 2", "found 1 as 'text'"),
    ("x.json", '[{"text": ""},\n]', "x.json:2, document 2", "expected a JSON object"),
    ("x.json", b'[\n{"text":\n "\xff"}, {"text": ""}]', "x.json:3, document 1", "found byte 0xff"),
    ("x.json", '[\n{"text":\n nil}, {"text": ""}]', "x.json:3, document 1", "found 'nil}': Expecting value"),
    ("x.json", BIOC % '{"id": "a"}', "x.json:1, document 1", "expected a BioC document with passages"),
    (
        "x.json",
        BIOC % '{"passages": [{"offset": 0, "text": "abc"}, {"offset": 2, "text": "d"}]}',
        "x.json:1, document 1",
        "with the offset 2; expected one from 3, where the text before it ends",
    ),
    (
        "x.json",
        BIOC % '{"passages": [{"offset": 1e9, "text": "a"}]}',
        "x.json:1, document 1",
        "expected a whole number",
    ),
    (
        "x.json",
        BIOC % '{"passages": [{"offset": 99999999, "text": "a"}]}',
        "x.json:1, document 1",
        "the offset 99999999",
    ),
    (
        "x.json",
        BIOC % '{"passages": [{"offset": 0, "text": "abc", "annotations": [{"locations": [{"offset": 0, '
        '"length": 1}], "infons": {"kind": "x"}}]}]}',
        "x.json:1, document 1",
        "expected an infon 'type'",
    ),
    (
        "x.xml",
        "<collection><document><id>1</id><passage><offset>0</offset><text>abc</text><annotation id='1'>"
        "<infon key='type'>X</infon><location offset='1' length='3'/><text>abc</text></annotation></passage>"
        "</document><document><id>2</id></document></collection>",
        "x.xml, document 1",
        "found an entity from 1 to 4; expected one inside the text of 3",
    ),
    (
        "x.xml",
        PUBMED + ARTICLE.format(pmid=1, title="", abstract="") + "<PubmedArticle/></PubmedArticleSet>",
        "x.xml, document 2",
        "found an article without PMID",
    ),
    (
        "x.xml",
        f"<collection><document>{'<passage>' * 9999}{'</passage>' * 9999}</document><document/></collection>",
        "x.xml, document 1",
        "found passages in passages",
    ),
    ("x.pubtator", "1|t|a\n1\t0\t2\tab\tX\n\n2|t|b", "x.pubtator:2", "found an entity from 0 to 2"),
    ("x.pubtator", "1|t|ab\n1\t0\t2\tac\tX\n\n2|t|b", "x.pubtator:2", "found the entity text 'ac'"),
    ("x.pubtator", "1|t|ab\n1\t0\tx\tac\tX\n\n2|t|b", "x.pubtator:2", "expected ID TAB START"),
    ("x.pubtator", "1|t|ab\n3\t0\t2\tab\tX\n\n2|t|b", "x.pubtator:2", "found the id '3'"),
    ("x.pubtator", "1|t|ab\n2|t|ab\n\n2|t|b", "x.pubtator:2", "a blank line before the next title"),
    ("x.pubtator", "1|a|ab\n\n2|t|b", "x.pubtator:1", "expected the title line ID|t|TITLE"),
    ("x.pubtator", b"1|t|a\n1|a|\xff\n\n2|t|b", "x.pubtator:2", "found byte 0xff"),
]


@pytest.mark.parametrize(("name", "content", "place", "reason"), BAD_DOCUMENTS)
def test_a_bad_document_is_reported_and_the_others_are_read(name, content, place, reason, tmp_path):
    found = list(read_documents(in_file(tmp_path, name, content)))
    (bad,) = (document for document in found if isinstance(document, Unreadable))
    assert (len(found), bad.place) == (2, f"{tmp_path}/{place}") and reason in bad.reason
    assert bad.reason.startswith("found ") and "\n" not in bad.reason and len(bad.reason) < 200


@pytest.mark.parametrize(
    ("text", "notes", "place", "reason"),
    [
        (b"abc", "T1\tX 0 3\tabc\nT2\tX 2 4\tc\n", "a.ann:2", "from 2 to 4; expected one inside"),
        (b"abc", "T1\tX 0 2\tac\n", "a.ann:1", "found the entity text 'ac'; expected 'ab'"),
        ("\U0001d6fcbc".encode(), "T1\tX 2 4\tbc\n", "a.ann:1", "found an entity from 2 to 4"),  # UTF-16's
        (b"abcd", "T1\tX 0 2;1 4\tab bcd\n", "a.ann:1", "found the fragments 0 2; 1 4"),
        (b"abc", "T1 X 0 3 abc\n", "a.ann:1", "expected T1 TAB TYPE START END TAB TEXT"),
        (b"abc", "abc\n", "a.ann:1", "expected T1 TAB TYPE START END TAB TEXT"),
        (b"abc", b"T1\tX 0 3\t\xff\n", "a.ann:1", "found byte 0xff"),
        (b"abc\n\xff", "", "a.txt:2", "found byte 0xff"),
        (b"a\n\nbc\0", "", "a.txt:3", "found a NUL byte"),
    ],
)
def test_a_bad_brat_pair_is_reported_and_the_others_are_read(text, notes, place, reason, tmp_path):
    in_file(tmp_path, "a.txt", text)
    in_file(tmp_path, "a.ann", notes)
    in_file(tmp_path, "b.txt", "fine")
    bad, good = read_documents(tmp_path)
    assert bad.place == f"{tmp_path}/{place}" and reason in bad.reason and good.text == "fine"


LAUGHS = "".join(f"<!ENTITY l{n + 1} '{f'&l{n};' * 10}'>\n" for n in range(1, 10))
UNREADABLE_FILES = [
    ("x.jsonl", b"\xff\xfe{\0", "x.jsonl: found UTF-16; expected UTF-8"),
    ("x.jsonl.gz", b"{}", "x.jsonl.gz: found no gzip data"),
    ("x.parquet", b"PAR1", "x.parquet: can't be read"),
    ("x.json", b'[{"text": "a"}', "x.json:1: the file ends early"),
    ("x.json", b'[\n{"text": ["a"}]', "x.json:2: found } in the wrong place"),
    ("x.json", b"[]\n[]", "x.json:2: found [ in the wrong place"),
    ("x.json", b'{"documents": {}}', "x.json: found no list of documents where the format has one"),
    ("x.xml", b"<html></html>", "x.xml: found the XML element <html>; expected <collection>"),
    ("x.xml", b"", "x.xml:1: found XML with an error (no element found)"),
    ("x.xml", b"<collection>\n<document>", "x.xml:2: found XML with an error"),
    ("x.xml", b"<collection>\n<document>&nbsp;</document></collection>", "x.xml:2: found XML with an error"),
    ("x.xml", b"<?xml version='1.0' encoding='klingon'?><collection/>", "x.xml: found XML in an unknown"),
    (
        "x.xml",
        b"<?xml version='1.0' encoding='GB2312'?><collection/>",
        "x.xml: found XML in an encoding that",
    ),
    ("x.csv", b"a,b", "x.csv: found an unknown kind of file; expected .jsonl"),
    *(
        ("x.xml", f"<!DOCTYPE {root} [\n{declared}]>\n<{root}>&x;</{root}>", "x.xml:2: found the declaration")
        for root in ("collection", "PubmedArticleSet")
        for declared in (
            "<!ENTITY x SYSTEM 'file:///etc/passwd'>",
            "<!ENTITY % p SYSTEM 'file:///etc/passwd'> %p;",
            "<!ENTITY l1 'lol'>\n" + LAUGHS + "<!ENTITY x '&l10;'>",
        )
    ),
]


@pytest.mark.parametrize(("name", "content", "message"), UNREADABLE_FILES)
def test_a_file_that_cannot_be_read_is_an_error(name, content, message, tmp_path):
    with pytest.raises(FormatError, match=re.escape(f"{tmp_path}/{message}")):
        list(read_documents(in_file(tmp_path, name, content)))


def test_columns_and_formats_that_are_not_there(tmp_path):
    pq.write_table(pa.table({"title": ["a"]}), tmp_path / "x.parquet")
    for options in ({}, {"text_column": "title", "id_column": "pmid"}):
        with pytest.raises(FormatError, match="found the columns title; expected one named '(text|pmid)'"):
            list(read_documents(tmp_path / "x.parquet", **options))
    in_file(tmp_path, "x.json", '{"data": [{"text": "IL-2"}]}')
    with pytest.raises(FormatError, match=r"x\.json: found no list of documents where the format has one"):
        list(read_documents(tmp_path / "x.json", "json"))
    with pytest.raises(FormatError, match="found the format 'xml'; expected one of jsonl, json, parquet"):
        read_documents(tmp_path / "x.parquet", "xml")
    path = in_file(tmp_path, "x.jsonl", '{"id": 1, "text": "a"}')
    (bad,) = read_documents(path, id_column="pmid")
    assert "found None as 'pmid'; expected a name or a number" in bad.reason
    # A column of strings whose bytes are not UTF-8, as other programs may write.
    texts = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.array([0, 1, 3], pa.int32()).buffers()[1], pa.py_buffer(b"a\xff.")]
    )
    pq.write_table(pa.table({"text": texts}), tmp_path / "y.parquet")
    good, bad = read_documents(tmp_path / "y.parquet")
    assert good.text == "a" and bad.place.endswith("y.parquet, row 2") and "found byte 0xff" in bad.reason


def test_which_files_are_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b/2.txt", "b/2.ann", "b/x.jsonl", "b/c/1.XML.gz", "b/.hidden.txt", "b/notes.md", "a.txt"):
        in_file(tmp_path, name, "")
    expected = [Path(name) for name in ("b/2.txt", "b/c/1.XML.gz", "b/x.jsonl")]
    assert document_files(["b"]) == expected == document_files(["b/**/*.gz", "b/x.jsonl", "b/2.ann", "b"])
    (tmp_path / "b" / "same.txt").symlink_to("2.txt")
    (tmp_path / "[a].txt").write_text("")
    assert document_files(["[a].txt", "a.*", "b"]) == [Path("[a].txt"), Path("a.txt"), *expected]

    (tmp_path / "empty").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    in_file(tmp_path, "deep/down/a.txt", "")
    (tmp_path / "deep" / "down" / "up").symlink_to(tmp_path / "deep")
    (tmp_path / "gone.txt").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.txt")
    in_file(tmp_path, "lone.ann", "")
    for name, message in {
        "none.txt": "none.txt: No such file or directory; expected a file or folder",
        "none*.txt": "none*.txt: found no file that fits",
        "empty": "empty: found no document in the folder; expected files .jsonl",
        "loop": "loop: Too many levels of symbolic links",
        "deep": "found a link to a folder that holds it",
        "gone.txt": "gone.txt: No such file or directory",
        "pipe.txt": "pipe.txt: found something that is not a regular file",
        "lone.ann": "lone.ann: found no lone.txt beside it",
        "a\0b": "embedded null byte; expected a file or folder",
    }.items():
        with pytest.raises(FormatError, match=re.escape(message)):
            read_documents(name)


def entity(*edges: int, label: str = "X") -> Entity:
    pairs = tuple(zip(edges[::2], edges[1::2], strict=True))
    return Entity(edges[0], edges[-1], label, pairs if len(pairs) > 1 else ())


@pytest.mark.parametrize(
    ("format", "document", "reason"),
    [
        ("jsonl", Document("1", "abc", (entity(1, 4),)), "an entity from 1 to 4; expected one inside"),
        ("jsonl", Document("1", "a\ud800"), "half a surrogate pair at character 1 of the text"),
        ("bioc", Document("1", "a\x0b"), "found the character U+000B; XML can't hold it"),
        ("pubtator", Document("1", "a\nb\nc"), "found a second line break in the text"),
        ("pubtator", Document("1", "a\rb"), "found a second line break in the text"),
        ("pubtator", Document("a|b", ""), "found the id 'a|b'; expected one without '|'"),
        ("pubtator", Document("", ""), "found the id ''"),
        ("pubtator", Document("1", "a\tb", (entity(0, 3),)), "found a tab or line break in 'a\\tb', 'X'"),
        ("pubtator", Document("1", "abcd", (entity(0, 1, 2, 3),)), "found the entity 'abc' with gaps"),
        ("brat", Document("a//b", ""), "found the id 'a//b'; expected one that can be a file's name"),
        ("brat", Document("../b", ""), "found the id '../b'"),
        ("brat", Document("/b", ""), "found the id '/b'"),
        ("brat", Document("a.txt/b", ""), "found the id 'a.txt/b'"),
        ("brat", Document("..", ""), "found the id '..'"),
        ("brat", Document("a/" * 2000 + "b", ""), "expected one that can be a file's name"),
        ("brat", Document("first", ""), "found the id 'first' twice"),
        ("brat", Document("1", "\ufeff"), "found a byte-order mark at the start of the text"),
        ("brat", Document("1", "a", (entity(0, 1, label="cell type"),)), "found the label 'cell type'"),
        (
            "conll",
            Document("1", "abc d", (entity(0, 2),)),
            "'ab' at 0; expected one that starts and ends with",
        ),
        ("conll", Document("1", "ab d", (entity(0, 2), entity(0, 4))), "'ab d' at 0, which overlaps another"),
        ("conll", Document("1", "a b c", (entity(0, 1, 4, 5),)), "'a b c' at 0 with gaps"),
        ("conll", Document("1", "a", (entity(0, 1, label="a b"),)), "expected a label without white space"),
        ("conll", Document("1", "-DOCSTART- a"), "found the word '-DOCSTART-'"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_and_nothing_is_lost(format, document, reason, tmp_path):
    path = tmp_path / "out"
    if format != "brat":
        path.write_text("earlier")
    with pytest.raises(FormatError, match=re.escape(f"{path}: ")) as caught:
        write_documents([Document("First", "x"), document], path, format, words=words_between_spaces)
    assert reason in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ([] if format == "brat" else ["out"])
    assert format == "brat" or path.read_text() == "earlier"


def words_between_spaces(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(r"\S+", text)]


def test_places_that_cannot_be_written(tmp_path):
    in_file(tmp_path, "full/a.txt", "mine")
    for path, format, message in (
        ("full", "jsonl", "full: found a folder; expected the name of a file"),
        ("full/a.txt/b", "jsonl", "a.txt: File exists; expected a place to write"),
        ("full", "brat", "full: found files in it; expected a new or empty folder"),
        ("full/a.txt", "brat", "a.txt: Not a directory"),
        ("x", "xml", "found the format 'xml' to write; expected one of jsonl, bioc"),
    ):
        with pytest.raises(FormatError, match=re.escape(message)):
            write_documents([], tmp_path / path, format)
    assert [file.name for file in tmp_path.rglob("*")] == ["full", "a.txt"]


@pytest.mark.parametrize("format", ["jsonl", "brat"])
@pytest.mark.parametrize("full", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_no_wrong_place(format, full, tmp_path, monkeypatch):
    def no_room(path, **options):
        raise OSError(full, os.strerror(full), str(path))

    monkeypatch.setattr(Path, "mkdir", no_room)
    with pytest.raises(OSError, match=os.strerror(full)):
        write_documents([], tmp_path / "new" / "x", format)


def test_conll_is_read_by_the_corpus_reader(tmp_path):
    documents = [
        Document(
            "1", "IL-2 gene in\nT cells", (entity(13, 20, label="cell_type"), entity(0, 9, label="DNA"))
        ),
        Document("2", ""),
        Document("3", "\u03baB \U0001d6fc", (entity(0, 2, label="protein"), entity(3, 4, label="protein"))),
    ]
    path = tmp_path / "x.tsv"
    write_documents(documents, path, "conll", words=words_between_spaces)
    assert list(read_sentences(path)) == [
        (0, 0, ["IL-2", "gene", "in", "T", "cells"], ["B-DNA", "I-DNA", "O", "B-cell_type", "I-cell_type"]),
        (2, 0, ["\u03baB", "\U0001d6fc"], ["B-protein", "B-protein"]),
    ]


READ_BOTH = """
import sys
from ner_recipe.formats.document import Document
from ner_recipe.formats.files import read_documents

heavy = {"torch", "transformers", "datasets", "pyarrow", "numpy"} & set(sys.modules)
assert not heavy, heavy
for path in sys.argv[1:]:
    print(sum(isinstance(document, Document) for document in read_documents(path)))
    print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
"""


def write_many(path: Path, count: int) -> Path:
    """A file of as many documents, in the format that its name says."""
    text = "abc " * (20 if path.suffix == ".jsonl" else 300)
    passage = {"offset": 0, "text": text, "annotations": []}
    abstract = f"<Abstract><AbstractText>{text}</AbstractText></Abstract>"
    start, document, end = {
        "x.jsonl": ("", json.dumps({"text": text}) + "\n", ""),
        "bioc.json": ('{"documents": [', json.dumps({"passages": [passage]}) + ",", '{"passages": []}]}'),
        "pubmed.xml": (PUBMED, ARTICLE.format(pmid=1, title="", abstract=abstract), "</PubmedArticleSet>"),
        "bioc.xml": (
            "<collection>",
            f"<document><passage><offset>0</offset><text>{text}</text></passage></document>",
            "</collection>",
        ),
        "x.pubtator": ("", f"1|t|{text}\n1\t0\t3\tabc\tX\n\n", ""),
        "x.parquet": ("", text, ""),
    }[path.name]
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".parquet":
        table = pa.table({"text": [f"{number} {document}" for number in range(count)]})
        pq.write_table(table, path, row_group_size=1000)
    else:
        with path.open("w") as file:
            file.writelines(itertools.chain([start], itertools.repeat(document, count), [end]))
    return path


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="memory is read from /proc, which Linux has"
)
@pytest.mark.parametrize(
    "name", ["x.jsonl", "bioc.json", "pubmed.xml", "bioc.xml", "x.pubtator", "x.parquet"]
)
def test_memory_does_not_grow_with_the_file(name, tmp_path):
    count = 200_000 if name == "x.jsonl" else 16_000
    files = write_many(tmp_path / "few" / name, count // 10), write_many(tmp_path / "many" / name, count)
    assert files[1].stat().st_size > 15e6 or name == "x.parquet"
    command = [sys.executable, "-c", READ_BOTH, *files]
    result = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    few, before, many, after = map(int, result.stdout.split())
    assert (few, many) == (count // 10 + (name == "bioc.json"), count + (name == "bioc.json"))
    assert after - before < 8 << 10, "KiB, of which the larger file would take at least 15,000"
