"""Opening a file of documents: plain or gzip, whole, in lines, or as XML read element by element.

    for number, line in numbered_lines(Path("notes.txt")): ...

Text is UTF-8. A byte-order mark at the start of a file and the CR of a CRLF are not part of a line.
"""

import codecs
import contextlib
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree
from xml.parsers import expat

from ner_recipe.formats.document import BadDocument, FormatError

GZIP_MAGIC = b"\x1f\x8b"
CHUNK = 1 << 16


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file, unpacked if it is gzip.

    Raises:
        FormatError: the file can't be opened, or its gzip data are damaged.
    """
    try:
        with path.open("rb") as file:
            packed = file.peek(2).startswith(GZIP_MAGIC)
            if path.suffix.lower() == ".gz" and not packed:
                raise FormatError(f"{path}: found no gzip data; expected a gzip file, as its name says")
            yield gzip.GzipFile(fileobj=file) if packed else file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        found = f"{path}: found damaged or incomplete gzip data ({error})"
        raise FormatError(f"{found}; expected a whole file (copy or download it again)") from None
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror}; expected a readable file") from None


def head_of(path: Path) -> bytes:
    """The first 64 KiB of a file, without a byte-order mark."""
    with opened(path) as file:
        return without_mark(file.read(CHUNK), path)


def without_mark(start: bytes, path: Path) -> bytes:
    """The start of a file without the UTF-8 byte-order mark. Refuses UTF-16."""
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise FormatError(f"{path}: found UTF-16; expected UTF-8 (convert it with iconv -f UTF-16 -t UTF-8)")
    return start.removeprefix(codecs.BOM_UTF8)


def chunks(path: Path) -> Iterator[bytes]:
    """Yield a file in pieces, without a byte-order mark."""
    with opened(path) as file:
        yield without_mark(file.read(CHUNK), path)
        while chunk := file.read(CHUNK):
            yield chunk


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (number, line) for each line that LF or CRLF ends; numbers count from 1."""
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            start = without_mark(line, path) if number == 1 else line
            yield number, start.removesuffix(b"\n").removesuffix(b"\r")


def decoded(raw: bytes, path: Path, line: int = 1, part: str = "") -> str:
    """The text of some lines of a file, of which `line` is the number of the first.

    `part` follows the line in errors.

    Raises:
        BadDocument: the bytes are not UTF-8, or one is NUL.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        found, at = f"byte 0x{raw[error.start]:02x}", error.start
    else:
        if "\0" not in text:
            return text
        found, at = "a NUL byte", raw.index(b"\0")
    newlines = raw.count(b"\n", 0, at)
    place = f"{path}:{line + newlines}{part}"
    raise BadDocument(place, f"found {found}; expected UTF-8 text")


def root_name(path: Path) -> str:
    """The name of an XML file's root element.

    Raises:
        FormatError: the file is not XML, or it declares an entity. Declarations stand before the root
            element only, so the rest of the file can't expand to more than it holds or name other files.
    """
    parser = expat.ParserCreate()
    names: list[str] = []

    def refuse(name: str, *_) -> None:
        found = f"the declaration of the entity '{name[:40]}'"
        raise FormatError(f"{path}:{parser.CurrentLineNumber}: found {found}; expected XML without entities")

    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = lambda name, _: names.append(name)
    with opened(path) as file, well_formed(path):
        while not names:
            chunk = file.read(CHUNK)
            parser.Parse(chunk, not chunk)
    return names[0]


def xml_items(path: Path, root: str) -> Iterator[ElementTree.Element]:
    """Yield each child of an XML file's root element. A child is gone once the next one is asked for."""
    found = root_name(path)
    if found != root:
        raise FormatError(f"{path}: found the XML element <{found[:40]}>; expected <{root}>")
    top, depth = None, 0
    with opened(path) as file, well_formed(path):
        for event, element in ElementTree.iterparse(file, events=("start", "end")):
            top = element if top is None else top
            depth += 1 if event == "start" else -1
            if event == "end" and depth == 1:
                yield element
                top.clear()


@contextlib.contextmanager
def well_formed(path: Path) -> Iterator[None]:
    """Turn the XML parser's errors into FormatError."""
    try:
        yield
    except (ElementTree.ParseError, expat.ExpatError) as error:
        line = error.position[0] if isinstance(error, ElementTree.ParseError) else error.lineno
        reason = expat.ErrorString(error.code)
        message = f"{path}:{line}: found XML with an error ({reason}); expected well-formed XML"
        raise FormatError(message) from None
    except LookupError as error:
        raise FormatError(f"{path}: found XML in an {error}; expected UTF-8") from None
    except FormatError:
        raise
    except ValueError as error:  # such as GB2312
        found = f"XML in an encoding that can't be read ({error})"
        raise FormatError(f"{path}: found {found}; expected UTF-8") from None
