"""Publish a finished run, or the corpus, on the Hub: the token is checked first, a run becomes one commit.

    python -m ner_recipe.publishing model OUTPUT_DIR --hub_model_id USER/NAME
    python -m ner_recipe.publishing dataset USER/NAME [--data_dir FOLDER]

`run_ner.py --push_to_hub` does the same as the first command at the end of a run. `HF_TOKEN` or `hf auth
login` provide the token; `HF_ENDPOINT` selects another Hub.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
from huggingface_hub.utils import validate_repo_id
from transformers.hf_argparser import string_to_bool

from jnlpba_dataset import corpus_name, load_jnlpba, source_sha256
from ner_recipe.arguments import SECRET, PlainParser
from ner_recipe.corpora.loading import CUSTOM
from ner_recipe.launch import UsageError, run_command
from ner_recipe.reports.card import CardError, dataset_card, model_card, write_model_card
from ner_recipe.reports.files import CARD, PAGE, RESULT_FILES, write_text

PROGRAM = "python -m ner_recipe.publishing"

# Only files that the recipe wrote are uploaded, never a corpus, a cache or a checkpoint in the same folder.
MODEL_FILES = (
    *(CARD, "config.json", "*.safetensors", "*.safetensors.index.json"),
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model"),
)
CORPUS_TEXT = ("predictions_*.tsv", "mistakes_*.txt", PAGE)  # files with the sentences themselves


class PublishError(UsageError):
    """The Hub refused the request or was not reached. The message says what is safe and how to continue."""

    exit_code = 1


@contextmanager
def naming_the_flag() -> Iterator[None]:
    """Put run_ner.py's flag before what the Hub's errors say."""
    try:
        yield
    except PublishError as error:
        raise PublishError(f"--push_to_hub: {error}") from error


def check_access(repo_id: str | None, folder: str | Path, token: str | None) -> str:
    """Ask the Hub whose token this is, before any work; return the full USER/NAME.

    Args:
        repo_id: NAME, USER/NAME, or None for the name of `folder`.
        token: None for the one from `hf auth login` or HF_TOKEN.

    Raises:
        PublishError: no token, a refused or read-only one, no Hub, or an invalid name.
    """
    repo_id = repo_id or Path(folder).resolve().name
    with hub_errors("Nothing was done"):
        who = HfApi(token=stripped(token)).whoami()
    role = who.get("auth", {}).get("accessToken", {}).get("role")
    if role == "read":
        raise PublishError("this token may only read; use one that may write. Nothing was done")
    full = repo_id if "/" in repo_id else f"{who['name']}/{repo_id}"
    try:
        validate_repo_id(full)
    except HFValidationError as error:
        raise PublishError(f"the repository name '{repo_id}' is not valid: {error}") from None
    return full


def publish_run(
    folder: str | Path,
    repo_id: str,
    *,
    token: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
) -> str:
    """Push a finished run to a model repository, which is created if needed; return the commit's URL.

    The card and run.json name the repository, so that the card's code loads the model from there. If the push
    fails they name the folder again. A card that was edited is pushed as it is.

    Raises:
        CardError: the folder is not that of a finished run.
        PublishError: with the command that does the same later.
    """
    folder = Path(folder)
    check_run(folder)
    edited = card_was_edited(folder)
    before = (folder / "run.json").read_text(encoding="utf-8")
    try:
        name_repository(folder, repo_id, revision, edited)
        return publish_folder(folder, repo_id, token=stripped(token), private=private, revision=revision)
    except BaseException:  # Ctrl-C and a full disk too
        write_text(folder / "run.json", before)
        if not edited:
            write_model_card(folder)
        raise


def stripped(token: str | None) -> str | None:
    """The token without white space around it, such as the line end of its file; None if nothing is left."""
    return (token or "").strip() or None


def check_run(folder: Path) -> None:
    """Refuse a folder that is not that of a finished training.

    Raises:
        CardError: what it lacks.
    """
    missing = [name for name in ("run.json", "config.json", "*.safetensors") if not any(folder.glob(name))]
    if missing:
        raise CardError(f"{folder}: found no {missing[0]}; expected the output folder of a finished training")


def card_was_edited(folder: Path) -> bool:
    """Whether there is a card other than the one that run.json and the result files give.

    Raises:
        CardError: they give none, because the folder is not that of a finished run.
    """
    made = model_card(folder).encode()
    return (folder / CARD).is_file() and (folder / CARD).read_bytes() != made


def name_repository(folder: Path, repo_id: str, revision: str | None, edited: bool) -> None:
    """Write the repository's name into the card, unless that was edited, and into run.json."""
    named = {"repository": repo_id, "revision": revision}
    run = json.loads((folder / "run.json").read_text(encoding="utf-8")) | named
    if not edited:
        write_text(folder / CARD, model_card(folder, **named))
    write_text(folder / "run.json", json.dumps(run, indent=2) + "\n")


