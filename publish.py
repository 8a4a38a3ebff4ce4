"""The way to the Hub: the token is tried before a run begins, the folder goes up in one commit at its end.

    python publish.py OUTPUT_DIR --hub_model_id USER/NAME [--hub_private_repo] [--hub_revision BRANCH]

The command is for a finished run that was not pushed, or whose push failed; run_ner.py's `--push_to_hub` does
the same. `HF_TOKEN` or `hf auth login` give the token, `HF_ENDPOINT` another Hub. Imports model_card and
report.
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

from model_card import CardError, write_model_card
from report import PAGE, RESULT_FILES, write_text

# What goes up: nothing that merely lies in the folder, such as a corpus, a cache or a checkpoint.
MODEL_FILES = (
    *("README.md", "config.json", "*.safetensors", "*.safetensors.index.json"),
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model"),
)
CORPUS_TEXT = ("predictions_*.tsv", "mistakes_*.txt", PAGE)  # files that hold the sentences themselves


class PublishError(RuntimeError):
    """The Hub refused or was not reached; says what is safe and how to go on."""


def check_access(repo_id: str | None, folder: str | Path, token: str | None) -> str:
    """Ask the Hub whose token this is, before any work is done; returns the full USER/NAME.

    Args:
        repo_id: NAME, USER/NAME, or None for the name of `folder`.
        token: None for the one that `hf auth login` or HF_TOKEN gave.

    Raises:
        PublishError: no token, one that is refused or may only read, no Hub, a name that can't be.
    """
    repo_id = repo_id or Path(folder).resolve().name
    with hub_errors("Nothing was done"):
        who = HfApi(token=token).whoami()
    role = who.get("auth", {}).get("accessToken", {}).get("role")
    if role == "read":
        raise PublishError(
            "the Hub says that this token may only read; expected one that may write. Nothing was done"
        )
    full = repo_id if "/" in repo_id else f"{who['name']}/{repo_id}"
    try:
        validate_repo_id(full)
    except HFValidationError as error:
        raise PublishError(f"the repository's name: found '{repo_id}'; {error}") from None
    return full


def publish_folder(
    folder: str | Path,
    repo_id: str,
    *,
    token: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
) -> str:
    """Put a finished run into a model repository (made if there is none) in one commit; returns its URL.

    `upload_folder` would make several commits of a slow upload, and a reader could meet half a model. Files
    that the recipe writes go up, and no others; of a corpus that is not public not those with its text. An
    earlier model's reports are removed: they have no place beside this one.

    Raises:
        PublishError: with the command that does the same later.
    """
    retry = retry_command(folder, repo_id, private, revision)
    with hub_errors(f"{folder} is whole; to try again, with HF_TOKEN or after 'hf auth login': {retry}"):
        run = json.loads(Path(folder, "run.json").read_text(encoding="utf-8"))
        names = published_files(folder, run["corpus"])
        api = HfApi(token=token)
        make_repository(api, repo_id, "model", private, revision)
        there = api.list_repo_files(repo_id, revision=revision)
        operations = [
            *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=Path(folder, name)) for name in names),
            *(CommitOperationDelete(name) for name in there if name in RESULT_FILES and name not in names),
        ]
        message = f"{run['name']}: trained by {run['command']} at {run['commit']}"
        return api.create_commit(repo_id, operations, commit_message=message, revision=revision).commit_url


def published_files(folder: str | Path, corpus: str) -> list[str]:
    """Names of the files of a folder that go up: model, tokenizer, card, and the run's own reports."""
    patterns = (*MODEL_FILES, *RESULT_FILES)
    places = (Path(folder), Path(folder, "figures"))
    files = [path for place in places if place.is_dir() for path in place.iterdir() if path.is_file()]
    names = sorted(path.relative_to(folder).as_posix() for path in files)
    left = CORPUS_TEXT if corpus == "custom" else ()
    return [
        name
        for name in names
        if any(fnmatch(name, pattern) for pattern in patterns)
        and not any(fnmatch(name, pattern) for pattern in left)
    ]


def make_repository(
    api: HfApi, repo_id: str, repo_type: str, private: bool | None, revision: str | None
) -> None:
    """Make a repository and a branch where there are none; refuse a public one where a private is wanted."""
    api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True)
    if private and not api.repo_info(repo_id, repo_type=repo_type).private:  # create_repo passes over it
        raise PublishError(
            f"{repo_id} is there already and public, where a private one is asked for; make it private or "
            "choose another name. Nothing went up"
        )
    if revision:
        api.create_branch(repo_id, repo_type=repo_type, branch=revision, exist_ok=True)


def retry_command(folder: str | Path, repo_id: str, private: bool | None, revision: str | None) -> str:
    words = ["python", "publish.py", str(folder), "--hub_model_id", repo_id]
    words += ["--hub_private_repo"] if private else []
    words += ["--hub_revision", revision] if revision else []
    return shlex.join(words)


@contextmanager
def hub_errors(consequence: str) -> Iterator[None]:
    """Turn what the Hub's client raises, of many classes, into one message without the request's headers."""
    try:
        yield
    except PublishError:
        raise
    except Exception as error:  # the client, its HTTP library and xet have error classes of their own
        raise PublishError(f"{reason(error)}. {consequence}") from error


def reason(error: Exception) -> str:
    """What went wrong, in one line."""
    if isinstance(error, LocalTokenNotFoundError):
        return "found no Hub token; expected HF_TOKEN or a login by 'hf auth login'"
    first = error
    while not isinstance(first, HfHubHTTPError) and first.__cause__ is not None:
        first = first.__cause__  # the client wraps a failed upload in errors that do not say why
    said = " ".join(str(first).split())[:300]
    if isinstance(first, HfHubHTTPError) and first.response.status_code in (401, 403):
        status, said = first.response.status_code, f": {first.server_message}" if first.server_message else ""
        return f"the Hub refused the token ({status}{said}); expected one that may write to the repository"
    return f"the Hub could not be used ({type(first).__name__}: {said})"


def name_on_card(folder: Path, repo_id: str, revision: str | None) -> None:
    """Write the repository's name into run.json and the card, so that the card's code loads it from there."""
    try:
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        named = {**run, "repository": repo_id, "revision": revision}
    except (OSError, ValueError, TypeError) as error:
        raise CardError(f"{folder}: {error}; expected the folder of a finished run") from None
    write_text(folder / "run.json", json.dumps(named, indent=2) + "\n")
    write_model_card(folder)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Push a finished run to the Hub.", allow_abbrev=False)
    parser.add_argument("folder", type=Path, help="an output folder of run_ner.py")
    parser.add_argument("--hub_model_id", help="USER/NAME or NAME (the folder's name if not given)")
    parser.add_argument("--hub_private_repo", action="store_true", default=None, help="a private repository")
    parser.add_argument("--hub_revision", help="a branch to push to (made if there is none)")
    given = parser.parse_args(argv)
    try:
        repo_id = check_access(given.hub_model_id, given.folder, token=None)
        name_on_card(given.folder, repo_id, given.hub_revision)
        url = publish_folder(
            given.folder, repo_id, private=given.hub_private_repo, revision=given.hub_revision
        )
    except (PublishError, CardError) as error:
        print(f"publish.py: error: {error}", file=sys.stderr)
        return 1
    print(f"Published: {url}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
