"""Every input of the table, against the real commands: one message with place and remedy, nothing written.

python -m pytest tests/attacks/test_inputs.py               # in this process
python -m pytest -m slow tests/attacks/test_inputs.py       # a sample in processes of their own
"""

import pytest
from harness import complaints, run, run_alone
from makers import CannotMakeError
from table import ATTACKS, PARTS

ALONE = ATTACKS[::24]


@pytest.fixture(scope="session")
def places(tiny_bert, trained, cache_dir):
    return {"bert": tiny_bert, "trained": trained, "cache": cache_dir}


def answered_badly(attacks, answer, folder, places) -> dict[str, list[str]]:
    """What is wrong with the answers, by the names of the attacks."""
    bad = {}
    for number, attack in enumerate(attacks):
        here = folder / str(number)
        here.mkdir()
        try:
            said = answer(attack, here, places)
        except CannotMakeError:
            continue
        if wrong := complaints(attack, said, here, places):
            bad[attack.name] = [*wrong, said.err[-1500:]]
    return bad


@pytest.mark.parametrize("part", PARTS)
def test_each_input_is_answered(part, tmp_path, places, record_property):
    assert answered_badly(PARTS[part], run, tmp_path, places) == {}
    record_property("inputs", len(PARTS[part]))


@pytest.mark.slow
def test_a_process_of_its_own_answers_the_same(tmp_path, places, record_property):
    assert answered_badly(ALONE, run_alone, tmp_path, places) == {}
    record_property("inputs", len(ALONE))


def test_the_table_is_of_different_inputs():
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) >= 150
