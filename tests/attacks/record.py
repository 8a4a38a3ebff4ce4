"""Run all attacks (inputs, fuzzing, full disks, kills, processes) and write docs/reliability.md.

python tests/attacks/record.py --kills 30
python tests/attacks/record.py --kills 5 -k "not clean-up-2"     # a selection, as pytest's -k
"""

import argparse
import collections
import datetime
import os
import platform
import re
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


def table(report: Path) -> tuple[list[str], collections.Counter]:
    """The rows of the page, one for each part, and the sums of their counts."""
    counts = {part: collections.Counter() for part in PARTS.values()}
    reasons: dict[str, set[str]] = {part: set() for part in counts}
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        part = PARTS[case.get("classname").split(".")[-1]]
        properties = {one.get("name"): one.get("value") for one in case.iter("property")}
        counts[part]["tests"] += 1
        counts[part]["failed"] += case.find("failure") is not None or case.find("error") is not None
        if (skipped := case.find("skipped")) is not None:
            counts[part]["skipped"] += 1
            reasons[part].add(skipped.get("message"))
        for what in ("inputs", "kills"):
            # An input that a process of its own is given again counts once.
            if what == "kills" or "[" in case.get("name"):
                counts[part][what] += int(re.match(r"\d+", properties.get(what, "0"))[0])
    rows = []
    for part, count in counts.items():
        tried = ", ".join(f"{count[what]} {what}" for what in ("inputs", "kills") if count[what])
        skipped = f"{count['skipped']}: {'; '.join(sorted(reasons[part]))}" if count["skipped"] else "0"
        rows.append(f"| {part} | {count['tests']} | {tried} | {count['failed']} | {skipped} |")
    total = sum(counts.values(), collections.Counter())
    return rows, total


def main() -> int:
    given, start = parse(), datetime.datetime.now(datetime.UTC)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=REPO, capture_output=True, text=True)
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=REPO, capture_output=True, text=True)
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch, "report.xml")
        run_suite(given, report)
        rows, total = table(report)
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
        total=f"{total['failed']} of {total['tests']} tests failed, {total['skipped']} skipped.",
    )
    PAGE.write_text(text)
    return bool(total["failed"])


if __name__ == "__main__":
    sys.exit(main())
