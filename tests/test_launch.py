"""How a command ends, on one process and on several, and how many cores it takes.

python -m pytest tests/test_launch.py
"""

import os
import socket
import subprocess
import sys

import pytest
import torch
from conftest import REPO, run_program

import run_ner
from ner_recipe import launch
from ner_recipe.launch import UsageError, run_command


def failing(error: BaseException):
    def work(*given):
        raise error

    return work


def end(parse=lambda argv: (), work=lambda: None) -> int:
    return run_command("program.py", [], parse, work, "nothing was lost")


def test_foreseen_errors_are_one_line_with_their_exit_code(capsys):
    class Refused(UsageError):
        exit_code = 1

    assert end(work=failing(UsageError("--flag: found 1; expected 2"))) == 2
    assert capsys.readouterr().err == "program.py: error: --flag: found 1; expected 2\n"
    assert end(work=failing(Refused("no"))) == 1
    assert end(work=failing(KeyboardInterrupt())) == 130
    assert "interrupted; nothing was lost" in capsys.readouterr().err
    assert end() == 0


def test_a_message_can_not_command_the_terminal(capsys):
    """It may quote labels, words or names of files, which others chose."""
    assert end(work=failing(UsageError("the label \x1b[2Jgene\r\n  expected é"))) == 2
    assert capsys.readouterr().err == "program.py: error: the label \\x1b[2Jgene\\r\n  expected é\n"


def test_a_word_that_no_report_could_hold_is_refused_before_it_is_parsed(capsys):
    assert (
        run_command("program.py", ["--run_name", "caf\udce9"], failing(ZeroDivisionError()), print, "") == 2
    )
    assert "error: found 'caf\\udce9', which is not UTF-8; " in capsys.readouterr().err


def test_an_unforeseen_error_passes_through_so_that_python_shows_its_traceback():
    with pytest.raises(ZeroDivisionError):
        end(work=lambda: 1 / 0)
    mismatch = RuntimeError("[enforce fail at gloo/transport/tcp/pair.cc:456] op.preamble.length. 4000 vs 4")
    with pytest.raises(RuntimeError, match="4000 vs 4"):
        end(work=failing(mismatch))


def test_too_little_memory_is_one_sentence(capsys):
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator") as found:
        torch.empty(2**60)
    assert end(work=failing(found.value)) == 1
    error = capsys.readouterr().err
    assert error.startswith("program.py: error: the memory does not suffice ([enforce fail")
    assert "lower the size of a batch" in error and "Traceback" not in error


def test_more_processes_than_gpus_are_refused(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    words = ["--model_name_or_path", "x", "--do_train", "--output_dir", str(tmp_path / "out")]
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert run_ner.main(words) == 2
    assert "found 4 processes and 2 GPUs on this machine; expected" in capsys.readouterr().err


def test_every_rank_says_why_it_died_but_only_one_reports_a_bad_command_line(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert end(parse=failing(UsageError("a bad flag"))) == 2
    assert capsys.readouterr().err == ""
    assert end(work=failing(UsageError("my disk is full"))) == 2
    assert capsys.readouterr().err == "[rank 3] program.py: error: my disk is full\n"


def test_processes_that_are_not_started_are_one_sentence(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for seconds, says in (
        ("0", "--ddp_timeout: found 0; expected at least 1"),
        ("1", "the processes of this run can't be connected (Timed out after"),
    ):
        flags = ("--use_cpu", "--do_train", "--output_dir", tmp_path / "out", "--ddp_timeout", seconds)
        result = run_program(*flags, env={**os.environ, **place})
        assert result.returncode == 2 and f"run_ner.py: error: {says}" in result.stderr, result.stderr
        assert "Traceback" not in result.stderr


ONE_RANK_FAILS = """
import os, sys
from ner_recipe.launch import UsageError, run_command

def work():
    if os.environ["RANK"] == "1":
        raise UsageError("the second process has no corpus")

sys.exit(run_command("program.py", [], lambda argv: (), work, ""))
"""


def test_the_error_of_another_process_is_seen(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(ONE_RANK_FAILS)
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", str(script)]
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    result = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode != 0
    assert "[rank 1] program.py: error: the second process has no corpus" in result.stderr


@pytest.mark.parametrize(
    ("physical", "affinity", "quota", "processes", "threads"),
    [
        (64, 64, None, 1, 64),
        (64, 4, None, 1, 4),
        (64, 64, "200000 100000", 1, 2),
        (64, 64, "max 100000", 1, 64),
        (64, 64, "50000 100000", 1, 1),
        (8, 16, None, 2, 4),
    ],
)
def test_a_process_takes_its_share_of_the_cores_that_it_may_use(
    physical, affinity, quota, processes, threads, monkeypatch, tmp_path
):
    (tmp_path / "cpu.max").write_text(quota or "max 100000")
    monkeypatch.setattr(launch, "CGROUP_QUOTAS", ((str(tmp_path / "cpu.max"), None),))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"num_physical_cores": physical})
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(affinity)))
    taken = []
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    launch.use_cores(torch.device("cpu"))
    assert taken == [threads]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # the user's own choice
    launch.use_cores(torch.device("cpu"))
    assert taken == [threads]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the default of a launcher
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    launch.use_cores(torch.device("cpu"))
    assert taken == [threads] * 2


def test_an_older_control_group_limits_too(monkeypatch, tmp_path):
    for name, value in (("quota", "300000"), ("period", "100000")):
        (tmp_path / name).write_text(f"{value}\n")
    places = ((str(tmp_path / "none"), None), (str(tmp_path / "quota"), str(tmp_path / "period")))
    monkeypatch.setattr(launch, "CGROUP_QUOTAS", places)
    assert launch.cgroup_quota() == 3
    (tmp_path / "quota").write_text("-1\n")
    assert launch.cgroup_quota() is None
