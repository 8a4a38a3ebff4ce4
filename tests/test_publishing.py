"""To the Hub and back, through a Hub on the loopback interface: real pushes, real processes that pull.

python -m pytest tests/test_publishing.py
"""

import errno
import hashlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPO, run_program
from http_server import silent_port
from hub_server import CUT, READER, USER, WRITER, HubServer, Repo
from huggingface_hub import ModelCard, constants
from huggingface_hub.utils import _http

from jnlpba_dataset import load_jnlpba
from ner_recipe import publishing
from ner_recipe.publishing import PublishError, check_access, publish_run, published_files, push_dataset

ASK = """
import json, sys
from transformers import pipeline
ner = pipeline("ner", model=sys.argv[1], revision=sys.argv[2], aggregation_strategy="first", stride=64)
text = "Mouse thymus was used as a source of glucocorticoid receptor from normal CS lymphocytes. " * 40
print(json.dumps([[e["entity_group"], e["start"], e["end"], round(float(e["score"]), 5)] for e in ner(text)]))
"""


@pytest.fixture
def hub():
    with HubServer() as server:
        yield server


@pytest.fixture
def hub_here(hub, monkeypatch):
    """The Hub of this very process, for what needs no process of its own."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    return hub


@pytest.fixture
def finished(trained, tmp_path) -> Path:
    """A copy of a finished run's folder."""
    return shutil.copytree(trained, tmp_path / "m")


def ask(model: str | Path, environment: dict, revision: str = "main") -> subprocess.CompletedProcess:
    """What a user's process of its own answers, with the given environment."""
    words = [sys.executable, "-c", ASK, str(model), revision]
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)


def push(sample_flags, folder: Path, environment: dict, *more: object) -> subprocess.CompletedProcess:
    words = [*sample_flags, "--output_dir", folder, "--push_to_hub", *more]
    return run_program(*words, "--do_report_page", "true", env=environment)


