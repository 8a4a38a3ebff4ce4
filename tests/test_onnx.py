"""A model exported to ONNX: the same entities as torch computes, the same command, and its errors.

python -m pytest tests/test_onnx.py
"""

import errno
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from conftest import run_program

import annotate
from metrics import span_scores
from ner_recipe.annotation import export
from ner_recipe.launch import UsageError
from ner_recipe.reports.predictions import read_predictions
from ner_recipe.serving import Annotator, Text, plain_texts

for package in ("onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(package, reason="the extra onnx is not installed")


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory) -> Path:
    """The trained model in fp32, exported by the program itself."""
    folder = tmp_path_factory.mktemp("onnx") / "new" / "fp32"
    program, launcher = "ner_recipe.annotation.export", (sys.executable, "-m")
    result = run_program(trained, "--output_dir", folder, program=program, launcher=launcher)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"{folder / 'model.onnx'}: probabilities differ by up to ")
    assert len(result.stdout.splitlines()) == 1 and "Warning" not in result.stderr
    assert [path.name for path in folder.parent.iterdir()] == ["fp32"]
    return folder


@pytest.fixture(scope="module")
def texts(trained) -> list[Text]:
    return plain_texts(read_predictions(trained / "predictions_test.tsv"), "sentences")


def test_the_same_entities_as_torch_for_texts_of_any_length(trained, exported, texts):
    long = " ".join(text.text for text in texts)  # of several windows
    several = [*(text.text for text in texts), long, "", "IL-2", "T cells (CD4+) \u00e9\U0001f469"]
    options = {"batch_tokens": 700}
    answers = Annotator(trained, **options)(several), Annotator(exported, backend="onnx", **options)(several)
    for ours, its in zip(*answers, strict=True):
        for one, other in zip(ours, its, strict=True):
            assert other == one | {"score": pytest.approx(one["score"], abs=1e-4)}


def test_int8_finds_nearly_as_much(trained, texts, tmp_path, capsys):
    folder = tmp_path / "int8"
    assert export.main([str(trained), "--output_dir", str(folder), "--int8"]) == 0
    assert "probabilities differ by up to" in capsys.readouterr().out
    scores = []
    for annotator in (Annotator(trained), Annotator(folder, backend="onnx")):
        found = annotator(text.text for text in texts)
        spans = [{(one["label"], one["start"], one["end"]) for one in answer} for answer in found]
        scores.append(span_scores([text.spans for text in texts], spans, lambda span: span)["micro"]["f1"])
    with capsys.disabled():
        print(f"F1 {scores[0]:.4f} in fp32, {scores[1]:.4f} in int8")
    assert scores[1] > scores[0] - 0.05


def run(*words: object, code: int = 0) -> None:
    assert annotate.main([*map(str, words), "--disable_tqdm"]) == code


def test_annotate_goes_on_only_with_the_same_backend_and_file(
    trained, exported, texts, tmp_path, monkeypatch, capsys
):
    model = shutil.copytree(exported, tmp_path / "model")
    (tmp_path / "in.txt").write_text("\n".join(text.text for text in texts))
    inputs = [tmp_path / "in.txt", "--lines", "--output_dir", tmp_path / "out"]
    run(model, *inputs, "--backend", "onnx")
    rows = [json.loads(line) for line in (tmp_path / "out" / "part-00000-00000.jsonl").open()]
    answers = Annotator(trained)(text.text for text in texts)
    assert [[(one["start"], one["end"], one["label"]) for one in row["entities"]] for row in rows] == [
        [(one["start"], one["end"], one["label"]) for one in answer] for answer in answers
    ]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["settings"]["backend"] == "onnx"
    assert {"model.onnx", "model.onnx.data", "tokenizer.json"} <= manifest["model"]["files"].keys()
    run(model, *inputs, "--backend", "onnx")
    assert "nothing was computed" in capsys.readouterr().out
    run(trained, *inputs, code=2)
    assert "--backend: begun with onnx, now torch" in capsys.readouterr().err
    with (model / "model.onnx.data").open("ab") as file:
        file.write(b"\0")
    run(model, *inputs, "--backend", "onnx", code=2)
    assert "model.onnx.data differ" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    run(model, *inputs, "--backend", "onnx", code=2)
    assert "--backend onnx: needs onnxruntime" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--decoding", "pipeline"], "--decoding pipeline: needs --backend torch"),
        (["--precision", "bf16"], "--precision: was decided by the export"),
        (["--device", "cuda"], "--device: found cuda; --backend onnx computes on the CPU only"),
        ([], "--backend onnx: found no model.onnx in"),
    ],
)
def test_what_an_exported_model_does_not_do_is_refused(more, says, trained, tmp_path, capsys):
    (tmp_path / "in.txt").write_text("IL-2")
    run(trained, tmp_path / "in.txt", "--output_dir", tmp_path / "out", "--backend", "onnx", *more, code=2)
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_no_wrong_folder(trained, tmp_path, monkeypatch, capsys):
    def no_room(dir: Path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(dir))

    monkeypatch.setattr(export.tempfile, "mkdtemp", no_room)
    assert export.main([str(trained), "--output_dir", str(tmp_path / "out")]) == 1
    assert f"{tmp_path} can't be written (No space left on device); make room" in capsys.readouterr().err


def test_damaged_files_and_missing_packages_are_one_sentence(
    trained, exported, tmp_path, monkeypatch, capsys
):
    damaged = shutil.copytree(exported, tmp_path / "damaged")
    (damaged / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(UsageError, match="damaged/model.onnx can't be loaded .*; export the model again"):
        Annotator(damaged, backend="onnx")
    for folder in (str(damaged), "."):
        assert export.main([str(trained), "--output_dir", folder]) == 2
        assert "expected the name of a new or empty folder" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        UsageError, match=r"needs onnxruntime .* pip install -c constraints.txt -e '.\[onnx\]'"
    ):
        Annotator(exported, backend="onnx")
    monkeypatch.setitem(sys.modules, "transformers.exporters.exporter_onnx", None)
    assert export.main([str(trained), "--output_dir", str(tmp_path / "out")]) == 2
    assert "pip install -c constraints.txt -e '.[onnx]'" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["damaged"]
    (tmp_path / "in.txt").write_text("IL-2")
    run(exported, tmp_path / "in.txt", "--output_dir", tmp_path / "out", code=2)
    assert "was exported to ONNX; add --backend onnx" in capsys.readouterr().err
    with pytest.raises(ValueError, match="found 'ONNX'; expected torch or onnx"):
        Annotator(exported, backend="ONNX")
