"""The layout: imports go one way, README's map is the tree, configurations parse, tables show recorded runs.

python -m pytest tests/test_layout.py
"""

import ast
import fnmatch
import importlib.util
import json
import re

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from conftest import REPO

import hyperparameter_search
from ner_recipe.arguments import OF_A_RUN, RecipeParser, config_to_argv
from ner_recipe.checks import parse_arguments

COMMANDS = ("run_ner", "annotate", "lr_range_test", "hyperparameter_search")
# A module of ner_recipe imports only modules that stand before it here.
ORDER = (
    *("formats.document", "formats.source", "formats.plain_text", "formats.json_rows", "formats.parquet"),
    *("formats.pubtator", "formats.brat", "formats.bioc", "formats.pubmed", "formats.conll"),
    *("formats.files", "formats.writing"),
    *("launch", "interruption", "arguments", "averaging", "checkpoints", "checks", "corpora.schemes"),
    *(
        "corpora.word_lines",
        "corpora.records",
        "corpora.expressed",
        "corpora.sources",
        "corpora.building",
        "corpora.collection",
    ),
    *("corpora.loading", "corpora.silver", "corpora.splits", "corpora.leakage", "decoding"),
    *("attention", "dropout", "vocabulary", "models", "batching", "distillation"),
    *("reports.files", "reports.template"),
    *("reports.intervals", "reports.result", "reports.predictions", "reports.history"),
    *("reports.comparison",),
    *("reports.error_analysis", "reports.text", "reports.figures", "reports.page", "reports.callback"),
    *("reports.record", "reports.card", "reports.__main__", "corpora.overview", "corpora.__main__"),
    *("annotation.windows", "annotation.onnx_model", "serving"),
    *("annotation.settings", "annotation.plan", "annotation.manifest", "annotation.engine"),
    *("annotation.export",),
    *("annotation.output", "annotation.page", "annotation.run", "annotation.progress", "annotation.step"),
    *("annotation.tasks", "publishing", "training"),
    *("tuning.lr_rules", "tuning.search_space", "tuning.range_test", "tuning.search"),
)
OURS = ("ner_recipe", "jnlpba_dataset", "metrics", *COMMANDS)
README = (REPO / "README.md").read_text()


