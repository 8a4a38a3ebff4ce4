"""The commands of README and docs: ```bash and ```python blocks run, ```console blocks are parsed.

python -m pytest tests/test_docs.py
"""

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPO, readme_block, with_this_python

import annotate
import hyperparameter_search
import lr_range_test
import run_ner
from ner_recipe import publishing
from ner_recipe.annotation import export
from ner_recipe.annotation import settings as annotation
from ner_recipe.arguments import OF_A_RUN, parse_flags, parser_and_words
from ner_recipe.corpora import __main__ as corpora
from ner_recipe.reports import __main__ as reports
from ner_recipe.tuning.range_test import RangeTestArguments
from ner_recipe.tuning.search import SearchArguments

PAGES = [REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))]
PARSERS = {
    "annotate.py": annotation.parse,
    "run_ner.py": lambda words: parse_flags(words, OF_A_RUN, "run_ner.py"),
    "lr_range_test.py": lambda words: parse_flags(words, (*OF_A_RUN, RangeTestArguments), ""),
    "hyperparameter_search.py": lambda words: parse_flags(words, (*OF_A_RUN, SearchArguments), ""),
    "ner_recipe.publishing": publishing.parse,
    "ner_recipe.reports": reports.parse,
    "ner_recipe.annotation.export": export.parse,
    "ner_recipe.corpora": corpora.parse,
}

COMMANDS = {
    "annotate.py": annotate,
    "run_ner.py": run_ner,
    "lr_range_test.py": lr_range_test,
    "hyperparameter_search.py": hyperparameter_search,
    "ner_recipe.reports": reports,
    "ner_recipe.annotation.export": export,
    "ner_recipe.corpora": corpora,
}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


BASH = [pytest.param(block, id=page.stem) for page in PAGES[1:] for block in blocks(page, "bash")]
CONSOLE = [
    pytest.param(line, id=line[:60])
    for page in PAGES
    for b in blocks(page, "console")
    for line in b.splitlines()
]


@pytest.fixture
def checkout(quickstart, tmp_path) -> Path:
    """A folder that looks like the repository after the quickstart; what is written stays in it."""
    for path in REPO.iterdir():
        if path.name not in ("outputs", ".git", ".venv"):
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "quickstart").symlink_to(quickstart / "outputs" / "quickstart")
    return tmp_path


def run(command: str | list[str], folder: Path) -> subprocess.CompletedProcess:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    options = {"shell": isinstance(command, str), "env": {**os.environ, "PATH": path}}
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, **options)
    assert result.returncode == 0, result.stderr
    return result


def test_readmes_quickstart_does_what_it_says(quickstart):
    """As written, less the installation, and into a temporary folder."""
    assert "Scores (span level" in (quickstart / "stdout").read_text()
    ask = with_this_python(readme_block("quickstart command").split("&&")[-1].strip())
    found = run(ask, quickstart).stdout.splitlines()
    *parts, end = re.split(r"\[(.+?)\]\((.+?)\)", readme_block("# jnlpba-ner").strip())
    text = ""
    for before, name, kind in zip(*[iter(parts)] * 3, strict=True):
        start, text = len(text + before), text + before + name
        line = found.pop(0)
        assert f"'{kind}'" in line and f"'start': {start}, 'end': {len(text)}" in line, line
    assert found == [] and text + end in ask, "what README shows is all that the command prints"
    results = json.loads((quickstart / "outputs/quickstart/test_results.json").read_text())
    assert results["test_f1"] > 0.6


@pytest.mark.parametrize("command", BASH)
def test_a_command_of_the_docs_runs(command, checkout, monkeypatch, cache_dir):
    """In this process, which has imported already what each of them would import for ten seconds."""
    monkeypatch.chdir(checkout)
    words = shlex.split(command.replace("\\\n", " "))
    assert words[0] == "python"
    place = next(i for i, word in enumerate(words) if word in COMMANDS)
    cache = [] if words[place] in ("annotate.py", "ner_recipe.reports") else ["--cache_dir", str(cache_dir)]
    assert COMMANDS[words[place]].main([*words[place + 1 :], *cache]) == 0


def test_the_python_of_the_docs_runs(checkout):
    code = "\n".join(block for page in PAGES for block in blocks(page, "python"))
    answer = run([sys.executable, "-c", code], checkout).stdout
    assert "protein glucocorticoid receptor" in answer


@pytest.mark.parametrize("line", CONSOLE)
def test_a_command_that_needs_more_than_a_test_has_at_least_parses(line, monkeypatch, tmp_path):
    monkeypatch.chdir(REPO)
    words = shlex.split(line, comments=True)
    if "benchmarks/results.py" in words or words[0] == "source":
        return
    if words[1].startswith("benchmarks/"):
        monkeypatch.setattr(sys, "argv", words[1:])
        monkeypatch.syspath_prepend(REPO / "benchmarks")  # as for a script
        runpy.run_path(words[1])["parse"]()
        return
    place = next(i for i, word in enumerate(words) if word in PARSERS)
    assert words[0] in ("accelerate", "torchrun", "python")
    PARSERS[words[place]](words[place + 1 :])


def test_help_begins_with_the_configuration_file():
    parser, _ = parser_and_words([], OF_A_RUN, "run_ner.py")
    usage, description = parser.format_help().split("\n\n")[:2]
    assert usage == "usage: run_ner.py [CONFIG.yaml] [--flag value ...]" and "CONFIG.yaml" in description
