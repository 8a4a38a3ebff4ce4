"""Fine-tune an encoder for named entity recognition: load, encode, train, evaluate, serve, report, publish.

accelerate launch run_ner.py configs/quickstart.yaml [--flag value ...]     # flags win over the file
python run_ner.py --help
"""

import dataclasses
import functools
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ner_recipe.arguments import DataArguments, ModelArguments, RecipeArguments
from ner_recipe.checkpoints import delete_checkpoints, only_run
from ner_recipe.checks import parse_arguments
from ner_recipe.corpora.loading import CUSTOM
from ner_recipe.corpora.splits import training_texts
from ner_recipe.launch import one_process_note, run_command
from ner_recipe.models import attention_name, resolve_model
from ner_recipe.publishing import CORPUS_TEXT, check_access, naming_the_flag, publish_run
from ner_recipe.reports.callback import ReportCallback
from ner_recipe.reports.files import clear_results, write_text
from ner_recipe.reports.history import kept_history
from ner_recipe.reports.page import corpus_overview, final_content, write_page
from ner_recipe.reports.record import run_facts, run_record
from ner_recipe.reports.result import SplitResult
from ner_recipe.reports.text import render_mistakes, render_summary, write_split
from ner_recipe.serving import pipeline_settings, serve_check
from ner_recipe.training import NerTrainer, build_trainer, evaluate, prepare, save_result, train


def run(
    argv: Sequence[str], model_args: ModelArguments, data_args: DataArguments, args: RecipeArguments
) -> None:
    """One run, from the corpus to the published model."""
    start = time.perf_counter()
    repository, token = check_publishing(args)
    needed = {"train": args.do_train, "validation": args.do_train or args.do_eval, "test": args.do_predict}
    roles = [role for role, is_needed in needed.items() if is_needed]
    model, tokenizer, splits = prepare(roles, model_args, data_args, args)
    facts = run_facts(model_args, data_args, args, argv)
    texts = training_texts(splits.get("train"), data_args.train_on)
    trainer, scorers = build_trainer(model, tokenizer, splits, args, facts | texts)
    overview = None
    if trainer.is_world_process_zero():
        # Counted when the first page is drawn: the training does not wait for it.
        overview = functools.cache(lambda: corpus_overview(splits)) if data_args.do_report_page else None
        choices = [f"Precision: {args.precision_reason}", f"Attention: {attention_name(model)}"]
        if args.resume_from_checkpoint:
            passed = f" ({args.resuming_note})" if args.resuming_note else ""
            choices.append(f"Resuming from {args.resume_from_checkpoint}{passed}")
        print(*choices, *one_process_note(args.world_size), sep="\n")
        if not args.do_train:
            clear_results(args.output_dir, training=False, resumed=False)
    reports = ReportCallback(args.output_dir, lambda: scorers["validation"].result, overview)
    if args.do_train:
        trainer.add_callback(reports)
        train(trainer)
        trainer.remove_callback(reports)
    results = evaluate(trainer, scorers)
    if trainer.is_world_process_zero():
        if data_args.do_serve_check:
            results = serve(trainer, model_args, results)
        pipeline = pipeline_settings(data_args.max_seq_length, results, splits)
        record = run_record(model_args, data_args, trainer, splits, facts, pipeline)
        record["seconds"] = round(time.perf_counter() - start, 1)
        write_reports(trainer, results, record, data_args.show_mistakes)
        shown = results or ({"validation": reports.best} if reports.best else {})
        if overview and shown:
            kept = kept_history(args, trainer.state)
            content = final_content(shown, overview(), trainer.state.log_history, kept, record)
            write_page(args.output_dir, content, with_figures=True)
        finish(trainer, results)
        if repository:
            publish(args, repository, token, record["corpus"])
    trainer.end()


def check_publishing(args: RecipeArguments) -> tuple[str | None, str | None]:
    """The repository to publish to and the token, which is checked; None if nothing is to be published.

    Trainer does not learn of either. It would create the repository at once, push at each checkpoint, and
    write the token into each checkpoint's training_args.bin.
    """
    wanted, args.push_to_hub = args.push_to_hub, False
    token, args.hub_token = args.hub_token, None
    if not wanted or args.process_index > 0:
        return None, None
    with naming_the_flag():
        return check_access(args.hub_model_id, args.output_dir, token), token


def serve(
    trainer: NerTrainer, model_args: ModelArguments, results: Mapping[str, SplitResult]
) -> dict[str, SplitResult]:
    """Score what `pipeline("ner")` returns, with the saved model or the given one."""
    args = trainer.args
    place = {"model": args.output_dir}
    if not args.do_train:
        place = {
            "model": resolve_model(model_args.model_name_or_path),
            "revision": model_args.model_revision,
            "model_kwargs": {"cache_dir": model_args.cache_dir},
        }
    served = {}
    for role, result in results.items():
        scores = serve_check(**place, result=result, device=args.device, disable_tqdm=args.disable_tqdm)
        served[role] = dataclasses.replace(result, served=scores)
        save_result(trainer, role, served[role])
    return served


def write_reports(
    trainer: NerTrainer, results: Mapping[str, SplitResult], record: Mapping, show_mistakes: int
) -> None:
    """Write the files of each split and run.json; print the first mistakes if asked to."""
    folder = trainer.args.output_dir
    for role, result in results.items():
        write_split(folder, role, result, record["pipeline"]["aggregation_strategy"])
        if show_mistakes:
            print(f"Mistakes on {role}:", render_mistakes(result, show_mistakes), sep="\n")
    write_text(Path(folder) / "run.json", json.dumps(record, indent=2) + "\n")


def finish(trainer: NerTrainer, results: Mapping[str, SplitResult]) -> None:
    """Write the card, delete the checkpoints of the finished run, and print the final screen."""
    args = trainer.args
    if args.do_train:
        trainer.create_model_card()
        delete_checkpoints(args.output_dir)
    print(render_summary(results, args.output_dir))


def publish(args: RecipeArguments, repository: str, token: str | None, corpus: str) -> None:
    """Push the finished folder, and say which files stay local."""
    options = {"token": token, "private": args.hub_private_repo, "revision": args.hub_revision}
    with naming_the_flag():
        url = publish_run(args.output_dir, repository, **options)
    kept = ", ".join(CORPUS_TEXT) if corpus == CUSTOM else ""
    print(
        f"Published: {url}" + (f" (kept local, because they hold the corpus's text: {kept})" if kept else "")
    )


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv

    def work(*arguments) -> None:
        with only_run(arguments[-1]):
            run(argv, *arguments)

    return run_command(
        "run_ner.py",
        argv,
        parse=parse_arguments,
        work=work,
        when_interrupted="if a checkpoint was saved, --resume_from_checkpoint continues from it",
    )


if __name__ == "__main__":
    sys.exit(main())
