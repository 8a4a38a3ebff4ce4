"""Run all attacks (inputs, fuzzing, full disks, kills, processes) and write docs/reliability.md.

python tests/attacks/record.py --kills 30
python tests/attacks/record.py --kills 5 -k "not clean-up-2"     # a selection, as pytest's -k
"""

import argparse
import datetime
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import xml.etree.ElementTree
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
PAGE = REPO / "docs" / "reliability.md"
ELSEWHERE = "tests/test_annotate.py::test_killed_at_any_moment_it_goes_on_to_the_same_bytes"
TEMPLATE = Path(__file__).with_name("page.md")
PARTS = {
    "test_inputs": "inputs",
    "test_fuzzing": "fuzzing",
    "test_disk_full": "full disk",
    "test_kills": "kills",
    "test_annotate": "kills of annotate.py",
    "test_processes": "processes",
    "test_audit": "dependencies",
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--kills", type=int, default=5, help="killed runs in a test; a third with two processes"
    )
    parser.add_argument("-k", default="", help="a selection of the tests")
    return parser.parse_args()


def run_suite(given: argparse.Namespace, report: Path) -> None:
    words = ["-n2", "-m", "slow or not slow", f"--junitxml={report}", "-o", "junit_family=xunit1"]
    words += ["tests/attacks", ELSEWHERE]
    words += ["-k", given.k] if given.k else []
    environment = {**os.environ, "NER_KILLS": str(given.kills)}
    subprocess.run([sys.executable, "-m", "pytest", *words], cwd=REPO, env=environment)


def table(report: Path) -> tuple[list[str], int, int]:
    """The rows of the page, the number of inputs, and the number of tests that did not pass."""
    rows, inputs, bad = [], 0, 0
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        properties = {one.get("name"): one.get("value") for one in case.iter("property")}
        failed = case.find("failure") is not None or case.find("error") is not None
        skipped = case.find("skipped")
        bad += failed
        if "inputs" in properties and "[" in case.get("name"):
            inputs += int(properties["inputs"])
        tried = properties.get("kills") or (
            f"{properties['inputs']} inputs" if "inputs" in properties else ""
        )
        name = case.get("name").removeprefix("test_").replace("_", " ")
        result = (
            "failed" if failed else f"skipped: {skipped.get('message')}" if skipped is not None else "good"
        )
        part = PARTS[case.get("classname").split(".")[-1]]
        rows.append(f"| {part}: {name} | {tried} | {result} |")
    return rows, inputs, bad


def main() -> int:
    given, start = parse(), datetime.datetime.now(datetime.UTC)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=REPO, capture_output=True, text=True)
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=REPO, capture_output=True, text=True)
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch, "report.xml")
        run_suite(given, report)
        rows, inputs, bad = table(report)
    seconds = (datetime.datetime.now(datetime.UTC) - start).seconds
    command = shlex.join(["python", "tests/attacks/record.py", *sys.argv[1:]])
    text = TEMPLATE.read_text().format(
        script="tests/attacks/record.py",
        date=f"{start:%Y-%m-%d}",
        commit=commit.stdout.strip() + (" with changes" if changed.stdout else ""),
        machine=f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}",
        seconds=seconds,
        command=command,
        rows="\n".join(rows),
        total=f"{inputs} inputs; {bad} of {len(rows)} tests failed.",
    )
    PAGE.write_text(text)
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
