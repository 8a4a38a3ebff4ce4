"""The command line of annotate.py, and the settings that decide what is written.

given = parse(["outputs/quickstart", "abstracts/", "--output_dir", "entities"])
"""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch

from ner_recipe.arguments import MOST, PlainParser, is_probability
from ner_recipe.formats.files import READABLE
from ner_recipe.launch import UsageError, cpu_has_bf16
from ner_recipe.serving import BACKENDS, JOINT, ONNX, TORCH

PROGRAM = "annotate.py"
PIPELINE = "pipeline"
STRATEGIES = ("first", "average", "max", "simple")
# Further formats -> the ending of their files. BRAT has a folder of files for each part.
CONVERSIONS = {"bioc": ".json", "pubtator": ".pubtator", "brat": "", "conll": ".tsv"}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything beside model and inputs that decides the bytes of the output. The names are the flags'."""

    output_format: str
    with_text: bool
    convert_to: tuple[str, ...]
    decoding: str
    aggregation_strategy: str | None
    stride: int | None
    min_score: float | None
    input_format: str | None
    lines: bool
    text_column: str
    id_column: str | None
    chunk_documents: int
    batch_tokens: int | None
    backend: str
    precision: str | None
    device: str


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, Settings]:
    """The command line, checked.

    Raises:
        UsageError: a value out of range, or flags that exclude each other.
    """
    given = parser().parse_intermixed_args(argv)
    check_ranges(given)
    is_pipeline, is_onnx = given.decoding == PIPELINE, given.backend == ONNX
    device = given.device or ("cuda" if torch.cuda.is_available() and not is_onnx else "cpu")
    settings = Settings(
        output_format=given.output_format,
        with_text=given.with_text,
        convert_to=tuple(sorted(set(given.convert_to))),
        decoding=given.decoding,
        aggregation_strategy=(given.aggregation_strategy or STRATEGIES[0]) if is_pipeline else None,
        stride=given.stride,
        min_score=given.min_score,
        input_format=given.input_format,
        lines=given.lines,
        text_column=given.text_column or "text",
        id_column=given.id_column,
        chunk_documents=given.chunk_documents,
        batch_tokens=given.batch_tokens,
        backend=given.backend,
        precision=None if is_onnx else given.precision or best_precision(device, is_pipeline),
        device=device,
    )
    check_together(given, settings)
    return given, settings


def parser() -> argparse.ArgumentParser:
    """All flags."""
    flags = PlainParser(
        prog=PROGRAM,
        description="Find the entities in files of text with a trained model.",
        allow_abbrev=False,
    )
    flags.add_argument("model", metavar="MODEL", help="a folder, a Hub id, or package:NAME/PATH")
    flags.add_argument(
        "inputs", metavar="INPUT", nargs="+", help="files, folders or patterns such as 'a/*.xml.gz'"
    )
    flags.add_argument("--output_dir", required=True, type=Path, help="a new folder, or one to go on with")
    flags.add_argument("--model_revision", help="of a model on the Hub: a branch, tag or commit")
    add_reading(flags.add_argument_group("reading"))
    add_finding(flags.add_argument_group("finding"))
    add_writing(flags.add_argument_group("writing"))
    add_sharing(flags.add_argument_group("sharing the work"))
    return flags


def add_reading(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--input_format", choices=READABLE, help="format of all inputs (default: by name and content)"
    )
    group.add_argument("--lines", action="store_true", help="each line of a .txt is a document")
    group.add_argument("--text_column", help="key or column with the text (default: text)")
    group.add_argument("--id_column", help="key or column with the id (default: id, if it is there)")