def publish_folder(
    folder: str | Path, repo_id: str, *, token: str | None, private: bool | None, revision: str | None
) -> str:
    """Push the folder of a finished run in one commit; return the commit's URL.

    `upload_folder` may split a slow upload into several commits, and a reader could then load half a model.
    Only files that the recipe writes are uploaded; of a private corpus, none with its text. Reports of an
    earlier model are deleted from the repository.
    """
    retry = retry_command(folder, repo_id, private, revision)
    with hub_errors(f"{folder} is complete. To try again, with HF_TOKEN or after 'hf auth login': {retry}"):
        run = json.loads(Path(folder, "run.json").read_text(encoding="utf-8"))
        names = published_files(folder, run["corpus"])
        api = HfApi(token=token)
        make_repository(api, repo_id, "model", private, revision)
        there = api.list_repo_files(repo_id, revision=revision)
        operations = [
            *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=Path(folder, name)) for name in names),
            *(CommitOperationDelete(name) for name in there if name in RESULT_FILES and name not in names),
        ]
        made_at = f" at {run['commit']}" if run["commit"] else ""
        message = f"{run['name']}: trained by {run['command']}{made_at}"
        return api.create_commit(repo_id, operations, commit_message=message, revision=revision).commit_url


def published_files(folder: str | Path, corpus: str) -> list[str]:
    """The files of a folder to upload: model, tokenizer, card, and the run's own reports."""
    patterns = (*MODEL_FILES, *RESULT_FILES)
    places = (Path(folder), Path(folder, "figures"))
    files = [path for place in places if place.is_dir() for path in place.iterdir() if path.is_file()]
    names = sorted(path.relative_to(folder).as_posix() for path in files)
    left = CORPUS_TEXT if corpus == CUSTOM else ()
    return [
        name
        for name in names
        if any(fnmatch(name, pattern) for pattern in patterns)
        and not any(fnmatch(name, pattern) for pattern in left)
    ]


def make_repository(
    api: HfApi, repo_id: str, repo_type: str, private: bool | None, revision: str | None
) -> None:
    """Create the repository and the branch if needed; refuse a public one if a private one is wanted."""
    api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True)
    if private and not api.repo_info(repo_id, repo_type=repo_type).private:  # create_repo ignores this
        raise PublishError(
            f"{repo_id} already exists and is public, but a private one was requested; make it private or "
            "choose another name. Nothing was uploaded"
        )
    if revision:
        api.create_branch(repo_id, repo_type=repo_type, branch=revision, exist_ok=True)


def retry_command(folder: str | Path, repo_id: str, private: bool | None, revision: str | None) -> str:
    """The command that pushes the same folder again."""
    words = [*PROGRAM.split(), "model", str(folder), "--hub_model_id", repo_id]
    words += ["--hub_private_repo"] if private else []
    words += ["--hub_revision", revision] if revision else []
    return shlex.join(words)


@contextmanager
def hub_errors(consequence: str) -> Iterator[None]:
    """Turn the many errors of the Hub's client into one message, without the request's headers."""
    try:
        yield
    except PublishError:
        raise
    except Exception as error:  # the client, its HTTP library and xet have error classes of their own
        raise PublishError(f"{SECRET.sub('***', reason(error))}. {consequence}") from error


