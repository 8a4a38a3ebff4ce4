"""Several processes, two machines, and a process that dies or hangs.

    python -m pytest -m slow tests/attacks/test_processes.py

Processes on CPUs (gloo). The machines are two network namespaces with a common folder;
making those needs root.
"""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
from conftest import REPO, run_program
from killed import KillableRuns

from jnlpba_dataset import load_jnlpba
from ner_recipe.reports.predictions import read_predictions

# Nothing random within a step, and the same 8 rows of a step whatever the number of processes.
EXACT = ["--hidden_dropout_prob", "0", "--attention_probs_dropout_prob", "0", "--bf16", "false"]
TOLERANCE = 0.005  # of F1 and loss: sums over processes are rounded in another order
LAUNCHERS = {
    "accelerate": ["accelerate.commands.launch", "--multi_gpu", "--num_machines=2", "--num_processes=2"],
    "torchrun": ["torch.distributed.run", "--nnodes=2", "--nproc_per_node=1"],
}
MACHINE = {
    "accelerate": ["--machine_rank={}", "--main_process_ip=10.87.65.1", "--main_process_port=29533"],
    "torchrun": ["--node_rank={}", "--master_addr=10.87.65.1", "--master_port=29533"],
}


def scores(folder) -> dict[str, float]:
    found = json.loads((folder / "all_results.json").read_text())
    return {name: found[name] for name in ("eval_f1", "eval_loss", "test_f1", "test_loss", "eval_word_f1")}


@pytest.mark.slow
def test_any_number_of_processes_scores_each_word_once(sample_flags, tmp_path, cache_dir):
    runs, found, files = KillableRuns(tmp_path), {}, {}
    place = sample_flags.index("--per_device_train_batch_size") + 1
    for count in (1, 2, 4):
        folder = tmp_path / "runs" / str(count)
        flags = [*sample_flags[:place], "2", *sample_flags[place + 1 :], *EXACT]
        flags += ["--gradient_accumulation_steps", str(4 // count)]
        assert runs.run(flags, folder, processes=count) == 0, runs.said()
        assert json.loads((folder / "run.json").read_text())["processes"] == count
        corpus = load_jnlpba(name="sample", cache_dir=cache_dir)
        for split in ("validation", "test"):
            words = read_predictions(folder / f"predictions_{split}.tsv").words
            assert list(map(list, words)) == list(corpus[split]["tokens"])
        found[count] = scores(folder)
        files[count] = {path.name for path in folder.iterdir()}
    assert files[1] == files[2] == files[4]
    assert found[2] == pytest.approx(found[1], abs=TOLERANCE)
    assert found[4] == pytest.approx(found[1], abs=TOLERANCE)


@contextlib.contextmanager
def two_machines():
    """Two network namespaces with a cable between them; skips where none can be made."""
    names = [f"ner{os.getpid()}{end}" for end in "ab"]
    cable = ["link", "add", names[0], "netns", names[0], "type", "veth", "peer", "name", names[1]]
    commands = [["netns", "add", name] for name in names] + [[*cable, "netns", names[1]]]
    for number, name in enumerate(names, start=1):
        commands += [["-n", name, "addr", "add", f"10.87.65.{number}/24", "dev", name]]
        commands += [["-n", name, "link", "set", device, "up"] for device in ("lo", name)]
    try:
        for words in commands:
            if shutil.which("ip") is None or subprocess.run(["ip", *words], capture_output=True).returncode:
                pytest.skip("no network namespaces can be made here (needs root and the command ip)")
        yield names
    finally:
        if shutil.which("ip"):
            for name in names:
                subprocess.run(["ip", "netns", "del", name], capture_output=True)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_machines_train_the_model_of_two_processes(launcher, sample_flags, tmp_path):
    alone, folder = tmp_path / "alone", tmp_path / "machines"
    threads = {**os.environ, "OMP_NUM_THREADS": "2"}  # otherwise each process of a machine takes its share
    words = (sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2")
    result = run_program(*sample_flags, "--output_dir", alone, launcher=words, env=threads)
    assert result.returncode == 0, result.stderr
    with two_machines() as names, contextlib.ExitStack() as stack:
        started = []
        for rank, name in enumerate(names):
            words = ["ip", "netns", "exec", name, sys.executable, "-m", *LAUNCHERS[launcher]]
            words += [word.format(rank) for word in MACHINE[launcher]]
            words += ["run_ner.py", *sample_flags, "--output_dir", str(folder)]
            log = stack.enter_context((tmp_path / f"{rank}.log").open("w"))
            environment = {**threads, "GLOO_SOCKET_IFNAME": name}
            started.append(subprocess.Popen(words, cwd=REPO, env=environment, stdout=log, stderr=log))
        codes = [process.wait(timeout=300) for process in started]
    assert codes == [0, 0], "\n".join((tmp_path / f"{rank}.log").read_text()[-3000:] for rank in (0, 1))
    assert json.loads((folder / "run.json").read_text())["processes"] == 2
    assert {path.name for path in folder.iterdir()} == {path.name for path in alone.iterdir()}
    assert "Scores (span level" not in (tmp_path / "1.log").read_text()
    for name in ("model.safetensors", "predictions_test.tsv", "predictions_validation.tsv"):
        one, two = (hashlib.sha256((place / name).read_bytes()).digest() for place in (alone, folder))
        assert one == two, name


@contextlib.contextmanager
def long_training(sample_flags, tmp_path, *more):
    """torchrun with two processes in a training of minutes, its first checkpoint written; and the two."""
    folder, processes = tmp_path / "out", {}
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "run_ner.py", *sample_flags]
    words += ["--num_train_epochs", "400", "--output_dir", str(folder), *more]
    with (tmp_path / "log").open("w") as log:
        launcher = subprocess.Popen(words, cwd=REPO, stdout=log, stderr=log)
        try:
            while not list(folder.glob("checkpoint-*/trainer_state.json")):
                assert launcher.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.1)
            for child in psutil.Process(launcher.pid).children():
                processes[child.environ()["LOCAL_RANK"]] = child
            yield launcher, processes
        finally:
            launcher.kill()
            launcher.wait()
            for process in processes.values():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_killed_process_ends_the_others_within_10_seconds(rank, sample_flags, tmp_path):
    with long_training(sample_flags, tmp_path) as (launcher, processes):
        processes[rank].send_signal(signal.SIGKILL)
        assert launcher.wait(timeout=10) == 1
    said = (tmp_path / "log").read_text()
    assert f"failed (exitcode: -9) local_rank: {rank} (pid: {processes[rank].pid})" in said
    assert 'Traceback (most recent call last):\n  File "' not in said.split("torch/distributed/elastic")[0]


@pytest.mark.slow
def test_a_hanging_process_ends_the_others_in_the_time_of_ddp_timeout(sample_flags, tmp_path):
    with long_training(sample_flags, tmp_path, "--ddp_timeout", "15") as (launcher, processes):
        processes["1"].send_signal(signal.SIGSTOP)
        psutil.wait_procs([processes["0"]], timeout=25)
        assert not processes["0"].is_running()
        assert launcher.wait(timeout=45) == 1  # torchrun gives the other one 30 seconds to end
    said = (tmp_path / "log").read_text()
    assert "error: another process did not answer within --ddp_timeout seconds after step" in said
    assert "--resume_from_checkpoint" in said and "[rank0]:   File" not in said
