"""Run a test of test_fuzzing.py on inputs that reach new lines of the recipe; atheris searches for them.

    pip install atheris
    python tests/attacks/coverage_fuzz.py test_words_on_the_page_and_the_terminal_are_text -runs=9000

Options are those of libFuzzer. An input that fails the test ends the run, and is written to a file.
"""

import inspect
import os
import sys
import tempfile
from pathlib import Path

import atheris
from hypothesis import given, settings

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent), str(HERE)]


def target(test, folder: Path):
    """What turns bytes into inputs of the test and runs it."""
    fixtures = {"tmp_path": folder, "tiny_bert": folder / "bert"}
    wanted = inspect.signature(test.hypothesis.inner_test).parameters
    own = {name: value for name, value in fixtures.items() if name in wanted}

    @settings(database=None, deadline=None)
    @given(**test.hypothesis._given_kwargs)  # fuzz_one_input of the test itself can't take pytest's fixtures
    def one(**values):
        test.hypothesis.inner_test(**own, **values)

    return one.hypothesis.fuzz_one_input


def main(name: str, *options: str) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    with atheris.instrument_imports(include=["ner_recipe", "jnlpba_dataset"]):
        import test_fuzzing
    with tempfile.TemporaryDirectory() as folder:
        if "tiny_bert" in inspect.signature(getattr(test_fuzzing, name)).parameters:
            import conftest

            Path(folder, "bert").mkdir()
            conftest.make_tiny_bert(Path(folder, "bert"))
        run_one = target(getattr(test_fuzzing, name), Path(folder))
        atheris.Setup([sys.argv[0], *options], lambda content: run_one(content) and None)
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
