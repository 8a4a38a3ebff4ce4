"""Show what is in a corpus: as text, and with --html as a page.

python -m ner_recipe.corpora train.tsv devel.tsv test.tsv
python -m ner_recipe.corpora ncbi-disease --model_name_or_path MODEL --html page.html
"""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from ner_recipe.arguments import SPLITS, DataArguments, ModelArguments, PlainParser
from ner_recipe.checks import cache_problems, corpus_problems, refuse, writing_problems
from ner_recipe.corpora.loading import COLUMN_FLAGS, JNLPBA, load_corpus
from ner_recipe.corpora.overview import QUANTILES, Overview, describe, pieces, shared
from ner_recipe.corpora.sources import DOCUMENTS, RECORDS, WORD_LINES
from ner_recipe.launch import UsageError, run_command, visible
from ner_recipe.models import load_tokenizer
from ner_recipe.reports.files import write_text
from ner_recipe.reports.template import COLOURS, render_template

PROGRAM = "python -m ner_recipe.corpora"
TEMPLATE = Path(__file__).resolve().parent / "overview.html"


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace]:
    parser = PlainParser(prog=PROGRAM, description="Show what is in a corpus.", allow_abbrev=False)
    parser.add_argument(
        "corpus",
        nargs="+",
        help="jnlpba, sample, a known name such as ncbi-disease, a folder of save_to_disk, a data set of the "
        "Hub; or one to three files or BRAT folders: train, validation, test",
    )
    parser.add_argument("--data_dir", help="a folder with the files of a known corpus")
    parser.add_argument("--text_column_name", help="the column of words or of text")
    parser.add_argument("--label_column_name", help="the column of tags")
    parser.add_argument("--document_column_name", help="the column that names each sentence's document")
    parser.add_argument("--model_name_or_path", help="count the subtokens of this model's tokenizer")
    parser.add_argument("--max_seq_length", type=int, default=512, help="subtokens in a window")
    parser.add_argument("--cache_dir", help="where prepared corpora are kept")
    parser.add_argument("--html", type=Path, help="write a page to this file")
    given = parser.parse_args(argv)
    if given.max_seq_length < 3:
        raise UsageError(f"--max_seq_length: found {given.max_seq_length}; expected at least 3")
    if len(given.corpus) > len(SPLITS):
        raise UsageError(
            f"found {len(given.corpus)} files; expected at most one for each of {', '.join(SPLITS)}"
        )
    refuse(cache_problems(given.cache_dir) + (page_problems(given.html) if given.html else []))
    return (given,)


def page_problems(page: Path) -> list[str]:
    """Whether the page can be written."""
    if os.path.isdir(page):
        return [f"--html: {page} is a folder; give the name of a file"]
    # A page that is there is replaced. The folder of a new one is made, if need be.
    return writing_problems("html", str(page.parent if os.path.lexists(page) else page))


def data_arguments(given: argparse.Namespace) -> DataArguments:
    """The flags of run_ner.py that name this corpus. Invalid tags are counted, not refused."""
    first = given.corpus[0]
    options = {name: getattr(given, name) for name in COLUMN_FLAGS}
    missing = [name for name in given.corpus[1:] if not os.path.exists(name)]
    if missing:
        raise UsageError(f"found no file '{missing[0]}'; expected files after the first one")
    is_saved = os.path.isdir(first) and any(Path(first).glob("dataset_*.json"))
    if len(given.corpus) > 1 or (os.path.exists(first) and not is_saved):
        files = {f"{split}_file": file for split, file in zip(SPLITS, given.corpus, strict=False)}
        return DataArguments(**files, data_dir=given.data_dir, repair_tags=True, **options)
    if Path(first).suffix.lower() in (*WORD_LINES, *RECORDS, *DOCUMENTS):
        raise UsageError(f"found no file '{first}'; expected a file, or a corpus's name")
    if first == "sample":
        return DataArguments(dataset_config_name=first, data_dir=given.data_dir, **options)
    repair = first.lower() != JNLPBA
    return DataArguments(dataset_name=first, data_dir=given.data_dir, repair_tags=repair, **options)


