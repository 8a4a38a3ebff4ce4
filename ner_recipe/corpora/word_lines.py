"""Files with a tagged word a line (CoNLL style) -> rows.

    for row in read_word_lines("train.tsv"): ...

A row is one sentence: `document` (None if unknown), `tokens`, `tags` as written, and where it stands:
`place`, and `lines`, the line of each word.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from jnlpba_dataset import DOCUMENT_MARK, CorpusError, raw_lines, read_lines

MARK = re.compile(rf"[ \t]*{DOCUMENT_MARK}([ \t]|$)")
LOOKS_LIKE_TAG = re.compile(r"O|[BIELSUMW](-.+)?")


class Layout(NamedTuple):
    """How the lines of a file are divided: at tabs or at spaces, into so many fields.

    `tags` are the last fields of a file with spaces. There they tell the word #1 from a comment.
    """

    tabs: bool
    fields: int
    tags: frozenset[str] = frozenset()

    def split(self, line: str) -> list[str]:
        # Only at tabs and spaces: a no-break space may be part of a word.
        return line.split("\t") if self.tabs else re.split("[ \t]+", line.strip(" \t"))


def read_word_lines(path: str | Path, shown: str | None = None) -> Iterator[dict]:
    """Yield the sentences of a file with one word a line: first field the word, last field the tag.

    Fields are divided by tabs, or by spaces if the first word's line has no tab. A blank line ends a
    sentence, and a line -DOCSTART- starts a document. `#` starts a comment unless the line is a word and its
    tag.

    Args:
        shown: the name to use in errors, such as the URL of a cached file. If None, the path.

    Raises:
        CorpusError: FILE:LINE: found ...; expected ...
    """
    shown = shown or str(path)
    start = DOCUMENT_MARK.encode()
    marked = any(start in line and MARK.match(line.decode(errors="replace")) for line in raw_lines(path))
    layout = layout_of(path, shown)
    document = -1
    words: list[tuple[str, str, int]] = []
    for number, line in enumerate(read_lines(path, shown), start=1):
        starts_document = line.lstrip(" \t").startswith(DOCUMENT_MARK) and MARK.match(line)
        if starts_document or not line.strip(" \t"):
            if words:
                yield sentence(shown, document if marked else None, words)
                words = []
            document += bool(starts_document)
        elif not (line.startswith("#") and is_comment(line, layout)):
            words.append((*word_and_tag(line, layout, f"{shown}:{number}"), number))
            document = max(document, 0)  # there may be words before the first mark
    if words:
        yield sentence(shown, document if marked else None, words)


def layout_of(path: str | Path, shown: str) -> Layout:
    """The layout of a file, by its first line that is a word.

    Raises:
        CorpusError: the line has a single field, or there is none.
    """
    lines = (
        (number, line)
        for number, line in enumerate(read_lines(path, shown), start=1)
        if line.strip(" \t") and not line.startswith("#") and not MARK.match(line)
    )
    number, line = next(lines, (0, ""))
    if not number:
        raise CorpusError(f"{shown}: found no sentence; expected lines with a word and its tag")
    layout = Layout("\t" in line, 0)
    fields = layout.split(line)
    if len(fields) < 2:
        raise CorpusError(
            f"{shown}:{number}: found {line[:60]!r}; expected a word and its tag, with a tab or a space "
            "between"
        )
    tags = () if layout.tabs else (fields[-1], *(layout.split(line)[-1] for _, line in lines))
    return Layout(layout.tabs, len(fields), frozenset(tags))


def is_comment(line: str, layout: Layout) -> bool:
    """Whether a line that starts with # is a comment, not the word # (or #1) with a tag."""
    fields = layout.split(line)
    if len(fields) != layout.fields:
        return True
    return not (layout.tabs or fields[-1] in layout.tags or LOOKS_LIKE_TAG.fullmatch(fields[-1]))


def word_and_tag(line: str, layout: Layout, place: str) -> tuple[str, str]:
    """The first and the last field of a line.

    Raises:
        CorpusError: another number of fields than in the file's first line, or an empty word.
    """
    fields = layout.split(line)
    divider = "tab" if layout.tabs else "space"
    if len(fields) != layout.fields:
        raise CorpusError(
            f"{place}: found {len(fields)} field{'s'[: len(fields) != 1]}: {line[:60]!r}; expected "
            f"{layout.fields} with a {divider} between, as in the first line of the file"
        )
    word, tag = fields[0].strip(" "), fields[-1].strip(" ")
    if not word:
        raise CorpusError(f"{place}: found an empty word; expected a word and its tag")
    return word, tag


def sentence(shown: str, document: int | None, words: list[tuple[str, str, int]]) -> dict:
    """One row. The file is named in `place`, and the line of each word in `lines`."""
    tokens, tags, lines = (list(values) for values in zip(*words, strict=True))
    named = None if document is None else str(document)
    return {"document": named, "tokens": tokens, "tags": tags, "place": shown, "lines": lines}
