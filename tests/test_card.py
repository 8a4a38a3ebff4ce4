"""The card: every figure is that of the run's files, its front matter is valid, its code runs.

python -m pytest tests/test_card.py
"""

import json
import re
import shutil
import subprocess
import sys

import pytest
from conftest import REPO
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from jnlpba_dataset import LABELS
from ner_recipe.reports.card import CardError, write_model_card
from ner_recipe.reports.result import FORMS
from ner_recipe.serving import JOINT, STRATEGIES


def read_json(folder, name: str) -> dict:
    return json.loads((folder / name).read_text())


@pytest.fixture
def card(trained) -> ModelCard:
    return ModelCard.load(trained / "README.md")


def rows_of(text: str, title: str) -> dict[str, list[str]]:
    """The first Markdown table after a title: first cell -> the others."""
    table = text.split(title)[1].strip().split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip(" `") for cell in line.strip("| ").split("|")] for line in table]
    return {row[0]: row[1:] for row in cells}


def test_model_index_holds_the_scores_of_the_result_files(trained, card):
    strategy = read_json(trained, "run.json")["pipeline"]["aggregation_strategy"]
    found = {(result.dataset_split, result.metric_name): result for result in card.data.eval_results}
    for split, prefix in (("test", "test"), ("validation", "eval")):
        results = read_json(trained, f"{prefix}_results.json")
        expected = {
            "Precision (span, micro)": "span_micro_precision",
            "Recall (span, micro)": "span_micro_recall",
            "F1 (span, micro)": "span_micro_f1",
            "F1 (span, macro)": "span_macro_f1",
            "F1 (span, micro, joint decoding)": "joint_span_micro_f1",
            "F1 (word, micro)": "word_micro_f1",
            f"F1 (pipeline, {strategy}, sentences)": f"served_sentences_{strategy}_f1",
            f"F1 (pipeline, {strategy}, abstracts)": f"served_abstracts_{strategy}_f1",
            "F1 (Annotator, joint decoding, abstracts)": "served_abstracts_joint_f1",
        }
        for name, key in expected.items():
            assert found[split, name].metric_value == round(results[f"{prefix}_{key}"], 4)
            assert len(found[split, name].dataset_args["fingerprint"]) == 16


def test_front_matter_says_what_the_hub_shows(card):
    data = card.data
    assert (data.language, data.license, data.pipeline_tag) == ("en", "apache-2.0", "token-classification")
    assert len(data.widget) == 3 and all(example["text"] for example in data.widget)
    assert data.model_name == "model" and data.base_model is None


def test_every_row_of_the_tables_is_a_row_of_the_files(trained, card):
    results = read_json(trained, "test_results.json")

    def percents(key: str) -> list[str]:
        return [f"{100 * results[f'test_{key}_{name}']:.2f}" for name in ("precision", "recall", "f1")]

    spans = rows_of(card.text, "test, entities:")
    for kind in ("protein", "DNA", "RNA", "cell_line", "cell_type"):
        assert spans[kind] == [*percents(f"span_{kind}"), str(results[f"test_span_{kind}_support"])]
    assert spans["micro average"] == [*percents("span_micro"), "109"]
    words = rows_of(card.text, "test, words:")
    assert list(words)[:10] == [label for label in LABELS if label != "O"]
    assert words["B-RNA"][:3] == percents("word_B-RNA")
    served = card.text.split("test, reported F1")[1]
    for form in FORMS:
        for strategy in (*STRATEGIES, JOINT):
            gap = 100 * (results[f"test_served_{form}_{strategy}_f1"] - results["test_f1"])
            row = " | ".join([form, f"`{strategy}`", *percents(f"served_{form}_{strategy}"), f"{gap:+.2f}"])
            assert f"| {row} |" in served
    assert (
        f"`{read_json(trained, 'run.json')['pipeline']['aggregation_strategy']}` scored best on validation"
        in card.text
    )


def test_settings_corpus_and_origin_are_told(trained, card):
    run = read_json(trained, "run.json")
    assert "| learning_rate | 0.003 |" in card.text
    assert "| test | 6 | 40 | 710 | 109 |" in card.text
    for text in (
        run["commit"] or "not recorded",
        run["splits"]["test"]["sha256"],
        run["versions"]["torch"],
        "seed: 1",
    ):
        assert text in card.text
    assert "protein, " not in card.text.split("Labels, in the order")[0].split("## Training")[1]
    assert ", ".join(f"`{label}`" for label in LABELS) in card.text


def test_the_code_on_the_card_runs(trained, card, tmp_path):
    code = re.search(r"```python\n(.*?)```", card.text, re.DOTALL)[1]
    result = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert re.search(r"^\w+ \S.* 0\.\d+$", result.stdout, re.MULTILINE), result.stdout


