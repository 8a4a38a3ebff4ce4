"""How fast the recipe trains, beside the stock example, the 2020 recipe and the machine's own limit.

    python benchmarks/speed.py --data_dir FOLDER                         # rates, in alternating rounds
    python benchmarks/speed.py --data_dir FOLDER --model scibert-shape   # BERT-base with random weights
    python benchmarks/speed.py --data_dir FOLDER --until_f1 stock --systems stock ours --seeds 1 2 3 \
        --num_train_epochs 3 --max_train_samples 0 --max_eval_samples 0  # seconds until a score is reached

Every number is of a whole process: (a) and (b) are benchmarks/baselines.py, (c) is run_ner.py with a
configuration. All train the same encoder on the same sentences, with an evaluation after each epoch. Ratios
are taken within a round, so a machine that slows down between rounds changes them little.
"""

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import scipy.stats
import torch
from processes import MINILM, ROOT, random_bert, timed
from results import spread
from transformers import AutoConfig

from jnlpba_dataset.jnlpba import read_sentences
from ner_recipe.launch import cpu_has_bf16
from ner_recipe.models import resolve_model
from ner_recipe.reports.record import current_commit

SYSTEMS = {"2020": "(a) 2020 recipe", "stock": "(b) stock example", "ours": "(c) this recipe"}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", required=True, help="train.tsv, devel.tsv and test.tsv of JNLPBA")
    parser.add_argument(
        "--model", default=MINILM, help="an encoder, or scibert-shape: BERT-base with random weights"
    )
    parser.add_argument("--config", default="configs/jnlpba_minilm.yaml", help="the settings of (c)")
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=SYSTEMS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--num_train_epochs", type=float, default=1, help="with --until_f1 of (a) and (b) only"
    )
    parser.add_argument("--max_train_samples", type=int, default=800, help="sentences; 0 for all")
    parser.add_argument("--max_eval_samples", type=int, default=400, help="sentences; 0 for all")
    parser.add_argument(
        "--until_f1",
        help="measure the seconds until validation F1 reaches this, or what (b) has at its end (stock)",
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[1], help="one run of each system per seed, for --until_f1"
    )
    parser.add_argument("--json", help="where to write all the numbers")
    flags = parser.parse_args()
    if flags.until_f1 == "stock" and "stock" not in flags.systems:
        parser.error("--until_f1 stock: needs stock among --systems")
    try:
        float(0 if flags.until_f1 in (None, "stock") else flags.until_f1)
    except ValueError:
        parser.error(f"--until_f1: found {flags.until_f1}; expected a number or stock")
    return flags


def command(system: str, flags: argparse.Namespace, model: str, place: Path, seed: int) -> list[str]:
    """The words that run one system. `place` is a new folder for what it writes."""
    limits = {"max_train_samples": flags.max_train_samples, "max_eval_samples": flags.max_eval_samples}
    shared = {
        "data_dir": flags.data_dir,
        "seed": seed,
        "output_dir": place / "out",
        "cache_dir": place.parent / "cache",
    }
    shared |= {name: limit for name, limit in limits.items() if limit}
    if system != "ours" or flags.until_f1 is None:
        shared["num_train_epochs"] = flags.num_train_epochs
    words = [f"--{name}={value}" for name, value in shared.items()]
    if system != "ours":
        return [str(ROOT / "benchmarks" / "baselines.py"), system, f"--model={model}", *words]
    alone = ["--do_predict=false", "--do_serve_check=false", "--disable_tqdm=true"]
    return [
        str(ROOT / "run_ner.py"),
        str(ROOT / flags.config),
        f"--model_name_or_path={model}",
        *words,
        *alone,
    ]


def matrix_peak(kind: torch.dtype, device: str, size: int = 2048, seconds: float = 2.0) -> float:
    """The best rate of a product of two square matrices on this machine, now, in FLOP/s."""
    left, right = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
    best, end = math.inf, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        product = left @ right
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return product.numel() * 2 * size / best


def flops_per_subtoken(config: AutoConfig, length: float) -> float:
    """Multiplications and additions of a forward and backward pass, for texts of this length in subtokens."""
    hidden, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    weights = layers * (4 * hidden * hidden + 2 * hidden * inner)
    return 6 * weights + 12 * layers * hidden * length


def rates(
    found: Mapping, sentences: int, epochs: float, flops: Callable[[float], float], peak: float
) -> dict:
    """The numbers of one run, from its clock."""
    training = sum(end - start for start, end in found["epochs"])
    evaluation = statistics.median(one["seconds"] for one in found["evaluations"])
    return {
        "sentences/s": sentences * epochs / training,
        "subtokens/s": found["real"] / training,
        "padding %": 100 * (1 - found["real"] / found["computed"]),
        "peak %": 100 * found["real"] * flops(found["real"] / (sentences * epochs)) / training / peak,
        "memory GB": (found["gpu_bytes"] or found["peak_bytes"]) / 1e9,
        "to first step s": found["first_step"],
        "training s": training,
        "evaluation s": evaluation,
        "whole s": found["end"],
    }


def compared(rounds: Sequence[Mapping], system: str, other: str, name: str) -> str:
    """The median of the ratios within rounds, and the p-value of a paired t-test on their logarithms."""
    ratios = [found[system][name] / found[other][name] for found in rounds]
    if len(ratios) < 2:
        return f"{ratios[0]:.2f}"
    p = scipy.stats.ttest_1samp(np.log(ratios), 0).pvalue
    return f"{statistics.median(ratios):.2f} (p = {p:.2g}, {min(ratios):.2f} to {max(ratios):.2f})"


