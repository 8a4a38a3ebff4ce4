"""Tag schemes: which one a corpus uses, and its tags as IOB2.

    scan = TagScan()
    for place, tags in ...: scan.add(tags, place)
    scheme = scan.scheme(repair=False)
    tags = as_iob2([read_tag(tag) for tag in ["S-Disease", "O"]])        # ["B-Disease", "O"]

IOB1, IOB2, IO, IOBES, BILOU (BIOUL), BMEWO and BMES are known. In a scheme without prefixes a tag is O or a
type. Tags without a type (B, I, O) get the type ENTITY.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jnlpba_dataset import CorpusError

OUTSIDE = "O"
UNTYPED = "ENTITY"
# The role of each prefix: it begins an entity, is inside, ends it, or is an entity of a single word.
ROLES = {"B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S", "W": "S"}
WITH_ENDS = {"IOBES": "BIES", "BILOU": "BILU", "BMEWO": "BMEW", "BMES": "BMES"}
NOT_TAGS = ("o", "0", "_", "-", "-X-")  # what other programs write for O or for nothing
PREFIXED = re.compile(r"([A-Za-z])-(.*)")
NUMBER = re.compile(r"[-+.,\d]+(e[-+]?\d+)?", re.IGNORECASE)


class Tag(NamedTuple):
    """A tag in any scheme. `prefix` is as written, O outside of entities, and empty if there is none."""

    prefix: str
    kind: str

    @property
    def role(self) -> str:
        return ROLES.get(self.prefix, "I" if self.kind else OUTSIDE)


class Scheme(NamedTuple):
    """The scheme of a corpus, and how many of its tags had to be repaired."""

    name: str
    repaired: int = 0

    def __str__(self) -> str:
        text = self.name if self.name == "IOB2" else f"{self.name}, converted to IOB2"
        return f"{text}; {self.repaired:,} invalid tags repaired" if self.repaired else text


def read_tag(tag: str) -> Tag:
    """Split a tag into prefix and type."""
    if tag == OUTSIDE:
        return Tag(OUTSIDE, "")
    if tag in ROLES:
        return Tag(tag, UNTYPED)
    found = PREFIXED.fullmatch(tag)
    return Tag(found[1], found[2]) if found and found[1] in ROLES else Tag("", tag)


def is_iob2(labels: Sequence[str]) -> bool:
    """Whether labels are O, and B-TYPE and I-TYPE for each type, each once."""
    kinds = {label[2:] for label in labels if label != OUTSIDE}
    return sorted(labels) == sorted([OUTSIDE, *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI")])


def as_iob2(tags: Sequence[Tag]) -> list[str]:
    """The IOB2 tags of one sentence in any scheme, its invalid tags read by the rules of conlleval.

    An entity starts with B or S, after O, E or S, and where the type changes.
    """
    result = []
    before = Tag(OUTSIDE, "")
    for tag in tags:
        starts = tag.role in "BS" or before.role in "OES" or tag.kind != before.kind
        result.append(OUTSIDE if tag.role == OUTSIDE else f"{'B' if starts else 'I'}-{tag.kind}")
        before = tag
    return result


def iob2_fault(before: Tag, tag: Tag) -> str | None:
    """What IOB2 expects instead of `tag` after `before`: an I- must continue an entity of its type."""
    return f"B-{tag.kind} first (IOB2)" if tag.role == "I" and not continues(before, tag) else None


def iob1_fault(before: Tag, tag: Tag) -> str | None:
    """What IOB1 expects instead of `tag` after `before`: a B- must separate two entities of one type."""
    if tag.role == "B" and not continues(before, tag):
        return f"I-{tag.kind}, because no entity of that type ends before it (IOB1)"
    return None


def end_fault(before: Tag, tag: Tag) -> str | None:
    """What a scheme that marks the ends of entities expects instead of `tag` after `before`."""
    if tag.role in "IE" and not continues(before, tag):
        return f"an entity of {tag.kind} begun before it"
    if before.role in "BI" and tag.role not in "IE":
        return f"the entity of {before.kind} ended before it"
    return None


def continues(before: Tag, tag: Tag) -> bool:
    return before.role in "BI" and before.kind == tag.kind


FAULTS = {"IOB2": iob2_fault, "IOB1": iob1_fault, "ends": end_fault}


class TagScan:
    """What the tags of a corpus show, sentence by sentence: which tags there are, and which follow which."""

    def __init__(self) -> None:
        self.first: dict[str, str] = {}  # tag -> the place of its first use
        self.pairs: dict[tuple[str, str], list] = {}  # (tag before, tag) -> [count, first place]

    def add(self, tags: Sequence[str], place: Callable[[int], str]) -> None:
        """Take in the tags of one sentence; `place(index)` says where a word stands."""
        # A sentence ends as if an O followed. Only schemes that mark the ends of entities see it.
        for index, pair in enumerate(zip([OUTSIDE, *tags], [*tags, OUTSIDE], strict=True)):
            known = self.pairs.get(pair)
            if known:
                known[0] += 1
                continue
            where = place(min(index, len(tags) - 1))
            if index < len(tags) and pair[1] not in self.first:
                refuse_strange(pair[1], where)
                self.first[pair[1]] = where
            self.pairs[pair] = [1, where]

    def kinds(self) -> list[str]:
        """The types, in alphabetical order."""
        return sorted({read_tag(tag).kind for tag in self.first} - {""})

    def scheme(self, repair: bool = False) -> Scheme:
        """The scheme that all tags follow, or the one that they break least if they are to be repaired.

        Raises:
            CorpusError: no scheme allows the tags. The message names the place of the first that breaks it.
        """
        prefixes = {read_tag(tag).prefix: tag for tag in reversed(self.first) if tag != OUTSIDE}
        if "" in prefixes:
            return self.without_prefixes(prefixes)
        if set(prefixes) <= {"B", "I"}:
            counts = {name: sum(count for count, _ in self.faults(name)) for name in ("IOB2", "IOB1")}
            grammar = "IOB2" if counts["IOB2"] <= counts["IOB1"] else "IOB1"
            name = "IO" if grammar == "IOB1" and "B" not in prefixes else grammar
        else:
            name, grammar = self.scheme_with_ends(prefixes), "ends"
        faults = self.faults(grammar)
        invalid = sum(count for count, _ in faults)
        if invalid and not repair:
            raise CorpusError(
                f"{faults[0][1]}. Invalid tags: {invalid:,}; correct them, or give "
                "--repair_tags to read them by the rules of conlleval"
            )
        return Scheme(name, invalid)

    def faults(self, grammar: str) -> list[tuple[int, str]]:
        """How often each pair of tags breaks a grammar, and where it first does; in the corpus's order."""
        found = []
        for (before, tag), (count, place) in self.pairs.items():
            expected = FAULTS[grammar](read_tag(before), read_tag(tag))
            if expected:
                found.append((count, f"{place}: found '{tag}' after {before}; expected {expected}"))
        return found

    def without_prefixes(self, prefixes: dict[str, str]) -> Scheme:
        """The scheme in which a tag is O or a type, if no tag has a prefix."""
        bare = prefixes.pop("")
        if prefixes:
            other = next(iter(prefixes.values()))
            raise CorpusError(
                f"{self.first[bare]}: found the tag '{bare}'; expected a prefix (one of "
                f"{', '.join(ROLES)}) and a type, as in '{other}' ({self.first[other]})"
            )
        if OUTSIDE not in self.first:
            raise CorpusError(
                f"{self.first[bare]}: found the tag '{bare}', and no tag O in the corpus; expected tags in "
                "the last column"
            )
        return Scheme("IO, types without prefixes")

    def scheme_with_ends(self, prefixes: dict[str, str]) -> str:
        """The name of the scheme that has all these prefixes."""
        for name, allowed in WITH_ENDS.items():
            if set(prefixes) <= set(allowed):
                return name
        tags = ", ".join(f"'{tag}' ({self.first[tag]})" for tag in prefixes.values())
        raise CorpusError(
            f"found tags of different schemes: {tags}; expected those of IOB1, IOB2, IO, "
            f"{', '.join(WITH_ENDS)}"
        )


def refuse_strange(tag: str, place: str) -> None:
    """Refuse a tag that can't be meant: without a type, a number, or with a prefix of no scheme."""
    read = read_tag(tag)
    if re.search(r"[\n\r\t]", tag) or (not read.prefix and NUMBER.fullmatch(tag)):
        read = Tag("", "")
    if tag == OUTSIDE or (
        read.kind
        and read.kind == read.kind.strip()
        and tag not in NOT_TAGS
        and not (read.prefix == "" and PREFIXED.fullmatch(tag))
    ):
        return
    raise CorpusError(
        f"{place}: found the tag {tag!r}; expected O, or a prefix (one of {', '.join(ROLES)}) and a type, "
        "such as B-Disease"
    )