def reason(error: Exception) -> str:
    """What went wrong, in one line."""
    if isinstance(error, LocalTokenNotFoundError):
        return "found no Hub token; set HF_TOKEN or run 'hf auth login'"
    first = error
    while not isinstance(first, HfHubHTTPError) and first.__cause__ is not None:
        first = first.__cause__  # the client wraps a failed upload in errors without the reason
    said = " ".join(str(first).split())[:300]
    if isinstance(first, HfHubHTTPError) and first.response.status_code in (401, 403):
        status, said = first.response.status_code, f": {first.server_message}" if first.server_message else ""
        return f"the Hub refused the token ({status}{said}); use one that may write to the repository"
    return f"the Hub could not be used ({type(first).__name__}: {said})"


def push_dataset(
    repo_id: str,
    data_dir: str | None = None,
    name: str = "jnlpba",
    *,
    token: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
) -> str:
    """Push the corpus as Parquet with its card, so that load_dataset(USER/NAME) works; return USER/NAME.

    Raises:
        CorpusError: the corpus can't be read.
        PublishError: the Hub refused the request or was not reached; the same command continues.
    """
    sha256 = source_sha256(data_dir, name)
    corpus = load_jnlpba(data_dir, name)
    token = stripped(token)
    repo_id = check_access(repo_id, repo_id, token)
    with hub_errors("The corpus may be incomplete on the Hub; run the same command again"):
        api = HfApi(token=token)
        make_repository(api, repo_id, "dataset", private, revision)
        corpus.push_to_hub(repo_id, token=token, private=private, revision=revision)
        pushed = api.hf_hub_download(repo_id, CARD, repo_type="dataset", revision=revision)
        card = dataset_card(pushed, repo_id, corpus_name(name, sha256), corpus, sha256)
        api.upload_file(
            repo_id=repo_id,
            repo_type="dataset",
            revision=revision,
            path_in_repo=CARD,
            path_or_fileobj=card.encode(),
            commit_message="Card with counts, checksums and citation",
        )
    return repo_id


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace]:
    parser = PlainParser(prog=PROGRAM, description="Publish on the Hub.", allow_abbrev=False)
    kinds = parser.add_subparsers(dest="kind", required=True)
    model = kinds.add_parser("model", help="a finished run", allow_abbrev=False)
    model.add_argument("folder", type=Path, help="an output folder of run_ner.py")
    model.add_argument("--hub_model_id", help="USER/NAME or NAME (the folder's name if not given)")
    corpus = kinds.add_parser("dataset", help="the corpus, as Parquet", allow_abbrev=False)
    corpus.add_argument("repo_id", metavar="USER/NAME", help="the data set's name on the Hub")
    corpus.add_argument(
        "--data_dir", help="a folder with train.tsv, devel.tsv and test.tsv (else downloaded)"
    )
    corpus.add_argument("--dataset_config_name", default="jnlpba", help="jnlpba, or sample")
    for command in (model, corpus):
        command.add_argument(
            "--hub_private_repo", type=string_to_bool, nargs="?", const=True, help="a private repository"
        )
        command.add_argument("--hub_revision", help="a branch to push to, created if needed")
    return (parser.parse_args(argv),)


def work(given: argparse.Namespace) -> None:
    options = {"private": given.hub_private_repo, "revision": given.hub_revision}
    if given.kind == "dataset":
        repo_id = push_dataset(given.repo_id, given.data_dir, given.dataset_config_name, **options)
        print(f'Published: load_dataset("{repo_id}")')
    else:
        check_run(given.folder)
        repo_id = check_access(given.hub_model_id, given.folder, token=None)
        print(f"Published: {publish_run(given.folder, repo_id, **options)}")
        if card_was_edited(given.folder):
            print(
                f"{given.folder / CARD} is not the card of this run, so it was published as it is. For a new "
                "card, delete the file and start the command again"
            )


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    return run_command(PROGRAM, argv, parse, work, "the same command continues")


if __name__ == "__main__":
    sys.exit(main())
