"""The Trainer callback that writes the reports while the model trains.

trainer.add_callback(ReportCallback(output_dir, lambda: scorer.result, overview))
"""

from collections.abc import Callable

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ner_recipe.reports.files import clear_results
from ner_recipe.reports.history import improves, training_facts
from ner_recipe.reports.page import Overview, PageContent, write_page
from ner_recipe.reports.result import SplitResult, with_facts
from ner_recipe.reports.text import write_split


class ReportCallback(TrainerCallback):
    """Writes the validation files each time the selecting score improves, and refreshes the page each time.

    The results of an earlier run in the folder are removed when this run has a model to put there: at its
    first evaluation or checkpoint, or at its end. A run that fails before leaves them alone.
    `latest` returns the result of the evaluation that just ended, `overview` the corpus as the page shows it.
    Without an `overview` there is no page.
    """

    def __init__(
        self,
        output_dir: str,
        latest: Callable[[], SplitResult],
        overview: Callable[[], Overview] | None = None,
    ):
        self.output_dir, self.latest, self.overview = output_dir, latest, overview
        self.best: SplitResult | None = None  # of this process: a resumed run may meet only worse ones
        self.best_step = 0
        self.cleared = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        # Log at each evaluation. The training loss beside a score is then that of the steps since the last
        # one, and a resumed run logs the same numbers as an uninterrupted one.
        control.should_log |= control.should_evaluate
        return control

    on_epoch_end = on_step_end

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self.clear_once(args, state)

    on_train_end = on_save

    def clear_once(self, args: TrainingArguments, state: TrainerState) -> None:
        """Remove the results of an earlier run, if that was not done yet."""
        if not self.cleared and state.is_world_process_zero:
            clear_results(self.output_dir, training=True, resumed=bool(args.resume_from_checkpoint))
        self.cleared = True

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: dict, **kwargs
    ):
        if (
            not state.is_world_process_zero or not state.epoch
        ):  # before the first step there is nothing to keep
            return
        self.clear_once(args, state)
        improved = improves(args, state, metrics)
        if improved or self.best is None:
            self.best = with_facts(self.latest(), training_facts(args, state.log_history))
            self.best_step = state.global_step
        if improved:
            write_split(self.output_dir, "validation", self.best)
        if self.overview:
            progress = f"training: epoch {round(state.epoch, 2):g} of {state.num_train_epochs:g}"
            content = PageContent(
                {"validation": self.best}, self.overview(), state.log_history, self.best_step, status=progress
            )
            write_page(self.output_dir, content)
