"""Files of documents: round trips, what is recognised, what is refused and where, memory, hostile XML.

python -m pytest tests/test_formats.py
"""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ner_recipe.formats.document import Document, Entity, Unreadable
from ner_recipe.formats.files import read_documents, recognised
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
    ("jsonl", "x.jsonl"): some_documents(st.text(ANY), st.text(ANY)),
    ("jsonl", "x.jsonl.gz"): some_documents(st.text(ANY)),
    ("bioc", "x.json"): some_documents(st.text(ANY), st.text(ANY)),
    ("bioc", "x.xml"): some_documents(st.text(XML), st.text(XML)),
    ("pubtator", "x.pubtator"): some_documents(titled(), gaps=False, scores=False),
    ("brat", "x"): some_documents(
        st.text(ANY).filter(lambda text: not text.startswith("\ufeff")), scores=False
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
@settings(max_examples=60, deadline=None, derandomize=True)
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