def copy_of(trained, tmp_path, **changes):
    for name in ("run.json", "test_results.json", "eval_results.json", "config.json"):
        shutil.copy(trained / name, tmp_path / name)
    shutil.copytree(trained / "figures", tmp_path / "figures", dirs_exist_ok=True)
    run = {**read_json(tmp_path, "run.json"), **changes}
    (tmp_path / "run.json").write_text(json.dumps(run))
    return tmp_path


def test_a_card_is_made_again_from_the_files_alone(trained, tmp_path):
    write_model_card(copy_of(trained, tmp_path))
    assert (tmp_path / "README.md").read_bytes() == (trained / "README.md").read_bytes()


EVIL = [
    "<script>alert(1)</script> | x `y` ``z``",
    "[x](http://evil.example) ![t](http://evil.example/p.png) *b* __c__ <http://evil.example>",
    "a\n\n# heading\n\n- item\n```\nfence",
]


@pytest.mark.parametrize("evil", EVIL)
def test_foreign_text_stays_text(evil, trained, tmp_path):
    """Rendered by a real Markdown library: no tag, link, picture or heading comes of a name or a command."""
    plain = "harmless"
    pages = []
    for text in (evil, plain):
        folder = tmp_path / str(len(pages))
        folder.mkdir()
        changes = dict.fromkeys(("name", "model", "command", "device", "precision", "commit"), text)
        write_model_card(copy_of(trained, folder, **changes))
        page = (
            MarkdownIt("commonmark", {"html": True})
            .enable("table")
            .render(ModelCard.load(folder / "README.md").text)
        )
        pages.append(re.sub(r">[^<]*<", "><", page))  # the tags alone
    assert pages[0] == pages[1]


def test_a_name_beyond_the_basic_plane_stays_itself(trained, tmp_path):
    folder = copy_of(trained, tmp_path, output_dir="outputs/\U0001f600")
    write_model_card(folder)
    assert 'model="outputs/\U0001f600"' in (folder / "README.md").read_text(encoding="utf-8")


def test_what_is_cited_depends_on_what_was_used(trained, tmp_path):
    folder = copy_of(trained, tmp_path, corpus="jnlpba", model="allenai/scibert_scivocab_cased")
    write_model_card(folder)
    text = (folder / "README.md").read_text()
    assert "kim-etal-2004-introduction" in text and "beltagy-etal-2019-scibert" in text
    assert "datasets:\n- jnlpba" in text
    plain = (trained / "README.md").read_text()
    assert "beltagy" not in plain and "kim-etal" not in plain and "@software{jnlpba_ner" in plain


@pytest.mark.parametrize("corpus", ["custom", "lab/notes", "ncbi-disease"])
def test_language_and_field_are_those_of_known_corpora(corpus, trained, tmp_path):
    write_model_card(copy_of(trained, tmp_path, corpus=corpus))
    card = ModelCard.load(tmp_path / "README.md")
    known = corpus == "ncbi-disease"
    assert (card.data.language == "en") == ("biomedical" in card.data.tags) == known
    assert bool(card.data.get("widget")) == ("English" in card.text) == known
    assert ("A named entity recognition model. Entity types: " in card.text) != known


def test_an_optimistic_protocol_is_said_on_the_card(trained, tmp_path):
    folder = copy_of(trained, tmp_path, protocol="the test split trained or selected the model")
    write_model_card(folder)
    card = ModelCard.load(folder / "README.md")
    assert "**Note:** the test split" in card.text
    assert all("protocol" in result.dataset_args for result in card.data.eval_results)


def test_splits_of_which_only_one_knows_its_documents_share_a_table(trained, tmp_path):
    folder = copy_of(trained, tmp_path)
    scores = read_json(folder, "test_results.json")
    kept = {name: value for name, value in scores.items() if "_served_abstracts_" not in name}
    (folder / "test_results.json").write_text(json.dumps(kept))
    write_model_card(folder)
    table = (folder / "README.md").read_text().split("| split | gold entities |")[1].split("\n\n")[0]
    assert len({line.count("|") for line in table.splitlines()[1:]}) == 1 and "| – |" in table


def test_a_card_of_an_unpublished_run_without_git_claims_neither(trained, tmp_path):
    write_model_card(copy_of(trained, tmp_path, commit=None))
    text = (tmp_path / "README.md").read_text()
    assert "commit of the recipe: not recorded" in text and "The folder of the run" in text


@pytest.mark.parametrize("content", [None, "{}", "not JSON", "[]", "null", '{"pipeline": 1}'])
def test_a_folder_that_is_no_run_is_refused(content, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(CardError, match="expected the folder of a finished run"):
        write_model_card(tmp_path)
    assert not (tmp_path / "README.md").exists()
