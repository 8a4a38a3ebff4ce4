"""Prediction files: `word TAB gold TAB predicted`, as conlleval reads them.

    result = read_predictions("outputs/quickstart/predictions_test.tsv")

A blank line ends each sentence. A second one ends each document, where documents are known.
"""

from pathlib import Path

from ner_recipe.launch import UsageError
from ner_recipe.reports.intervals import RESAMPLES
from ner_recipe.reports.result import SplitResult, make_result


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
            file, one that is not UTF-8, one without a sentence, or tags that can't be scored.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PredictionFileError(f"{path}: {error}; expected a UTF-8 prediction file") from None
    sentences: list[list[list[str]]] = [[]]
    documents, document = [], 0
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        fields = line.split("\t")
        if fields == [""]:
            document += bool(documents) and not sentences[-1]  # a second blank line ends a document
            sentences.append([])
        elif len(fields) == 3:
            documents += [] if sentences[-1] else [document]
            sentences[-1].append(fields)
        else:
            raise PredictionFileError(
                f"{path}:{number}: found {len(fields)} columns; expected 3, word TAB gold TAB predicted"
            )
    columns = [[list(column) for column in zip(*rows, strict=True)] for rows in sentences if rows]
    if not columns:
        raise PredictionFileError(f"{path}: found no sentence; expected a prediction file")
    words, gold, predicted = (list(side) for side in zip(*columns, strict=True))
    try:
        numbers = documents if document else None
        return make_result(words, gold, predicted, documents=numbers, resamples=resamples)
    except ValueError as error:
        raise PredictionFileError(f"{path}: {error}") from None