def add_finding(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--decoding", choices=(JOINT, PIPELINE), default=JOINT, help="pipeline: as pipeline('ner') answers"
    )
    group.add_argument(
        "--aggregation_strategy", choices=STRATEGIES, help="for --decoding pipeline (default: first)"
    )
    group.add_argument(
        "--stride", type=int, help="for --decoding pipeline (default: a quarter of the model's length)"
    )
    group.add_argument(
        "--min_score",
        type=float,
        help="leave out entities with a lower score (default: min_score in the model's config.json; "
        "0 with --decoding pipeline)",
    )
    group.add_argument(
        "--backend", choices=BACKENDS, default=TORCH, help="onnx: MODEL is a folder that was exported to ONNX"
    )
    group.add_argument(
        "--device", help="as torch names it (default: cuda if there is one, else cpu; onnx: cpu)"
    )
    group.add_argument(
        "--precision", choices=("fp32", "bf16"), help="default: bf16 where it is fast, else fp32"
    )
    group.add_argument(
        "--batch_tokens", type=int, help="subtokens in a batch (default: 1024 on a CPU, else 16384)"
    )


def add_writing(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--output_format", choices=("jsonl", "parquet"), default="jsonl")
    group.add_argument("--with_text", action="store_true", help="write each document's text too")
    group.add_argument(
        "--convert_to", nargs="+", choices=CONVERSIONS, default=[], help="write these formats too, with text"
    )
    group.add_argument("--html", action="store_true", help="write a page with the first 100 documents")
    group.add_argument(
        "--chunk_documents", type=int, default=1000, help="documents in a file of the output (default: 1000)"
    )
    group.add_argument("--disable_tqdm", action="store_true", help="show no progress bar")


def add_sharing(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--tasks", type=int, help="parts of the work (default: --workers)")
    group.add_argument(
        "--workers", type=int, default=1, help="processes on this machine; more need datatrove"
    )
    group.add_argument("--rank", type=int, help="do only this one of the tasks, counted from 0")


def check_ranges(given: argparse.Namespace) -> None:
    """Refuse numbers that make no sense."""
    given.tasks = given.workers if given.tasks is None else given.tasks
    least = {"stride": 0, "batch_tokens": 1, "chunk_documents": 1, "workers": 1, "tasks": 1, "rank": 0}
    for name, smallest in least.items():
        value = getattr(given, name)
        if value is not None and not smallest <= value < MOST:
            raise UsageError(f"--{name}: found {value}; expected at least {smallest} and less than {MOST}")
    if given.min_score is not None and not is_probability(given.min_score):
        raise UsageError(f"--min_score: found {given.min_score}; expected a probability from 0 to 1")
    if given.rank is not None and given.rank >= given.tasks:
        raise UsageError(f"--rank: found {given.rank}; expected less than --tasks, which is {given.tasks}")
    if given.rank is not None and given.workers > 1:
        raise UsageError("--rank: does one task, so --workers can't be more than 1; leave one of them out")


def check_together(given: argparse.Namespace, settings: Settings) -> None:
    """Refuse flags that have no effect with others."""
    for name in ("aggregation_strategy", "stride"):
        if getattr(given, name) is not None and settings.decoding != PIPELINE:
            raise UsageError(f"--{name}: belongs to --decoding pipeline; leave it out or add that")
    if given.tasks > 1 and given.workers == 1 and given.rank is None:
        raise UsageError("--tasks: has no effect alone; add --rank or --workers, or leave it out")
    if settings.backend == ONNX:
        refuse_beside_onnx(given, settings)
    if settings.aggregation_strategy == "simple" and "conll" in settings.convert_to:
        raise UsageError("--convert_to conll: needs whole words, and the strategy simple may split them")


def refuse_beside_onnx(given: argparse.Namespace, settings: Settings) -> None:
    """Refuse what an exported model can't do."""
    if settings.decoding == PIPELINE:
        raise UsageError("--decoding pipeline: needs --backend torch; leave one of them out")
    if given.precision:
        raise UsageError("--precision: was decided by the export (--int8 or not); leave it out")
    if settings.device != "cpu":
        raise UsageError(f"--device: found {settings.device}; --backend onnx computes on the CPU only")


def best_precision(device: str, is_pipeline: bool) -> str:
    """bf16 if the processor computes in it; fp32 for the pipeline's answers, which are to be exact."""
    if is_pipeline:
        return "fp32"
    if device.startswith("cuda"):
        has_bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16" if has_bf16 else "fp32"
    return "bf16" if device == "cpu" and cpu_has_bf16() else "fp32"
