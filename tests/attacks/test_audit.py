"""The pinned versions against the published advisories of pip-audit.

    pip install pip-audit      # into an environment of its own, on the PATH: it brings 13 packages
    python -m pytest -m slow tests/attacks/test_audit.py

Needs the network: the advisories are those of pypi.org.
"""

import json
import shutil
import subprocess

import pytest
from conftest import REPO


@pytest.mark.slow
def test_no_pinned_version_has_a_known_vulnerability():
    if (program := shutil.which("pip-audit")) is None:
        pytest.skip("pip-audit is not installed")
    words = [program, "--requirement", "constraints.txt", "--no-deps", "--disable-pip", "--format", "json"]
    result = subprocess.run(words, cwd=REPO, capture_output=True, text=True, timeout=600)
    if not result.stdout.strip():
        pytest.skip(f"pip-audit gave no answer: {result.stderr.strip().splitlines()[-1:]}")
    found = json.loads(result.stdout)["dependencies"]
    assert len(found) > 50 and [one for one in found if one.get("vulns")] == []
