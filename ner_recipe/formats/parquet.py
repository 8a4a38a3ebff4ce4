"""Documents as the rows of a Parquet file: a text column, and perhaps ids and entities.

    for document in read_parquet(Path("abstracts.parquet"), Reading("abstracts.parquet")): ...

A column `entities` or `spans` holds lists of structs with start, end and label, as in JSON.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ner_recipe.formats.document import BadDocument, Document, FormatError, Reading, Unreadable, or_unreadable
from ner_recipe.formats.json_rows import ENTITY_KEYS, from_row

BATCH_ROWS = 256


def read_parquet(path: Path, how: Reading) -> Iterator[Document | Unreadable]:
    """Yield a document a row; the rows are read in batches."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            columns = checked_columns(path, file.schema_arrow.names, how)
            number = 0
            for batch in file.iter_batches(BATCH_ROWS, columns=columns):
                for row in range(batch.num_rows):
                    number += 1
                    default_id, place = f"{how.name}:{number}", f"{path}, row {number}"
                    yield from_batch(batch, row, place, default_id, how)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise FormatError(f"{path}: can't be read ({reason}); expected a Parquet file") from None


def checked_columns(path: Path, names: list[str], how: Reading) -> list[str]:
    """The columns to read. Refuses a file without those that were asked for."""
    for name in filter(None, (how.text_column, how.id_column)):
        if name not in names:
            raise FormatError(f"{path}: found the columns {', '.join(names)}; expected one named '{name}'")
    used = [how.text_column, how.id_column or "id", *(ENTITY_KEYS if how.entities else ())]
    return [name for name in names if name in used]


@or_unreadable
def from_batch(batch: Any, row: int, place: str, default_id: str, how: Reading) -> Document:
    try:
        values = {name: batch.column(name)[row].as_py() for name in batch.schema.names}
    except UnicodeDecodeError as error:
        found = f"byte 0x{error.object[error.start]:02x}"
        raise BadDocument(place, f"found {found} in a text; expected UTF-8") from None
    return from_row(values, place, default_id, how)
