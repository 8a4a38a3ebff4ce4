"""Plain text: a document a file, or a document a line.

for document in read_text(Path("abstract.txt")): ...
"""

from collections.abc import Iterator
from pathlib import Path

from ner_recipe.formats.document import Document, Unreadable, checked, or_unreadable
from ner_recipe.formats.source import chunks, decoded, numbered_lines


def read_text(path: Path, lines: bool = False) -> Iterator[Document | Unreadable]:
    """Yield the whole file, named as the file without its suffix; or each line that is not empty.

    A line's id is NAME:LINE, with the file's name and the number of the line.
    """
    if lines:
        for number, raw in numbered_lines(path):
            if raw:
                yield from_bytes(raw, path, f"{path.name}:{number}", number)
    else:
        yield from_bytes(b"".join(chunks(path)), path, plain_name(path), None)


def plain_name(path: Path) -> str:
    """A file's name without its suffix, and without .gz before that."""
    inner = Path(path.stem) if path.suffix.lower() == ".gz" else path
    return inner.stem


@or_unreadable
def from_bytes(raw: bytes, path: Path, name: str, line: int | None) -> Document:
    place = str(path) if line is None else f"{path}:{line}"
    return checked(Document(name, decoded(raw, path, line or 1), place=place))
