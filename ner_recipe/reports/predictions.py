"""Prediction files: `word TAB gold TAB predicted`, as conlleval reads them.

    result = read_predictions("outputs/quickstart/predictions_test.tsv")

A blank line ends each sentence. A second one ends each document, where documents are known.
"""

import os
from pathlib import Path

from metrics import AVERAGES
from ner_recipe.launch import UsageError
from ner_recipe.reports.intervals import RESAMPLES
from ner_recipe.reports.result import SplitResult, make_result

DOCUMENT_MARK = "-DOCSTART-"  # of CoNLL's corpus files; a prediction file has words only


class PredictionFileError(UsageError):
    """A prediction file that can't be read: `FILE:LINE: found; expected`."""


def format_predictions(result: SplitResult) -> str:
    """The text of a prediction file."""
    lines = []
    documents = result.documents or []
    following = [*documents[1:], None]
    for number, columns in enumerate(zip(result.words, result.gold, result.predicted, strict=True)):
        lines += ["\t".join(row) + "\n" for row in zip(*columns, strict=True)] + ["\n"]
        if documents and documents[number] != following[number]:
            lines.append("\n")
    return "".join(lines)


def read_predictions(path: str | Path, resamples: int = RESAMPLES) -> SplitResult:
    """Read a prediction file and score it.

    Raises:
        PredictionFileError: `FILE:LINE: ...` for a line without three columns; `FILE: ...` for a missing
            file, one that is not UTF-8, or one without a sentence.
    """
    text = prediction_text(path)
    sentences: list[list[list[str]]] = [[]]
    documents, document = [], 0
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        fields = line.split("\t")
        if fields == [""]:
            document += bool(documents) and not sentences[-1]  # a second blank line ends a document
            sentences.append([])
        else:
            check_fields(f"{path}:{number}", fields)
            documents += [] if sentences[-1] else [document]
            sentences[-1].append(fields)
    columns = [[list(column) for column in zip(*rows, strict=True)] for rows in sentences if rows]
    if not columns:
        raise PredictionFileError(f"{path}: found no sentence; expected a prediction file")
    words, gold, predicted = (list(side) for side in zip(*columns, strict=True))
    try:
        numbers = documents if document else None
        return make_result(words, gold, predicted, documents=numbers, resamples=resamples)
    except ValueError as error:
        raise PredictionFileError(f"{path}: {error}") from None


def prediction_text(path: str | Path) -> str:
    """The text of a file. Raises PredictionFileError if it is not a file of UTF-8 text."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise PredictionFileError(f"{path}: not a file; expected a prediction file, predictions_test.tsv say")
    try:
        return Path(path).read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise PredictionFileError(f"{path}: {error.strerror}; expected a prediction file") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        found = f"byte 0x{error.object[error.start]:02x}"
        raise PredictionFileError(f"{path}:{line}: found {found}; expected UTF-8 text") from None


def check_fields(place: str, fields: list[str]) -> None:
    """Refuse a line that is not `word TAB gold TAB predicted` with IOB2 tags."""
    if len(fields) != 3:
        raise PredictionFileError(
            f"{place}: found {len(fields)} column{'s'[: len(fields) != 1]}; expected 3, word TAB gold TAB "
            "predicted"
        )
    word, *tags = fields
    if not word.strip() or {*word} & {"\0", "\r"}:
        raise PredictionFileError(f"{place}: found the word {word!r}; expected a word of visible characters")
    if word == DOCUMENT_MARK:
        raise PredictionFileError(
            f"{place}: found {DOCUMENT_MARK}; expected words only, and two blank lines between documents"
        )
    for tag in tags:
        if tag != "O" and (
            tag[:2] not in ("B-", "I-") or tag[2:].split() != [tag[2:]] or tag[2:] in AVERAGES
        ):
            raise PredictionFileError(f"{place}: found the tag {tag!r}; expected O, B-TYPE or I-TYPE (IOB2)")
