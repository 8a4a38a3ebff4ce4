"""Plain text: a document a file, or a document a line.

for document in read_text(Path("abstract.txt"), Reading("abstract.txt")): ...
"""

from collections.abc import Iterator
from pathlib import Path

from ner_recipe.formats.document import Document, Reading, Unreadable, checked, or_unreadable
from ner_recipe.formats.source import chunks, decoded, numbered_lines


def read_text(path: Path, how: Reading) -> Iterator[Document | Unreadable]:
    """Yield the whole file, named as the file without its suffix; or each line that is not empty.

    A line's id is NAME:LINE.
    """
    if how.lines:
        for number, raw in numbered_lines(path):
            if raw:
                yield from_bytes(raw, path, f"{how.name}:{number}", number)
    else:
        yield from_bytes(b"".join(chunks(path)), path, how.stem, None)


@or_unreadable
def from_bytes(raw: bytes, path: Path, name: str, line: int | None) -> Document:
    place = str(path) if line is None else f"{path}:{line}"
    return checked(Document(name, decoded(raw, path, line or 1), place=place))