def warm_up(flags: argparse.Namespace, model: str, place: Path) -> None:
    """Run each system for a moment, so that every measured run finds its corpus prepared."""
    short = argparse.Namespace(**{**vars(flags), "num_train_epochs": 0.01, "until_f1": None})
    for system in flags.systems:
        timed(command(system, short, model, new_folder(place), 1))


def measure(flags: argparse.Namespace, model: str, place: Path) -> dict:
    """All rounds; the order of the systems turns in every second one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = AutoConfig.from_pretrained(resolve_model(model))
    fast = torch.bfloat16 if device == "cuda" or cpu_has_bf16() else torch.float32
    there = sum(1 for _ in read_sentences(Path(flags.data_dir) / "train.tsv"))
    sentences = min(flags.max_train_samples or there, there)
    rounds, peaks = [], []
    for number in range(flags.rounds):
        peaks.append(matrix_peak(fast, device))
        found = {}
        for system in flags.systems[:: -1 if number % 2 else 1]:
            times = timed(command(system, flags, model, new_folder(place), 1))
            found[system] = rates(
                times,
                sentences,
                flags.num_train_epochs,
                lambda length: flops_per_subtoken(config, length),
                peaks[-1],
            )
            print(f"round {number + 1}, {SYSTEMS[system]}: {found[system]['whole s']:.1f} s", flush=True)
        rounds.append(found)
    return {
        "peak": {"type": str(fast), "GFLOP/s": [round(peak / 1e9, 1) for peak in peaks]},
        "rounds": rounds,
    }


def new_folder(place: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=place))


def show_rates(found: Mapping, systems: Sequence[str]) -> None:
    """One table of medians, and the ratios of (c) to the others."""
    rounds = found["rounds"]
    names = list(rounds[0][systems[0]])
    print(f"\n| | {' | '.join(names)} |\n|---|{'---:|' * len(names)}")
    for system in systems:
        medians = [statistics.median(one[system][name] for one in rounds) for name in names]
        print(f"| {SYSTEMS[system]} | {' | '.join(f'{median:,.4g}' for median in medians)} |")
    peak = found["peak"]
    print(f"\n(d) matrix product, {peak['type']}: {peak['GFLOP/s']} GFLOP/s in the rounds")
    for other in (name for name in systems if name != "ours" and "ours" in systems):
        faster, sooner = (
            compared(rounds, "ours", other, "subtokens/s"),
            compared(rounds, other, "ours", "evaluation s"),
        )
        print(f"(c) against {SYSTEMS[other]}: x {faster} in training, x {sooner} in evaluation")


def seconds_to_quality(flags: argparse.Namespace, model: str, place: Path) -> dict:
    """For each seed and system, the validation F1 of each epoch and the seconds until it was known."""
    runs: list[dict] = []
    for number, seed in enumerate(flags.seeds):
        for system in flags.systems[:: -1 if number % 2 else 1]:
            found = timed(command(system, flags, model, new_folder(place), seed))
            epochs = [
                {name: one[name] and round(one[name], 4) for name in ("at", "f1", "joint_f1")}
                for one in found["evaluations"]
            ]
            runs.append({"system": system, "seed": seed, "epochs": epochs})
            print(f"{SYSTEMS[system]}, seed {seed}: {epochs}", flush=True)
    for run in runs:
        run["goal"] = goal_of(run["seed"], runs, flags.until_f1)
        reached = (one["at"] for one in run["epochs"] if one["f1"] >= run["goal"])
        run["seconds"] = next(reached, None)
    return {"until_f1": flags.until_f1, "runs": runs}


def goal_of(seed: int, runs: Sequence[Mapping], until: str) -> float:
    """The F1 to reach: a number, or what the stock example has after its last epoch with the same seed."""
    if until != "stock":
        return float(until)
    return next(run["epochs"][-1]["f1"] for run in runs if (run["system"], run["seed"]) == ("stock", seed))


def show_quality(found: Mapping, systems: Sequence[str]) -> None:
    """Seconds and scores by system over the seeds, and the ratios of the seconds by seed."""
    print("\n| | seconds to the goal | best F1 | joint F1 of that epoch |\n|---|---:|---:|---:|")
    for system in systems:
        runs = [run for run in found["runs"] if run["system"] == system]
        seconds = ", ".join("never" if run["seconds"] is None else f"{run['seconds']:.0f}" for run in runs)
        best = [max(run["epochs"], key=lambda one: one["f1"]) for run in runs]
        scores = [spread(one[name] for one in best) for name in ("f1", "joint_f1")]
        print(f"| {SYSTEMS[system]} | {seconds} | {' | '.join(scores)} |")
    by_seed = {(run["system"], run["seed"]): run["seconds"] for run in found["runs"]}
    for other in (name for name in systems if name != "ours" and "ours" in systems):
        pairs = [(by_seed["ours", seed], by_seed[other, seed]) for name, seed in by_seed if name == "ours"]
        ratios = [f"{theirs / ours:.2f}" for ours, theirs in pairs if ours and theirs]
        print(f"(c) is faster than {SYSTEMS[other]} by {', '.join(ratios) or 'nothing'} (by seed)")


def main() -> None:
    flags = parse()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        model = random_bert(place) if flags.model == "scibert-shape" else flags.model
        warm_up(flags, model, place)
        if flags.until_f1 is None:
            found = measure(flags, model, place)
            show_rates(found, flags.systems)
        else:
            found = seconds_to_quality(flags, model, place)
            show_quality(found, flags.systems)
    device = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else torch.cpu.get_capabilities()["cpu_name"]
    )
    about = {
        "commit": current_commit(),
        "device": device,
        "threads": torch.get_num_threads(),
        "flags": vars(flags),
    }
    print(f"\ncommit {about['commit']}, {device}, {about['threads']} threads")
    if flags.json:
        Path(flags.json).write_text(json.dumps({**about, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