def on_disk(folder: Path) -> dict[str, bytes]:
    """Each file's content, by its path in the folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def printed_command(text: str) -> list[str]:
    """The command that an error tells to run."""
    return shlex.split(re.search(r"To try again.*: (python -m ner_recipe.publishing model .*)", text)[1])


def run_python(words: list[str], environment: dict) -> subprocess.CompletedProcess:
    """A printed `python ...` command, from the repository."""
    assert words[0] == "python"
    command = [sys.executable, *words[1:]]
    return subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=120)


def test_train_push_and_the_same_answers_from_the_hub(sample_flags, hub, tmp_path):
    folder = tmp_path / "tiny-ner"
    result = push(sample_flags, folder, hub.environment(tmp_path / "home", WRITER), "--do_serve_check")
    assert result.returncode == 0, result.stderr
    repo_id = f"{USER}/tiny-ner"
    assert f"Published: {hub.endpoint}/{repo_id}/commit/" in result.stdout
    repo = hub.repos["models", repo_id]
    assert len(repo.messages) == 2, "the empty repository's own commit, and one of ours"
    assert hub.files(repo_id) == on_disk(folder)
    assert f'pipeline("ner", model="{repo_id}"' in (folder / "README.md").read_text()
    for text in (result.stdout.encode(), result.stderr.encode(), *on_disk(folder).values()):
        assert WRITER.encode() not in text

    pulled = ask(repo_id, hub.environment(tmp_path / "other"))
    assert pulled.returncode == 0, pulled.stderr
    local = ask(folder, hub.environment(tmp_path / "third"))
    assert json.loads(pulled.stdout) == json.loads(local.stdout) != []

    checked = run_program(
        *("--do_serve_check", "--do_predict", "--do_report_page", "false"),
        *("--model_name_or_path", repo_id, "--output_dir", tmp_path / "s"),
        *("--dataset_config_name", "sample"),
        env=hub.environment(tmp_path / "fourth"),
    )
    assert checked.returncode == 0, checked.stderr
    first, again = (
        json.loads((place / "test_results.json").read_text()) for place in (folder, tmp_path / "s")
    )
    assert again["test_served_abstracts_first_f1"] == first["test_served_abstracts_first_f1"]


def test_a_private_repository_and_a_revision(hub_here, finished, tmp_path):
    publish_run(finished, "lab/secret", token=f"{WRITER}\r", private=True, revision="v1")
    assert hub_here.repos["models", "lab/secret"].private
    assert hub_here.files("lab/secret") == {}
    assert hub_here.files("lab/secret", "v1") == on_disk(finished)
    assert ask("lab/secret", hub_here.environment(tmp_path / "anonymous"), "v1").returncode != 0
    pulled = ask("lab/secret", hub_here.environment(tmp_path / "reader", READER), "v1")
    assert pulled.returncode == 0 and json.loads(pulled.stdout), pulled.stderr


def test_a_token_that_the_hub_refuses_is_said_before_the_training(sample_flags, hub, tmp_path):
    result = push(sample_flags, tmp_path / "out", hub.environment(tmp_path / "home", "hf_revoked"))
    assert result.returncode == 1
    assert result.stderr.count("run_ner.py: error: --push_to_hub: the Hub refused the token (401") == 1
    assert "Traceback" not in result.stderr and "hf_revoked" not in result.stderr
    assert not (tmp_path / "out").exists() and not hub.repos


@pytest.mark.parametrize(
    ("token", "name", "expected"),
    [
        (READER, None, "may only read"),
        (None, None, "HF_TOKEN"),
        (WRITER, "a b/c", "the repository name 'a b/c' is not valid"),
        (WRITER, "x/y/z", "the repository name 'x/y/z' is not valid"),
        (f"{WRITER}\r\n{READER}", None, "Illegal header value b'***"),
    ],
)
def test_what_the_hub_will_refuse_is_said_before_any_work(token, name, expected, hub_here, tmp_path):
    with pytest.raises(PublishError, match=re.escape(expected)) as error:
        check_access(name, tmp_path, token)
    assert WRITER not in str(error.value) and READER not in str(error.value)
    for read_from_a_file in (WRITER, f"{WRITER}\r", f" {WRITER}\n"):
        assert check_access(None, tmp_path / "m", read_from_a_file) == f"{USER}/m"


def test_no_hub_at_all_is_said_before_the_training(monkeypatch, hub_here, tmp_path):
    with silent_port() as port:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
        with pytest.raises(PublishError, match="the Hub could not be used.*Nothing was done"):
            check_access("m", tmp_path, WRITER)


def test_a_connection_cut_in_mid_upload_leaves_no_half_model(hub_here, finished, monkeypatch):
    monkeypatch.setattr(_http.time, "sleep", lambda seconds: None)  # between the client's own six tries
    hub_here.faults["PUT", "/lfs/"] = CUT
    before = on_disk(finished)
    with pytest.raises(PublishError, match="the Hub could not be used") as error:
        publish_run(finished, f"{USER}/m", token=WRITER)
    assert hub_here.requests.count(f"PUT /lfs/{hashlib.sha256(before['model.safetensors']).hexdigest()}") == 6
    assert hub_here.files(f"{USER}/m") == {} and on_disk(finished) == before
    assert printed_command(str(error.value))[4] == str(finished)


@pytest.mark.slow
def test_a_connection_cut_in_mid_upload_leaves_the_model_safe_and_says_how_to_go_on(
    sample_flags, hub, tmp_path, trained
):
    hub.faults["PUT", "/lfs/"] = CUT
    folder = tmp_path / "m"
    environment = hub.environment(tmp_path / "home", WRITER)
    result = push(sample_flags, folder, environment)
    assert result.returncode == 1 and "the Hub could not be used" in result.stderr
    assert "Traceback" not in result.stderr and WRITER not in result.stderr
    assert {path.name for path in folder.iterdir()} == {path.name for path in trained.iterdir()}
    assert hub.files(f"{USER}/m") == {}, "a reader never meets half a model"

    hub.faults.clear()
    again = run_python(printed_command(result.stderr), environment)
    assert again.returncode == 0, again.stderr
    assert hub.files(f"{USER}/m") == on_disk(folder)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({("POST", "/api/repos/create"): 403}, "refused the token (403"),
        ({("POST", "/api/validate-yaml"): 401}, "refused the token (401"),
        ({("POST", f"/api/models/{USER}/m/commit"): 409}, "the Hub could not be used"),
    ],
)
def test_a_hub_that_refuses_after_the_training(fault, expected, hub_here, finished):
    repo_id, options = f"{USER}/m", {"token": WRITER, "private": True}
    hub_here.faults.update(fault)
    with pytest.raises(PublishError, match=re.escape(expected)) as error:
        publish_run(finished, repo_id, **options)
    command = printed_command(str(error.value))
    assert command[3:] == ["model", str(finished), "--hub_model_id", repo_id, "--hub_private_repo"]
    hub_here.faults.clear()
    repo = hub_here.repos.setdefault(("models", repo_id), Repo(private=True))
    repo.commit("main", {"train_results.json": b"{}", "mine.txt": b"added by hand"}, "earlier")
    (finished / "train_results.json").unlink()
    publish_run(finished, repo_id, **options)
    assert hub_here.files(repo_id) == {**on_disk(finished), "mine.txt": b"added by hand"}


def test_what_is_to_be_private_does_not_go_into_a_public_repository(hub_here, finished):
    for kind in ("models", "datasets"):
        public = hub_here.repos[kind, f"{USER}/m"] = Repo()
        public.commit("main", {}, "initial commit")
    with pytest.raises(PublishError, match="ada/m already exists and is public"):
        publish_run(finished, f"{USER}/m", token=WRITER, private=True)
    with pytest.raises(PublishError, match="ada/m already exists and is public"):
        push_dataset(f"{USER}/m", REPO / "jnlpba_dataset" / "sample", token=WRITER, private=True)
    assert hub_here.files(f"{USER}/m") == hub_here.files(f"{USER}/m", kind="datasets") == {}


def test_the_text_of_another_corpus_stays_at_home(sample_flags, hub, tmp_path):
    data = tmp_path / "out"  # even where corpus and output share a folder
    data.mkdir()
    for path in (REPO / "jnlpba_dataset" / "sample").glob("*.tsv"):
        (data / path.name).write_bytes(path.read_bytes())
    words = ["--dataset_config_name", "jnlpba", "--data_dir", data, "--hub_model_id", "m"]
    words += ["--hub_private_repo", "true", "--hub_revision", "v1"]
    result = push(sample_flags, tmp_path / "out", hub.environment(tmp_path / "home", WRITER), *words)
    assert result.returncode == 0, result.stderr
    assert hub.repos["models", f"{USER}/m"].private and hub.files(f"{USER}/m") == {}
    assert f'model="{USER}/m", revision="v1"' in (data / "README.md").read_text()
    pushed = set(hub.files(f"{USER}/m", "v1"))
    assert {"model.safetensors", "README.md", "classification_report_test.txt"} <= pushed
    assert not [name for name in pushed if name.startswith(("predictions_", "mistakes_", "train.", "test."))]
    assert (tmp_path / "out" / "predictions_test.tsv").is_file() and "kept local" in result.stdout


def test_trainers_own_push_keeps_the_card(trained, hub, tmp_path):
    """From Python: Trainer.push_to_hub writes the recipe's card, not Trainer's draft."""
    code = f"""
