"""A built wheel, installed without -e, trains the sample and writes page and card from any folder.

python -m pytest tests/test_wheel.py
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from conftest import REPO


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy of the tree by the installed setuptools, without network."""
    source, folder = tmp_path_factory.mktemp("source") / "recipe", tmp_path_factory.mktemp("wheel")
    shutil.copytree(REPO, source, ignore=shutil.ignore_patterns(".*", "outputs", "build", "*.egg-info"))
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps"]
    subprocess.run([*command, "-w", str(folder), str(source)], check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_nothing_generic_is_installed(wheel):
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    modules = {"annotate.py", "run_ner.py", "lr_range_test.py", "hyperparameter_search.py", "metrics.py"}
    assert {name for name in names if not name.endswith(".dist-info")} == {
        *modules,
        *("jnlpba_dataset", "ner_recipe"),
    }


def test_an_installed_wheel_trains_and_reports_from_another_folder(wheel, sample_flags, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    site = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    zipfile.ZipFile(wheel).extractall(site)
    # The dependencies are those of the tests; a .pth file inside that folder, as of an editable install, has
    # no effect.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    place = tmp_path / "elsewhere"
    place.mkdir()
    words = [*sample_flags, "--num_train_epochs", "1", "--do_report_page", "true", "--output_dir", "model"]

    command = [tmp_path / "venv/bin/python", "-m", "run_ner", *words]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "How to use" in (place / "model/README.md").read_text()
    assert 'id="headline"' in (place / "model/report.html").read_text()
    assert '"commit": null' in (place / "model/run.json").read_text()
