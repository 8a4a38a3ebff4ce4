"""Run an attack through the command's main() in a folder of its own, and say what is wrong with the answer.

python tests/attacks/harness.py [PART OF A NAME]     # all attacks, or those with this in their names
"""

import contextlib
import dataclasses
import importlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[:0] = [str(REPO), str(REPO / "tests")]

from table import ATTACKS, Attack  # noqa: E402

PROGRAMS = {  # module, and the name that it gives itself
    "run_ner": ("run_ner", "run_ner.py"),
    "lr_range_test": ("lr_range_test", "lr_range_test.py"),
    "hyperparameter_search": ("hyperparameter_search", "hyperparameter_search.py"),
    "annotate": ("annotate", "annotate.py"),
    "corpora": ("ner_recipe.corpora.__main__", "python -m ner_recipe.corpora"),
    "reports": ("ner_recipe.reports.__main__", "python -m ner_recipe.reports"),
    "publishing": ("ner_recipe.publishing", "python -m ner_recipe.publishing"),
}
# A message says what is expected or what to do.
REMEDY = re.compile(
    r"expected|must be|required|requires?|needs?|\b(use|give|choose|leave|remove|raise|install|name|set|"
    r"write|correct|continue|resume|start|delete|restore|see|did you mean)\b",
    re.IGNORECASE,
)
RAW = re.compile(r"Traceback|object at 0x|\w+Error\(|NoneType|\bException\b")
LONGEST = 700  # characters of one problem


@dataclasses.dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str
    changed: tuple[str, ...]  # files that appeared, disappeared or changed
    seconds: float


def filled(text: str, here: Path, places: Mapping[str, Path]) -> str:
    """`@here`, `@bert`, ... as paths."""
    for name, place in {"here": here, **places}.items():
        text = text.replace(f"@{name}", str(place))
    return text


def state_of(folder: Path) -> dict[str, object]:
    """What lies in a folder: the content of files, and where links lead."""
    found = {}
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(root, name)
            if path.is_symlink():
                found[str(path)] = f"link to {path.readlink()}"
            else:
                found[str(path)] = path.read_bytes() if path.is_file() else "folder or pipe"
    return found


def prepare(attack: Attack, here: Path, places: Mapping[str, Path]) -> list[str]:
    """Write the attack's files; its command line."""
    for name, content in attack.files.items():
        path = here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    if attack.make:
        attack.make(here, places)
    return [filled(word, here, places) for word in shlex.split(attack.words)]


def run(attack: Attack, here: Path, places: Mapping[str, Path]) -> Answer:
    """Run the attack in this process."""
    words = prepare(attack, here, places)
    before, start = state_of(here), time.perf_counter()
    out, err = io.StringIO(), io.StringIO()
    main = importlib.import_module(PROGRAMS[attack.program][0]).main
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.chdir(here):
        try:
            code = main(words)
        except SystemExit as error:  # argparse's own
            code = error.code
        except Exception:  # what a user would see as a traceback
            code, _ = 70, traceback.print_exc()
    if (here / "mount").is_mount():
        subprocess.run(["umount", str(here / "mount")], check=True)
    return Answer(code, out.getvalue(), err.getvalue(), changes(before, here), time.perf_counter() - start)


def run_alone(attack: Attack, here: Path, places: Mapping[str, Path]) -> Answer:
    """Run the attack in a process of its own, as from a shell."""
    words = prepare(attack, here, places)
    before, start = state_of(here), time.perf_counter()
    command = [sys.executable, "-m", PROGRAMS[attack.program][0].removesuffix(".__main__"), *words]
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, timeout=300)
    return Answer(
        done.returncode, done.stdout, done.stderr, changes(before, here), time.perf_counter() - start
    )


def changes(before: Mapping[str, object], here: Path) -> tuple[str, ...]:
    after = state_of(here)
    names = sorted({*before, *after})
    return tuple(name for name in names if before.get(name) != after.get(name))


def complaints(attack: Attack, answer: Answer, here: Path, places: Mapping[str, Path]) -> list[str]:
    """What is wrong with an answer; nothing if it is as it should be."""
    said = answer.err if attack.code else answer.out + answer.err
    found = []
    if answer.code != attack.code:
        found.append(f"exit code {answer.code}, not {attack.code}")
    found += [f"does not name {piece!r}" for piece in attack.named if filled(piece, here, places) not in said]
    if "Traceback" in answer.err:
        found.append("a traceback")
    if attack.code:
        name = PROGRAMS[attack.program][1]
        message = answer.err[answer.err.rfind(f"{name}: error: ") :]
        if f"{name}: error: " not in answer.err:
            found.append("no message of the command's")
        if not REMEDY.search(message):
            found.append("no remedy")
        if RAW.search(message):
            found.append("the raw text of an error")
        if max(map(len, message.split("\n"))) > LONGEST:
            found.append("a message of more than a screen")
    if attack.results:
        scores = json.loads((here / "out" / "all_results.json").read_text()) if not answer.code else {}
        wrong = {
            name: scores.get(name) for name, value in attack.results.items() if scores.get(name) != value
        }
        found += [f"the results say {wrong}"] if wrong else []
    if answer.changed and attack.code:
        found.append(f"changed files: {answer.changed[:5]}")
    left = [
        name for name in state_of(here) if name.endswith(".part") or "/tmp" in name.removeprefix(str(here))
    ]
    return found + [f"left {name}" for name in left]


def main(part: str = "") -> None:
    """Run the attacks by hand and print each answer."""
    import conftest

    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory(prefix="attacks-") as scratch:
        places = {name: Path(scratch, name) for name in ("bert", "cache", "trained")}
        places["bert"].mkdir()
        conftest.make_tiny_bert(places["bert"])
        if any(
            "@trained" in attack.words or "run" in attack.name for attack in ATTACKS if part in attack.name
        ):
            first = Attack("training", "", (), code=0)
            words = next(a.words for a in ATTACKS if a.name == "accepted octal").replace(
                "@here/run.yaml ", ""
            )
            words += " --do_predict"
            run(
                dataclasses.replace(first, words=words.replace("@here/out", "@trained")),
                Path(scratch),
                places,
            )
        bad = 0
        for number, attack in enumerate(attack for attack in ATTACKS if part in attack.name):
            here = Path(scratch, str(number))
            here.mkdir()
            answer = run(attack, here, places)
            wrong = complaints(attack, answer, here, places)
            bad += bool(wrong)
            print(f"{'BAD ' if wrong else 'good'} {attack.name[:90]} ({answer.seconds:.1f} s) {wrong or ''}")
            if wrong or part:
                print("    " + answer.err.strip()[-900:].replace("\n", "\n    "))
        print(f"{bad} of {number + 1} answered badly")


if __name__ == "__main__":
    main(*sys.argv[1:])
