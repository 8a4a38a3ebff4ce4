"""The run record: whose commit it names, what it says about the protocol, and that it hides the token.

python -m pytest tests/test_record.py
"""

import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import REPO

from ner_recipe.arguments import DataArguments
from ner_recipe.reports.record import current_commit, unusual_protocol, without_token


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", "-C", str(folder), *identity, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def copy_of_the_recipe(folder: Path) -> Path:
    for name in ("ner_recipe", "jnlpba_dataset"):
        shutil.copytree(REPO / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPO / "metrics.py", folder)
    return folder


def test_the_commit_is_the_recipes_own_or_none(tmp_path):
    recipe = copy_of_the_recipe(tmp_path / "recipe")
    assert current_commit(recipe) is None, "no repository at all"
    git(recipe, "init", "-q")
    (recipe / ".gitignore").write_text("__pycache__\n")
    assert current_commit(recipe) is None, "a repository that does not hold the recipe"
    git(recipe, "add", ".")
    git(recipe, "commit", "-q", "-m", "recipe")
    head = git(recipe, "rev-parse", "HEAD")
    assert current_commit(recipe) == head
    (recipe / "metrics.py").write_text("")
    assert current_commit(recipe) == f"{head} with uncommitted changes"

    # Installed or copied into another project: that project's commit says nothing about the recipe.
    project = tmp_path / "project"
    project.mkdir()
    git(project, "init", "-q")
    inside = copy_of_the_recipe(project / "vendored")
    git(project, "add", ".")
    git(project, "commit", "-q", "-m", "their own work")
    assert current_commit(inside) is None


@pytest.mark.parametrize(
    ("train", "validation", "do_train", "warning"),
    [
        ("train", "validation", True, None),
        ("train", "test", True, "optimistic"),
        ("train+test", "validation", True, "optimistic"),
        ("train+validation", "validation", True, "training data"),
        ("train", "test", False, None),
    ],
)
def test_a_protocol_is_unusual_only_if_something_was_trained_or_selected(
    train, validation, do_train, warning
):
    arguments = DataArguments(train_split_name=train, eval_split_name=validation)
    found = unusual_protocol(arguments, do_train)
    assert found is None if warning is None else warning in found


def test_a_token_is_struck_out_of_the_command():
    words = ["--hub_token", "hf_a", "--hub-token=hf_b", "--seed", "1"]
    assert without_token(words) == ["--hub_token", "***", "--hub_token=***", "--seed", "1"]
