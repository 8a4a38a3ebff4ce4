"""How fast the Annotator is beside `pipeline("ner")`, and how much memory annotate.py needs.

    python benchmarks/annotate.py MODEL INPUT... --documents 100
    python benchmarks/annotate.py MODEL INPUT... --cpu_seconds --onnx EXPORTED EXPORTED_INT8
    python benchmarks/annotate.py MODEL INPUT... --memory 1000 10000 100000

All systems take the same texts, model and device in turns, and the ratios are taken within a round. The
pipeline gets its best batch size, which is measured first on some of the texts. Words are what white space
separates.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from transformers import pipeline

from ner_recipe.annotation.engine import DTYPES
from ner_recipe.annotation.settings import best_precision
from ner_recipe.formats.document import Document
from ner_recipe.formats.files import document_files, read_documents
from ner_recipe.launch import use_cores
from ner_recipe.serving import Annotator, serving_stride

ROOT = Path(__file__).resolve().parent.parent
# Runs a command and prints the most memory that it or a child of it had, in KiB (as Linux counts it).
MEASURED = "import resource, subprocess, sys; code = subprocess.run(sys.argv[1:]).returncode; " + (
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
)

Answer = Callable[[Sequence[str]], object]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("model", metavar="MODEL", help="a folder or Hub id")
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="files of documents, as for annotate.py")
    parser.add_argument("--documents", type=int, default=100, help="how many texts (default: 100)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=DTYPES, help="of the Annotator (default: as annotate.py)")
    parser.add_argument("--onnx", nargs="+", default=[], help="folders with exports of the model, on the CPU")
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[4, 16, 64], help="of the pipeline")
    parser.add_argument("--memory", type=int, nargs="+", help="measure the memory at these numbers instead")
    parser.add_argument(
        "--cpu_seconds",
        action="store_true",
        help="count the CPU's seconds of this process, which other processes disturb less; on one core",
    )
    parser.add_argument("--json", help="where to write all the numbers")
    return parser.parse_args()


def first_texts(inputs: Sequence[str], count: int) -> list[str]:
    """The first texts, from the beginning again if there are fewer."""
    documents = itertools.chain.from_iterable(map(read_documents, document_files(inputs)))
    texts = [
        document.text for document in itertools.islice(documents, count) if isinstance(document, Document)
    ]
    return list(itertools.islice(itertools.cycle(texts), count))


def systems(flags: argparse.Namespace, clock: Callable[[], float]) -> dict[str, Answer]:
    """What is measured, by name. The pipeline's strategy is the one that loses least to joint decoding."""
    precision = flags.precision or best_precision(flags.device, is_pipeline=False)
    annotator = Annotator(flags.model, device=flags.device, dtype=DTYPES[precision])
    ner = pipeline(
        "ner",
        flags.model,
        aggregation_strategy="max",
        stride=serving_stride(annotator.max_length),
        device=flags.device,
    )
    few = first_texts(flags.inputs, min(flags.documents, 2 * max(flags.batch_sizes)))
    best = min(
        flags.batch_sizes, key=lambda size: seconds(lambda texts: ner(texts, batch_size=size), few, clock)
    )
    exported = {folder: Annotator(folder, backend="onnx") for folder in flags.onnx}
    return {
        f"Annotator, {precision}": lambda texts: list(annotator(texts)),
        **{
            f"Annotator, ONNX, {Path(folder).name}": lambda texts, other=other: list(other(texts))
            for folder, other in exported.items()
        },
        f"pipeline, a list, batch size {best}": lambda texts: ner(texts, batch_size=best),
        "pipeline, one text at a time": lambda texts: [ner(text) for text in texts],
    }


def seconds(answer: Answer, texts: Sequence[str], clock: Callable[[], float] = time.perf_counter) -> float:
    start = clock()
    answer(texts)
    return clock() - start


def measure_speed(flags: argparse.Namespace) -> dict:
    """Words per second of each system in each round; the order turns in every second one."""
    use_cores(torch.device(flags.device))
    clock = time.perf_counter
    if flags.cpu_seconds:
        torch.set_num_threads(1)  # threads that wait for each other would count
        clock = time.process_time
    texts = first_texts(flags.inputs, flags.documents)
    words = sum(len(text.split()) for text in texts)
    answers = systems(flags, clock)
    for answer in answers.values():
        answer(texts[:8])  # warm
    rounds = []
    for number in range(flags.rounds):
        names = list(answers)[:: -1 if number % 2 else 1]
        rounds.append({name: round(words / seconds(answers[name], texts, clock), 1) for name in names})
        print(f"round {number + 1}, words/s: {rounds[-1]}", flush=True)
    ours, *others = answers
    for name in answers:
        print(f"{name}: {statistics.median(one[name] for one in rounds):,.0f} words/s (median)")
    for other in others:
        ratios = [one[ours] / one[other] for one in rounds]
        middle, spread = statistics.median(ratios), f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"{ours} against {other}: x {middle:.2f} ({spread})")
    clocked = {"device": flags.device, "cpu_seconds": flags.cpu_seconds, "words/s": rounds}
    return {"documents": len(texts), "words": words, **clocked}


def measure_memory(flags: argparse.Namespace) -> dict:
    """The largest memory of annotate.py, in MB, and its seconds, by the number of documents."""
    found = {}
    for count in flags.memory:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "documents.jsonl"
            with source.open("w", encoding="utf-8") as file:
                for number, text in enumerate(first_texts(flags.inputs, count)):
                    file.write(json.dumps({"id": str(number), "text": text}) + "\n")
            words = [sys.executable, str(ROOT / "annotate.py"), flags.model, str(source), "--disable_tqdm"]
            words += ["--output_dir", f"{folder}/out", "--device", flags.device]
            start = time.perf_counter()
            result = subprocess.run(
                [sys.executable, "-c", MEASURED, *words], capture_output=True, text=True, check=True
            )
        peak = int(result.stdout.split()[-1]) / 1024
        found[count] = {"MiB": round(peak, 1), "seconds": round(time.perf_counter() - start, 1)}
        print(f"{count:,} documents: {peak:,.0f} MiB, {found[count]['seconds']:,.0f} s", flush=True)
    return {"memory": found}


def main() -> None:
    flags = parse()
    found = measure_memory(flags) if flags.memory else measure_speed(flags)
    if flags.json:
        Path(flags.json).write_text(json.dumps({**found, "model": flags.model}, indent=1) + "\n")


if __name__ == "__main__":
    main()
