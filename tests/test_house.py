"""House rules that a machine can hold: imports go one way, README's map is the tree, figures are recorded.

python -m pytest tests/test_house.py
"""

import ast
import importlib.util
import json
import re
import subprocess
import sys

import pytest
from conftest import REPO

from arguments import config_to_argv, parse_arguments

MAY_IMPORT = {
    "jnlpba_dataset": set(),
    "metrics": set(),
    "arguments": set(),
    "report": {"metrics"},
    "model_card": {"metrics", "report"},
    "run_ner": {"arguments", "jnlpba_dataset", "metrics", "model_card", "report"},
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
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=REPO,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert named == {path.split("/")[0] for path in tracked} - {".gitignore"}


@pytest.mark.parametrize("path", sorted((REPO / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_each_configuration_parses_and_its_head_gives_its_command(path, tmp_path):
    parse_arguments([str(path), "--output_dir", str(tmp_path / "out")])
    head = path.read_text().split("\nmodel_name_or_path")[0]
    assert f"accelerate launch run_ner.py configs/{path.name}" in head


def test_readme_table_is_made_from_the_recorded_runs():
    spec = importlib.util.spec_from_file_location("results", REPO / "benchmarks" / "results.py")
    results = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(results)
    rows = [json.loads(line) for line in results.RESULTS.read_text().splitlines()]
    assert results.in_readme(README, results.table(rows)) == README
    for row in rows:
        assert {"commit", "command", "seed", "versions", "device", "seconds", "scores"} <= set(row)


def test_readme_commands_do_what_they_say(tmp_path):
    """README's quickstart as written, less the installation, and into a temporary folder."""
    command = re.search(r"<!-- quickstart command -->\n```bash\n(.*?)```", README, re.DOTALL)[1]
    steps = [step.strip() for step in command.replace("\\\n", " ").split("&&")]
    launch = next(step for step in steps if "accelerate launch" in step)
    ask = next(step for step in steps if "pipeline" in step)
    output = tmp_path / "quickstart"
    launch = launch.replace(".venv/bin/accelerate", f"{sys.executable} -m accelerate.commands.accelerate_cli")
    done = subprocess.run(
        f"{launch} --output_dir {output}", shell=True, cwd=REPO, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Scores (span level" in done.stdout
    ask = ask.replace(".venv/bin/python", sys.executable).replace("outputs/quickstart", str(output))
    answer = subprocess.run(ask, shell=True, cwd=REPO, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert re.search(r"protein\s.*glucocorticoid receptor", answer.stdout), answer.stdout
    results = json.loads((output / "test_results.json").read_text())
    assert results["test_f1"] > 0.6


def test_yaml_lists_and_mappings_become_flags(tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text("report_to: [none]\nlr_scheduler_kwargs: {num_cycles: 2}\ndo_eval: false\n")
    words = config_to_argv(str(config), {"report_to", "lr_scheduler_kwargs", "do_eval"})
    assert words == ["--report_to", "none", '--lr_scheduler_kwargs={"num_cycles": 2}', "--do_eval=false"]
