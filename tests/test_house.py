"""House rules that a machine can hold: imports go one way, README's map is the tree, figures are recorded.

python -m pytest tests/test_house.py
"""

import ast
import fnmatch
import importlib.util
import json
import re
import subprocess

import pytest
from conftest import REPO, readme_block, with_this_python

import hyperparameter_search
from arguments import config_to_argv, parse_arguments

MAY_IMPORT = {
    "jnlpba_dataset": set(),
    "metrics": set(),
    "arguments": set(),
    "encoder": {"arguments"},
    "intervals": {"metrics"},
    "errors": {"metrics"},
    "figures": {"errors", "metrics"},
    "report": {"errors", "metrics"},
    "page": {"errors", "figures", "intervals", "jnlpba_dataset", "metrics", "report"},
    "search_space": {"arguments"},
    "served": {"metrics", "report"},
    "publish": {"model_card", "report"},
    "model_card": {"jnlpba_dataset", "report"},
    "push_dataset": {"jnlpba_dataset", "model_card", "publish"},
    "record": {"arguments", "encoder", "jnlpba_dataset", "report", "served"},
    "lr_rules": set(),
    "lr_range_test": {"arguments", "encoder", "lr_rules", "record", "report", "run_ner"},
    "hyperparameter_search": {
        *("arguments", "encoder", "jnlpba_dataset", "record", "report", "run_ner", "search_space"),
    },
    "run_ner": {
        *("arguments", "encoder", "jnlpba_dataset", "metrics", "model_card", "publish", "record", "report"),
        *("intervals", "page", "served"),
    },
}
README = (REPO / "README.md").read_text()


def imported(module: str) -> set[str]:
    """Our own modules that a module imports."""
    folder = REPO / module
    files = list(folder.glob("*.py")) if folder.is_dir() else [REPO / f"{module}.py"]
    names = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module.split(".")[0])
    return (names & set(MAY_IMPORT)) - {module}


def test_imports_go_one_way():
    assert {path.stem for path in REPO.glob("*.py")} == set(MAY_IMPORT) - {"jnlpba_dataset"}
    for module, allowed in MAY_IMPORT.items():
        assert imported(module) <= allowed, f"{module} imports {imported(module) - allowed}"


def test_readme_map_is_the_tree():
    block = re.search(r"<!-- map -->\n```text\n(.*?)```", README, re.DOTALL)[1]
    named = {line.split()[0].rstrip("/") for line in block.splitlines() if line and not line.startswith(" ")}
    # Not by git, which a copy of the tree may lack.
    ignored = [".git", ".gitignore", *(REPO / ".gitignore").read_text().split()]
    there = {path.name for path in REPO.iterdir()}
    assert named == {
        name for name in there if not any(fnmatch.fnmatch(name, pattern.rstrip("/")) for pattern in ignored)
    }


@pytest.mark.parametrize("path", sorted((REPO / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_each_configuration_parses_and_its_head_gives_its_command(path, tmp_path):
    is_search = path.stem.endswith("_search")
    parse = hyperparameter_search.parse if is_search else parse_arguments
    parse([str(path), "--output_dir", str(tmp_path / "out")])
    head = path.read_text().split("\nmodel_name_or_path")[0]
    program = "hyperparameter_search.py" if is_search else "run_ner.py"
    assert f"accelerate launch {program} configs/{path.name}" in head


def test_readme_tables_are_made_from_the_recorded_runs():
    spec = importlib.util.spec_from_file_location("results", REPO / "benchmarks" / "results.py")
    results = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(results)
    rows = [json.loads(line) for line in results.RESULTS.read_text().splitlines()]
    assert results.in_readme(README, results.tables(rows)) == README
    for row in rows:
        assert {"commit", "command", "seed", "versions", "device", "seconds", "scores"} <= set(row)


def test_readme_commands_do_what_they_say(quickstart):
    """README's quickstart as written, less the installation, and into a temporary folder."""
    assert "Scores (span level" in (quickstart / "stdout").read_text()
    ask = readme_block("quickstart command").split("&&")[-1].strip()
    answer = subprocess.run(with_this_python(ask), shell=True, cwd=quickstart, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert re.search(r"protein\s.*glucocorticoid receptor", answer.stdout), answer.stdout
    results = json.loads((quickstart / "outputs/quickstart/test_results.json").read_text())
    assert results["test_f1"] > 0.6


def test_yaml_lists_and_mappings_become_flags(tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text("report_to: [none]\nlr_scheduler_kwargs: {num_cycles: 2}\ndo_eval: false\n")
    words = config_to_argv(str(config), {"report_to", "lr_scheduler_kwargs", "do_eval"})
    assert words == ["--report_to", "none", '--lr_scheduler_kwargs={"num_cycles": 2}', "--do_eval=false"]