def work(given: argparse.Namespace) -> None:
    arguments = data_arguments(given)
    refuse(corpus_problems(arguments))
    tokenizer = None
    if given.model_name_or_path:
        tokenizer = load_tokenizer(ModelArguments(given.model_name_or_path, cache_dir=given.cache_dir))
    corpus = load_corpus(SPLITS, arguments, given.cache_dir, inspecting=True)
    overviews = [
        describe(name, sentences, corpus.facts.get(name, {}), tokenizer, given.max_seq_length)
        for name, sentences in corpus.splits.items()
    ]
    print(render(overviews, given.max_seq_length))
    if given.html:
        title = given.corpus[0] if given.corpus[0] != JNLPBA else "JNLPBA"
        write_text(given.html, render_page(title, overviews, given.max_seq_length))
        print(f"\nWritten: {given.html}")


def rows_of(overviews: Sequence[Overview], max_seq_length: int) -> list[tuple[str, list[str]]]:
    """The rows of the table: what is counted, and the count of each split."""

    def row(name: str, values: Iterable[int | None]) -> tuple[str, list[str]]:
        return name, ["unknown" if value is None else f"{value:,}" for value in values]

    counted = ("documents", "sentences", "words", "entities")
    rows = [row(name, [one.counts[name] for one in overviews]) for name in counted]
    for kind in sorted({kind for one in overviews for kind in one.types}):
        rows.append(row(f"  {visible(kind)}", [one.types.get(kind, 0) for one in overviews]))
    rows.append(row("repeated sentences", [one.repeated for one in overviews]))
    for name in QUANTILES:
        rows.append(row(f"words in a sentence, {name}", [one.words[name] for one in overviews]))
    if overviews[0].subtokens is None:
        return rows
    for name in QUANTILES:
        rows.append(row(f"subtokens in a sentence, {name}", [one.subtokens[name] for one in overviews]))
    longer = f"sentences longer than {max_seq_length} subtokens"
    shares = [f"{one.too_long:,} ({one.too_long / one.counts['sentences']:.1%})" for one in overviews]
    rows.append((longer, shares))
    rows.append(row("words with an unknown subtoken", [one.unknown for one in overviews]))
    return rows


def notes_of(overviews: Sequence[Overview]) -> list[str]:
    """How each split was read, and what two splits have in common."""
    splits: dict[str, list[str]] = {}
    for one in overviews:
        for name, value in one.facts.items():
            splits.setdefault(f"{name}: {visible(value)}", []).append(one.name)
    notes = [f"{fact} ({', '.join(names)})" for fact, names in splits.items()]
    known = set(overviews[0].types)
    new = sorted({kind for one in overviews[1:] for kind in one.types} - known)
    if new:
        notes.append(f"types that {overviews[0].name} does not have: {visible(', '.join(new))}")
    common = [
        f"sentences of {one} that are also in {other} (each counted once): {count:,}"
        for (one, other), count in shared(overviews).items()
        if count
    ]
    return [*notes, *common]


def render(overviews: Sequence[Overview], max_seq_length: int) -> str:
    """The whole overview as text."""
    rows = [("", [one.name for one in overviews]), *rows_of(overviews, max_seq_length)]
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}" + "".join(f"{value:>12}" for value in values) for name, values in rows]
    lines += ["", *notes_of(overviews)]
    for one in overviews:
        lines += ["", f"Examples of {one.name}"]
        for words, tags in one.examples:
            shown = [
                visible(text) if kind is None else f"[{visible(text)}]({visible(kind)})"
                for text, kind in pieces(words, tags)
            ]
            lines.append("  " + " ".join(shown))
    return "\n".join(lines)


def render_page(title: str, overviews: Sequence[Overview], max_seq_length: int) -> str:
    """The whole overview as one page without scripts."""
    kinds = sorted({kind for one in overviews for kind in one.types})
    return render_template(
        TEMPLATE,
        title=title,
        overviews=overviews,
        rows=rows_of(overviews, max_seq_length),
        notes=notes_of(overviews),
        examples={one.name: [pieces(*example) for example in one.examples] for one in overviews},
        colours={kind: number % COLOURS for number, kind in enumerate(kinds)},
    )


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    return run_command(PROGRAM, argv, parse, work, "nothing was written")


if __name__ == "__main__":
    sys.exit(main())