def imported(path) -> set[str]:
    """The modules of ours that a file imports, by their full names."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    return {name for name in names if name.split(".")[0] in OURS}


def module_path(name: str):
    return REPO / "ner_recipe" / f"{name.replace('.', '/')}.py"


def test_imports_go_one_way():
    package = {path for path in (REPO / "ner_recipe").rglob("*.py") if path.name != "__init__.py"}
    assert package == {module_path(name) for name in ORDER}
    for place, name in enumerate(ORDER):
        earlier = {f"ner_recipe.{other}" for other in ORDER[:place]} | {"metrics", "jnlpba_dataset"}
        assert imported(module_path(name)) <= earlier, name
    assert imported(REPO / "metrics.py") == set()
    for path in (REPO / "jnlpba_dataset").glob("*.py"):
        assert all(name.startswith("jnlpba_dataset") for name in imported(path))
    for command in COMMANDS:
        assert all(name.startswith("ner_recipe") for name in imported(REPO / f"{command}.py"))


def test_the_root_holds_commands_and_project_files_only():
    assert {path.stem for path in REPO.glob("*.py")} == {*COMMANDS, "metrics"}
    assert len((REPO / "run_ner.py").read_text().splitlines()) <= 170


def test_readme_is_short_and_its_map_is_the_tree():
    assert len(README.encode()) <= 7 * 1024
    block = re.search(r"<!-- map -->\n```text\n(.*?)```", README, re.DOTALL)[1]
    rows = [line for line in block.splitlines() if line]
    root = {
        word.rstrip("/") for line in rows if line[0] != " " for word in re.split(r"   +", line)[0].split()
    }
    inside = {line.split()[0].rstrip("/") for line in rows if re.match(" {4}\\S", line)}
    # Not from git: a copy of the tree may lack it.
    ignored = [".git", ".gitignore", *(REPO / ".gitignore").read_text().split()]
    there = {path.name for path in REPO.iterdir()}
    assert root == {
        name for name in there if not any(fnmatch.fnmatch(name, pattern.rstrip("/")) for pattern in ignored)
    }
    modules = {name if "." not in name else name.split(".")[0] for name in ORDER}
    packages = ("annotation", "corpora", "formats", "reports", "tuning")
    assert inside == {name if name in packages else f"{name}.py" for name in modules}


def test_nothing_names_a_place_outside_the_repository():
    files = [REPO / "README.md", *(REPO / "docs").glob("*.md"), *(REPO / "configs").rglob("*.yaml")]
    files += [path for name in OURS for path in (REPO / name).rglob("*") if path.suffix in (".py", ".md")]
    files += [*REPO.glob("*.py"), *(REPO / "benchmarks").glob("*.*l"), *(REPO / "benchmarks").glob("*.md")]
    assert [path.name for path in files if "../shared" in path.read_text()] == []


@pytest.mark.parametrize("path", sorted((REPO / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_each_configuration_parses_and_its_head_gives_its_command(path, tmp_path):
    is_search = path.stem.endswith("_search")
    parse = hyperparameter_search.parse if is_search else parse_arguments
    parse([str(path), "--output_dir", str(tmp_path / "out")])
    head = path.read_text().split("\nmodel_name_or_path")[0]
    program = "hyperparameter_search.py" if is_search else "run_ner.py"
    assert f"accelerate launch {program} configs/{path.name}" in head


@pytest.mark.parametrize(
    "path", sorted((REPO / "configs/accelerate").glob("*.yaml")), ids=lambda path: path.stem
)
def test_each_launcher_configuration_is_one_that_accelerate_reads(path):
    config = load_config_from_file(str(path))
    assert config.mixed_precision is None, "the recipe chooses by hardware"
    assert config.num_processes % config.num_machines == 0
    head = path.read_text().split("\ncompute_environment")[0]
    assert f"--config_file configs/accelerate/{path.name}" in head and "Not run on" in head


@pytest.fixture
def results():
    """benchmarks/results.py as a module."""
    spec = importlib.util.spec_from_file_location("results", REPO / "benchmarks" / "results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_made_from_the_recorded_runs(results):
    rows = [json.loads(line) for line in results.RESULTS.read_text().splitlines()]
    for path, text in results.pages(rows).items():
        assert (REPO / path).read_text() == text
    for row in rows:
        assert {"commit", "command", "seed", "versions", "device", "seconds", "scores"} <= set(row)
        assert len(json.dumps(row)) < 1500


def test_a_run_is_recorded_once_and_only_with_test_scores(results, tmp_path, monkeypatch, capsys):
    run = dict.fromkeys(results.PROVENANCE, 1) | {"command": "run_ner.py", "pipeline": {}}
    run |= {"versions": dict.fromkeys(("python", "torch", "transformers"), "1")}
    run["pipeline"]["aggregation_strategy"] = "max"
    scores = {"eval_span_micro_f1": 0.5}
    folder, recorded = tmp_path / "run", tmp_path / "results.jsonl"
    folder.mkdir()
    recorded.write_text("")
    monkeypatch.setattr(results, "RESULTS", recorded)

    def add(run: object, scores: dict, *words: str) -> str:
        (folder / "run.json").write_text(json.dumps(run))
        (folder / "all_results.json").write_text(json.dumps(scores))
        results.main(["add", str(folder), *words])
        return capsys.readouterr().err

    assert f"{folder}: found no test scores" in add(run, scores)
    assert "expected output folders of finished runs" in add([], scores)
    scores |= {"test_span_micro_f1": 0.5, "test_entities": 9}
    assert f"{folder}: found a run that is recorded already" in add(run, scores, str(folder))
    assert recorded.read_text() == ""
    assert add(run, scores) == "" and "recorded already" in add(run, scores)
    assert len(recorded.read_text().splitlines()) == 1


def test_yaml_lists_and_mappings_become_flags(tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text("report_to: [none]\nlr_scheduler_kwargs: {num_cycles: 2}\ndo_eval: false\n")
    words = config_to_argv(str(config), RecipeParser(OF_A_RUN))
    assert words == ["--report_to", "none", '--lr_scheduler_kwargs={"num_cycles": 2}', "--do_eval=false"]
