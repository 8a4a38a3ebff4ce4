"""A disk that fills up while a run writes: the last whole checkpoint stays, and the message says what to do.

python -m pytest tests/attacks/test_disk_full.py

A small tmpfs where one can be mounted; otherwise the largest file that a process may write (RLIMIT_FSIZE).
"""

import contextlib
import os
import re
import resource
import shutil
import subprocess
import sys

import pytest
from conftest import REPO, run_program
from safetensors.torch import load_file

import run_ner
from ner_recipe.checkpoints import checkpoints, damage, last_checkpoint


@contextlib.contextmanager
def small_disk(folder, kilobytes: int):
    """Within the block `folder` has so much space; skips where nothing can be mounted."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here (needs root)")
    try:
        yield
    finally:
        # The writer that failed may still be open.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


# The tiny encoder's checkpoint takes 2.3 MB: its weights, the first moment, and the second checkpoint fail.
@pytest.mark.parametrize(("kilobytes", "kept"), [(300, False), (1000, False), (2900, True)])
def test_a_full_disk_costs_no_checkpoint(kilobytes, kept, sample_flags, tmp_path, capsys):
    disk = tmp_path / "disk"
    with small_disk(disk, kilobytes):
        folder = disk / "out"
        assert run_ner.main([*sample_flags, "--output_dir", str(folder)]) == 1
        error = capsys.readouterr().err
        left = checkpoints(str(folder))
        assert (
            len(left) == kept and not any(map(damage, left)) and not (folder / "model.safetensors").exists()
        )
        found = re.search(
            r"run_ner.py: error: --output_dir: (\S+) can't be written .* about ([\d,]+) bytes", error
        )
        assert found and not (tmp_path / found[1]).exists() and int(found[2].replace(",", "")) > 2_000_000
        assert ("--resume_from_checkpoint goes on from" in error) == kept
        if not kept:
            return
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert run_ner.main([*sample_flags, "--output_dir", str(folder), "--resume_from_checkpoint"]) == 0
        assert load_file(folder / "model.safetensors")


def test_a_full_disk_of_the_cache_is_said_with_its_place(sample_flags, tmp_path, capsys):
    with small_disk(tmp_path / "disk", 8):
        cache = tmp_path / "disk" / "cache"
        assert (
            run_ner.main([*sample_flags, "--cache_dir", str(cache), "--output_dir", str(tmp_path / "out")])
            == 1
        )
    error = capsys.readouterr().err
    assert f"{cache} can't be written (No space left on device); make room on that disk" in error
    assert not (tmp_path / "out").exists()


def test_a_limit_of_file_sizes_is_answered_the_same(sample_flags, tmp_path, capsys):
    folder, limits = tmp_path / "out", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, limits[1]))  # the weights fit, the optimizer does not
    try:
        code = run_ner.main([*sample_flags, "--output_dir", str(folder)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    error = capsys.readouterr().err
    assert code == 1 and f"--output_dir: {folder}/checkpoint-" in error and "make room there" in error
    assert not checkpoints(str(folder))


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [1000, 1800, 2330])
def test_a_full_disk_is_said_by_two_processes_too(kilobytes, sample_flags, tmp_path):
    """The second process writes a random state of its own into the checkpoint."""
    disk, launcher = tmp_path / "disk", (sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2")
    with small_disk(disk, kilobytes):
        result = run_program(*sample_flags, "--output_dir", disk / "out", launcher=launcher)
        assert result.returncode == 1 and "run_ner.py: error: --output_dir: " in result.stderr
        assert "]: Traceback" not in result.stderr, result.stderr
        assert not any(map(damage, checkpoints(str(disk / "out"))))


ONLY_THE_SECOND = """
import os, resource, sys
import run_ner

if os.environ["RANK"] == "1":
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))  # its random state takes 14 KB
sys.exit(run_ner.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_process_that_alone_can_not_write_says_so(sample_flags, tmp_path):
    (tmp_path / "second.py").write_text(ONLY_THE_SECOND)
    launcher, folder = (sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"), tmp_path / "out"
    words = [*launcher, str(tmp_path / "second.py"), *sample_flags, "--output_dir", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    result = subprocess.run(words, cwd=REPO, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 1 and "[rank 1] run_ner.py: error: --output_dir: " in result.stderr
    assert "]: Traceback" not in result.stderr, result.stderr
    assert last_checkpoint(str(folder)) is None, "the next run does not take it for a whole one"
