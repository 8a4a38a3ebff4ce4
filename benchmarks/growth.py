"""How seconds and memory grow with the corpus, the length of its texts and the number of processes.

    python benchmarks/growth.py --plot docs/cost_growth.png
    python benchmarks/growth.py --one 1000000        # one large corpus, trained for a few steps

The corpora repeat the sentences of the embedded sample: only the number and the length of the texts change.
The encoder is a random BERT of 2 layers and width 128, so that the cost of the recipe's own code shows.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from processes import random_bert, timed

from jnlpba_dataset.jnlpba import DOCUMENT_MARK, FILE_NAMES, SAMPLE_FOLDER
from ner_recipe.reports.record import current_commit

SHAPE = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512}
TRAINING = (
    *(
        "run_ner.py",
        "--do_train",
        "--num_train_epochs=1",
        "--train_batch_tokens=2048",
        "--train_on=abstracts",
    ),
    *("--eval_strategy=no", "--save_strategy=no", "--load_best_model_at_end=false"),
    *("--do_report_page=false", "--disable_tqdm=true"),
)
COLUMNS = ("sentences", "sentences a text", "processes", "preparation s", "training s", "peak MB")


def sample_sentences() -> list[str]:
    """The sentences of the sample's training file, each with its lines."""
    text = (SAMPLE_FOLDER / FILE_NAMES["train"]).read_text()
    parts = [part.strip() for part in text.split("\n\n")]
    return [part for part in parts if part and not part.startswith(DOCUMENT_MARK)]


def documents(count: int, in_document: int) -> Iterator[str]:
    """`count` sentences in documents of `in_document` sentences, as lines of a file."""
    sentences = sample_sentences()
    for number in range(count):
        if number % in_document == 0:
            yield f"{DOCUMENT_MARK}\tO\n\n"
        yield sentences[number % len(sentences)] + "\n\n"


def write_corpus(folder: Path, count: int, in_document: int) -> None:
    folder.mkdir()
    for split, name in FILE_NAMES.items():
        with (folder / name).open("w") as file:
            file.writelines(documents(count if split == "train" else 40, in_document))


def measured(
    place: Path, model: str, count: int, in_document: int, processes: int, more: Sequence[str] = ()
) -> dict:
    """One training of one epoch on a new corpus, with nothing in the cache."""
    folder = Path(tempfile.mkdtemp(dir=place))
    write_corpus(folder / "corpus", count, in_document)
    places = [
        f"--data_dir={folder / 'corpus'}",
        f"--cache_dir={folder / 'cache'}",
        f"--output_dir={folder / 'out'}",
    ]
    found = timed([*TRAINING, f"--model_name_or_path={model}", *places, *more], processes)
    (start, end), *_ = found["epochs"]
    values = (count, in_document, processes, start, end - start, found["peak_bytes"] / 1e6)
    shown = (f"{value:,.4g}" if isinstance(value, float) else str(value) for value in values)
    print(f"| {' | '.join(shown)} |", flush=True)
    return dict(zip(COLUMNS, values, strict=True))


def plot(path: str, by: Sequence[tuple[str, list[dict]]]) -> None:
    """Seconds (bars) and peak memory (line) in one panel for each thing that was varied."""
    figure, panels = plt.subplots(1, len(by), figsize=(4 * len(by), 3.2), layout="constrained")
    for panel, (name, rows) in zip(panels, by, strict=True):
        labels = [f"{row[name]:,}" for row in rows]
        panel.bar(labels, [row["preparation s"] for row in rows], label="preparation")
        bottoms = [row["preparation s"] for row in rows]
        panel.bar(labels, [row["training s"] for row in rows], bottom=bottoms, label="training")
        panel.set(xlabel=name, ylabel="seconds")
        memory = panel.twinx()
        memory.plot(labels, [row["peak MB"] for row in rows], "k.-", label="peak memory")
        memory.set(ylim=(0, None), ylabel="MB")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.savefig(path, dpi=110)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plot", help="where to draw the picture")
    parser.add_argument(
        "--sentences", type=int, default=2000, help="the smallest corpus; the largest is 8 times as big"
    )
    parser.add_argument(
        "--one", type=int, help="only a corpus of N sentences in abstracts of ten, 20 steps on both in turn"
    )
    return parser.parse_args()


def main() -> None:
    flags = parse()
    base = flags.sentences
    print(f"commit {current_commit()}\n\n| {' | '.join(COLUMNS)} |\n|{'---:|' * len(COLUMNS)}")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        model = random_bert(place, **SHAPE)
        if flags.one:
            measured(place, model, flags.one, 10, 1, ("--train_on=alternate", "--max_steps=20"))
            return
        by_size = [measured(place, model, base * factor, 1, 1) for factor in (1, 2, 4, 8)]
        by_length = [by_size[0], *(measured(place, model, base, size, 1) for size in (2, 4, 8, 16))]
        by_processes = [by_size[2], measured(place, model, base * 4, 1, 2)]
    if flags.plot:
        plot(
            flags.plot, [("sentences", by_size), ("sentences a text", by_length), ("processes", by_processes)]
        )


if __name__ == "__main__":
    main()