import sys
sys.path.insert(0, {str(REPO)!r})
from transformers import AutoModelForTokenClassification
from ner_recipe.arguments import RecipeArguments
from ner_recipe.training import NerTrainer
args = RecipeArguments(output_dir={str(tmp_path / "m")!r}, report_to="none")
model = AutoModelForTokenClassification.from_pretrained(args.output_dir)
NerTrainer(model=model, args=args).push_to_hub()
"""
    shutil.copytree(trained, tmp_path / "m")
    (tmp_path / "m" / "README.md").unlink()
    environment = hub.environment(tmp_path / "home", WRITER)
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert hub.files(f"{USER}/m")["README.md"] == (trained / "README.md").read_bytes()


@pytest.mark.parametrize("corpus", ["sample", "custom"])
def test_only_what_the_recipe_writes_goes_up(corpus, trained, tmp_path):
    for name in ("training_args.bin", "optimizer.pt", "a.pkl", "train.tsv", "notes.txt", ".env", "x.part"):
        (tmp_path / name).write_text("")
    (tmp_path / "checkpoint-3").mkdir()
    (tmp_path / "checkpoint-3" / "model.safetensors").write_text("")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "x-ray of a patient.png").write_text("")
    for name in on_disk(trained):
        (tmp_path / name).write_text("")
    text = {name for name in on_disk(trained) if name.startswith(("predictions_", "mistakes_", "report"))}
    expected = set(on_disk(trained)) - (text if corpus == "custom" else set())
    assert set(published_files(tmp_path, corpus)) == expected and len(text) == 7


def test_a_finished_run_goes_later_and_its_card_then_names_the_repository(
    hub_here, monkeypatch, finished, tmp_path, capsys
):
    monkeypatch.setenv("HF_TOKEN", WRITER)
    folder = finished.rename(tmp_path / "with space")
    assert publishing.main(["model", str(folder), "--hub_model_id", "later"]) == 0
    assert hub_here.files(f"{USER}/later") == on_disk(folder)
    assert f'pipeline("ner", model="{USER}/later", aggregation' in (folder / "README.md").read_text()
    before = on_disk(folder)
    run = json.loads(before["run.json"])
    del run["license"]  # so that no card can be made
    (folder / "run.json").write_text(json.dumps(run))
    assert publishing.main(["model", str(folder), "--hub_model_id", "x/y"]) == 2
    assert "license" in capsys.readouterr().err and json.loads((folder / "run.json").read_text()) == run
    (folder / "model.safetensors").unlink()
    assert publishing.main(["model", str(folder)]) == 2
    assert "found no *.safetensors" in capsys.readouterr().err
    for bad in (tmp_path / "nowhere", REPO / "configs"):
        assert publishing.main(["model", str(bad)]) == 2
        assert "run.json" in capsys.readouterr().err
        assert not bad.exists() or not (bad / "README.md").exists()


def test_a_card_that_was_edited_is_published_as_it_is(hub_here, monkeypatch, finished, capsys):
    monkeypatch.setenv("HF_TOKEN", WRITER)
    card, command = finished / "README.md", ["model", str(finished), "--hub_model_id", "m"]
    mine = card.read_text() + "\nTrained for the ward's own notes.\n"
    card.write_text(mine)
    before = on_disk(finished)
    hub_here.faults["POST", "/api/repos/create"] = 403
    assert publishing.main(command) == 1 and on_disk(finished) == before
    hub_here.faults.clear()
    assert publishing.main(command) == 0
    assert f"{card} is not the card of this run, so it was published as it is" in capsys.readouterr().out
    assert card.read_text() == mine and hub_here.files(f"{USER}/m") == on_disk(finished)
    card.unlink()
    assert publishing.main(command) == 0 and "as it is" not in capsys.readouterr().out
    assert f'model="{USER}/m"' in card.read_text() and hub_here.files(f"{USER}/m") == on_disk(finished)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(errno.ENOSPC, "No space left on device")])
def test_a_push_that_is_interrupted_leaves_no_name_behind(error, hub_here, finished, monkeypatch):
    def interrupted(*names, **options):
        raise error

    before = on_disk(finished)
    monkeypatch.setattr(publishing, "publish_folder", interrupted)
    with pytest.raises((KeyboardInterrupt, OSError)):
        publish_run(finished, f"{USER}/m", token=WRITER)
    assert on_disk(finished) == before


LOAD = """
import json, sys
from datasets import load_dataset
corpus = load_dataset(sys.argv[1])
names = corpus["train"].features["ner_tags"].feature.names
print(json.dumps([names, {split: corpus[split].to_list() for split in corpus}]))
"""


def run_push_dataset(environment: dict, *words: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "ner_recipe.publishing", "dataset", *map(str, words)]
    return subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=120)


def test_the_corpus_goes_to_the_hub_and_comes_back_to_train_on(hub, tmp_path, cache_dir, tiny_bert):
    environment = hub.environment(tmp_path / "home", WRITER)
    for _ in range(2):  # a second push replaces the first
        result = run_push_dataset(environment, "jnlpba", "--dataset_config_name", "sample")
        assert result.returncode == 0, result.stderr
    repo_id = f"{USER}/jnlpba"
    assert f'load_dataset("{repo_id}")' in result.stdout
    words = [sys.executable, "-c", LOAD, repo_id]
    options = {"env": hub.environment(tmp_path / "other"), "cwd": tmp_path}
    loaded = subprocess.run(words, capture_output=True, text=True, timeout=120, **options)
    assert loaded.returncode == 0, loaded.stderr
    names, rows = json.loads(loaded.stdout)
    corpus = load_jnlpba(name="sample", cache_dir=cache_dir)
    assert rows == {split: corpus[split].to_list() for split in corpus}
    assert names == corpus["train"].features["ner_tags"].feature.names

    for private, kind in ((False, repo_id), (True, "custom")):
        hub.repos["datasets", repo_id].private = private
        words = ["--model_name_or_path", tiny_bert, "--do_train", "--do_eval", "--do_predict"]
        words += ["--max_steps", "1", "--do_report_page", "false"]
        words += ["--dataset_name", repo_id, "--output_dir", tmp_path / kind, "--disable_tqdm", "true"]
        place = hub.environment(tmp_path / kind.replace("/", "-"), WRITER)
        trained = run_program(*words, env=place)
        assert trained.returncode == 0, trained.stderr
        run = json.loads((tmp_path / kind / "run.json").read_text())
        assert run["corpus"] == kind and run["labels"][:3] == ["O", "B-DNA", "I-DNA"]
        counts = {split: part["sentences"] for split, part in run["splits"].items()}
        assert counts == {"train": 200, "validation": 40, "test": 40}
        card = (tmp_path / kind / "README.md").read_text()
        assert (f"https://huggingface.co/datasets/{repo_id}" in card) == (not private)

    files = hub.files(repo_id, kind="datasets")
    assert sorted(path for path in files if path.endswith(".parquet")) == [
        f"data/{split}-00000-of-00001.parquet" for split in ("test", "train", "validation")
    ]
    card = ModelCard(files["README.md"].decode())
    assert card.data.license == "apache-2.0" and card.data.dataset_info["splits"][0]["num_examples"] == 200
    assert "| train | 33 | 200 | 3,268 | 509 |" in card.text


def test_a_corpus_that_is_not_ours_gets_no_licence_and_a_private_place(hub, tmp_path):
    words = [
        "lab/notes",
        "--data_dir",
        REPO / "jnlpba_dataset" / "sample",
        "--hub_private_repo",
        "--hub_revision",
        "v2",
    ]
    result = run_push_dataset(hub.environment(tmp_path / "home", WRITER), *words)
    assert result.returncode == 0, result.stderr
    assert hub.repos["datasets", "lab/notes"].private
    card = hub.files("lab/notes", "v2", kind="datasets")["README.md"].decode()
    head = card.split("---")[1]
    assert not any(key in head for key in ("license:", "language:", "biomedical"))
    assert "A corpus in JNLPBA's format" in card and "None of its sentences are published" not in card
    assert "kim-etal-2004" not in card
    assert "README.md" not in hub.files("lab/notes", kind="datasets")


@pytest.mark.parametrize(
    ("token", "words", "code", "expected"),
    [
        ("hf_revoked", ["jnlpba", "--dataset_config_name", "sample"], 1, "refused the token"),
        (WRITER, ["jnlpba", "--data_dir", "nowhere"], 2, "nowhere: not a folder"),
        (WRITER, ["a//b", "--dataset_config_name", "sample"], 1, "a//b"),
    ],
)
def test_a_data_set_that_can_not_be_pushed(token, words, code, expected, hub_here, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", token)
    assert publishing.main(["dataset", *words]) == code
    assert expected in capsys.readouterr().err and not hub_here.repos
