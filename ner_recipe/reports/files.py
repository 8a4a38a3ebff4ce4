"""The files of a run's folder: their names, and writing and removing them.

write_text(folder / "run.json", text)
"""

import contextlib
import os
from pathlib import Path

PAGE = "report.html"
CARD = "README.md"
REPORTS = {"validation": "classification_report.txt", "test": "classification_report_test.txt"}
# Name of a figure -> its caption on the page.
FIGURES = {
    "training_curves": "Loss, F1 and learning rate by step. The dotted line marks the model that was kept.",
    "type_scores": "F1 by type, with its 95 % interval",
    "span_confusion": "Entities: gold (rows) and predicted (columns). Overlapping entities are paired.",
    "word_confusion": "Words: gold labels (rows) and predicted labels (columns)",
    "f1_by_entity_length": "F1 by the number of words in an entity",
    "f1_by_sentence_length": "F1 by the number of words in the sentence",
    "f1_by_seen": "F1 of entities that occur in the training data word for word, and of new ones",
    "label_distribution": "Distribution of labels in each split",
}
# The files that hold what validation showed. A resumed run keeps them: they are those of its best epoch so
# far.
VALIDATION_FILES = (
    *(PAGE, REPORTS["validation"], "mistakes_validation.txt"),
    *("predictions_validation.tsv", "predictions_validation_joint.tsv"),
)
RESULT_FILES = (
    *VALIDATION_FILES,
    *(f"figures/{name}.{kind}" for name in FIGURES for kind in ("png", "svg")),
    *("run.json", "all_results.json", "train_results.json", "eval_results.json", "test_results.json"),
    *(REPORTS["test"], "trainer_state.json", "mistakes_test.txt"),
    *("predictions_test.tsv", "predictions_test_joint.tsv"),
)


def files_in(folder: str | Path) -> set[str]:
    """The names of the files in a folder, except hidden ones such as the lock of a run."""
    return {path.name for path in Path(folder).iterdir() if path.is_file() and path.name[0] != "."}


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, so that an interrupted run leaves the earlier one readable."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Like write_text, for pictures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(content)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error  # the system's names no file
    part.replace(path)


def follow_umask(folder: str | Path, pattern: str) -> None:
    """Let others read the files if the umask says so. safetensors writes files that only the owner reads."""
    umask = os.umask(0)
    os.umask(umask)
    for path in Path(folder).glob(pattern):
        path.chmod(0o666 & ~umask)


def clear_results(output_dir: str | Path, *, training: bool, resumed: bool) -> None:
    """Remove the results of an earlier run, so that a folder never mixes two models' scores."""
    kept = VALIDATION_FILES if resumed else ()
    for name in (*RESULT_FILES, *([CARD] if training else [])):
        if name not in kept:
            Path(output_dir, name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # no such folder, or it holds somebody's own files
        Path(output_dir, "figures").rmdir()
