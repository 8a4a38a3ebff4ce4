"""Tag schemes: each is recognised and read as the same entities; what none allows is an error with a place.

python -m pytest tests/test_schemes.py
"""

import conlleval
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jnlpba_dataset import CorpusError
from ner_recipe.corpora.schemes import ROLES, TagScan, as_iob2, read_tag
from ner_recipe.corpora.word_lines import read_word_lines

KINDS = ("Disease", "Multi-tissue_structure")
# Each scheme's prefixes of the first, inner and last word of an entity, and of an entity of one word.
WRITTEN = {"IOB2": "BIIB", "IOBES": "BIES", "BILOU": "BILU", "BMEWO": "BMEW", "BMES": "BMES", "IO": "IIII"}


@st.composite
def sentences(draw):
    """Words as entities: (type or None for O, number of words), in the order of the sentence."""
    part = st.one_of(
        st.tuples(st.none(), st.integers(1, 3)), st.tuples(st.sampled_from(KINDS), st.integers(1, 4))
    )
    return draw(st.lists(st.lists(part, min_size=1, max_size=6), min_size=1, max_size=4))


# All prefixes of a scheme must be there for it to be recognised by name.
COMPLETE = [[("Disease", 1), (None, 1), ("Disease", 3), (None, 1)]]


def tags_of(parts, scheme: str) -> list[str]:
    tags, before = [], None
    for kind, size in parts:
        if kind is None:
            tags += ["O"] * size
        elif scheme == "IOB1":
            tags += [f"{'B' if before == kind else 'I'}-{kind}", *[f"I-{kind}"] * (size - 1)]
        else:
            first, inner, last, only = WRITTEN[scheme]
            whole = [first, *[inner] * (size - 2), last] if size > 1 else [only]
            tags += [f"{prefix}-{kind}" for prefix in whole]
        before = kind
    return tags


def joined(parts):
    """Neighbours of one type as one entity, which is all that IO can say."""
    result = []
    for kind, size in parts:
        if result and result[-1][0] == kind:
            size += result.pop()[1]
        result.append((kind, size))
    return result


def scan_of(sentences_of_tags) -> TagScan:
    scan = TagScan()
    for number, tags in enumerate(sentences_of_tags):
        scan.add(tags, lambda index, number=number: f"file:{number}.{index}")
    return scan


@pytest.mark.parametrize("scheme", [*WRITTEN, "IOB1"])
@given(corpus=sentences())
def test_every_scheme_gives_the_same_entities(scheme, corpus):
    corpus = COMPLETE + corpus
    if scheme == "IOB1":
        corpus = [[("Disease", 1), ("Disease", 2)], *corpus]
    written = [tags_of(parts, scheme) for parts in corpus]
    assert scan_of(written).scheme().name == scheme
    assert scan_of(written).scheme().repaired == 0
    expected = [tags_of(joined(parts) if scheme == "IO" else parts, "IOB2") for parts in corpus]
    assert [as_iob2([read_tag(tag) for tag in tags]) for tags in written] == expected


@given(st.lists(st.sampled_from(["O", *(f"{p}-{kind}" for p in "BIES" for kind in ("x", "y"))]), max_size=8))
def test_invalid_tags_are_read_as_conlleval_reads_them(tags):
    repaired = as_iob2([read_tag(tag) for tag in tags])
    assert all(tag == "O" or tag[:2] in ("B-", "I-") for tag in repaired)
    lines = [f"w {ours} {tag}" for ours, tag in zip(repaired, tags, strict=True)]
    counts = conlleval.evaluate([*lines, ""], boundary="\n")["overall"]["chunks"]["stats"]
    assert counts["gold"] == counts["pred"] == counts["correct"]


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        (
            [["O", "I-x"], ["B-x", "I-x", "O", "B-x"]],
            "file:0.1: found 'I-x' after O; expected B-x first",
        ),
        ([["I-x", "O"], ["I-x", "B-x"], ["O", "B-x", "I-x"]], "file:2.1: found 'B-x' after O; expected I-x"),
        (
            [["B-x", "E-x", "S-x"], ["B-x", "O"]],
            "file:1.1: found 'O' after B-x; expected the entity of x",
        ),
        (
            [["B-x", "E-x", "S-x"], ["O", "B-x"]],
            "file:1.1: found 'O' after B-x; expected the entity of x",
        ),
        ([["U-x", "B-x", "L-y"]], "file:0.2: found 'L-y' after B-x; expected an entity of y begun"),
        ([["B-x", "I-x", "Disease"]], "file:0.2: found the tag 'Disease'; expected a prefix"),
        ([["B-x", "E-x", "L-x"]], "found tags of different schemes: 'L-x' (file:0.2), 'E-x' (file:0.1)"),
        ([["B-x", "o"]], "file:0.1: found the tag 'o'; expected O, or a prefix"),
        ([["b-x", "O"]], "file:0.0: found the tag 'b-x'; expected O, or a prefix"),
        ([["B-", "O"]], "file:0.0: found the tag 'B-'; expected O, or a prefix"),
    ],
)
def test_what_no_scheme_allows_is_an_error_with_its_place(corpus, message):
    with pytest.raises(CorpusError) as error:
        scan_of(corpus).scheme()
    assert message in str(error.value)


def test_repairs_are_counted_and_schemes_without_prefix_or_type_are_read():
    broken = [["O", "I-x", "I-y"], ["B-x", "I-x"], ["B-y"]]
    with pytest.raises(CorpusError, match="Invalid tags: 2;.*--repair_tags"):
        scan_of(broken).scheme()
    assert str(scan_of(broken).scheme(repair=True)) == "IOB2; 2 invalid tags repaired"
    bare = [["O", "Disease", "Disease", "cell line"]]
    assert scan_of(bare).scheme().name.startswith("IO, types without prefixes")
    assert as_iob2([read_tag(tag) for tag in bare[0]]) == ["O", "B-Disease", "I-Disease", "B-cell line"]
    assert as_iob2([read_tag(tag) for tag in ["B", "I", "O", "I"]]) == [
        "B-ENTITY",
        "I-ENTITY",
        "O",
        "B-ENTITY",
    ]
    assert scan_of([["B", "I", "O"]]).kinds() == ["ENTITY"]
    assert set("BIESLUMW") == set(ROLES)


def test_a_word_that_starts_with_a_hash_is_told_from_a_comment_by_its_tag(tmp_path):
    path = tmp_path / "types.bio"
    path.write_text("# two words\n# comment\nIL-2 protein\n#1 protein\n# B-DNA\nbinds O\n")
    (row,) = read_word_lines(path)
    assert row["tokens"] == ["IL-2", "#1", "#", "binds"] and row["lines"] == [3, 4, 5, 6]
