"""Export a model to ONNX, for annotate.py --backend onnx and other programs.

    python -m ner_recipe.annotation.export outputs/quickstart --output_dir outputs/quickstart_onnx
    python -m ner_recipe.annotation.export USER/NAME --output_dir outputs/onnx_int8 --int8

The folder holds model.onnx, model.onnx.data, the configuration and the tokenizer.
The export needs an extra: pip install -c constraints.txt -e '.[onnx]'.
"""

import argparse
import contextlib
import io
import logging
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from jnlpba_dataset import FULL
from ner_recipe.annotation.engine import load, local_folder
from ner_recipe.annotation.onnx_model import MODEL
from ner_recipe.arguments import PlainParser
from ner_recipe.launch import UsageError, run_command
from ner_recipe.models import quiet_transformers
from ner_recipe.serving import Annotator

PROGRAM = "python -m ner_recipe.annotation.export"
# Traced with the first two; the lengths of a batch and of its texts stay free.
TEXTS = ("Interleukin-4 induces GATA-3.", "T cells", "The IL-2 gene is expressed in human T cells. " * 9)
MOST = 1e-3  # by which a probability in fp32 may differ


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace]:
    flags = PlainParser(prog=PROGRAM, description="Export a model to ONNX.", allow_abbrev=False)
    flags.add_argument("model", metavar="MODEL", help="a folder, a Hub id, or package:NAME/PATH")
    flags.add_argument("--output_dir", required=True, type=Path, help="a new or empty folder")
    flags.add_argument("--model_revision", help="of a model on the Hub: a branch, tag or commit")
    flags.add_argument("--int8", action="store_true", help="weights and matrix products in int8")
    return (flags.parse_args(argv),)


def work(given: argparse.Namespace) -> None:
    folder = given.output_dir
    taken = folder.exists() and (not folder.is_dir() or next(folder.iterdir(), None))
    if taken or not folder.name or folder.is_mount():  # '.' and a mount point can't be replaced
        raise UsageError(f"--output_dir: found {folder}; expected the name of a new or empty folder")
    model, tokenizer = load(local_folder(given.model, given.model_revision), torch.float32)
    annotator = Annotator(model, tokenizer)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder.parent))
    except OSError as error:
        raise cannot_write(folder, error) from None
    try:
        part = scratch / folder.name  # a new folder, with the permissions that the umask gives
        part.mkdir()
        export(annotator, part, given.int8)
        difference = largest_difference(annotator, Annotator(part, backend="onnx"))
        if not (given.int8 or difference <= MOST):  # NaN is not
            raise UsageError(
                f"MODEL: after the export the probabilities of {given.model} differ by up to "
                f"{difference:.4f}; use --backend torch"
            )
        part.replace(folder)
    except OSError as error:
        raise cannot_write(folder, error) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"{folder / MODEL}: probabilities differ by up to {difference:.1e} on sample texts")


def cannot_write(folder: Path, error: OSError) -> Exception:
    if error.errno in FULL:
        return error
    return UsageError(f"--output_dir: {folder}: {error.strerror}; expected a folder to write to")


def export(annotator: Annotator, folder: Path, int8: bool) -> None:
    """Write model, configuration and tokenizer.

    int8 uses seven bits for weights, because sums of eight overflow on processors without VNNI instructions,
    and a scale for each column.
    """
    try:
        from transformers.exporters import OnnxConfig, OnnxRuntimeDynamicConfig, OnnxRuntimeQuantizer
        from transformers.exporters.exporter_onnx import OnnxExporter

        with quiet():
            dynamic = OnnxRuntimeDynamicConfig(per_channel=True, reduce_range=True)
            config = OnnxConfig(dynamic=True, quantizer=OnnxRuntimeQuantizer(dynamic) if int8 else None)
            sample = annotator.tokenizer(list(TEXTS[:2]), padding=True, return_tensors="pt")
            exported = OnnxExporter().export(annotator.model, dict(sample), config)
    except ImportError as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"the export needs more packages ({reason}); pip install -c constraints.txt -e '.[onnx]'"
        ) from None
    exported.save_pretrained(folder)
    annotator.tokenizer.save_pretrained(folder)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide each step of the exporters, and their remarks on versions and operators that are not used."""
    logging.disable(logging.WARNING)
    try:
        with quiet_transformers(), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def largest_difference(one: Annotator, other: Annotator) -> float:
    """Between the probabilities of two annotators, on texts of several lengths."""
    layout = one.prepare(TEXTS)
    both = [np.exp(annotator.log_probabilities(layout)) for annotator in (one, other)]
    return float(np.abs(both[0] - both[1]).max())


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    return run_command(PROGRAM, argv, parse, work, "nothing was written")


if __name__ == "__main__":
    sys.exit(main())
