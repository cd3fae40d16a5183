"""What an adapter of transformers.Trainer needs beside its arguments: the model in its form, and a look at its log."""

import transformers
from transformers.loss.loss_utils import ForCausalLMLoss

from honestloop.templates.adapters.torch_parts import SmallModel

QUIET = {"use_cpu": True, "disable_tqdm": True, "report_to": "none"}
MICRO_BATCHES = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "train_sampling_strategy": "sequential",
    "remove_unused_columns": False,
    "label_names": ["labels"],
    "prediction_loss_only": True,
    "logging_steps": 1,
    "save_steps": 1,
    **QUIET,
}
"""TrainingArguments of a data set whose rows are micro-batches, in order; every update is logged."""
transformers.logging.set_verbosity_error()


class Model(SmallModel):
    """The small model, as Trainer wants it: its batch by name, its loss in the result, counts passed on to the loss."""

    def forward(self, input_ids, labels, **counts):
        """The loss of tokens [B, T] and labels [B, T], which are not shifted."""
        logits = super().forward(input_ids)
        return {"loss": ForCausalLMLoss(logits, labels, logits.shape[-1], shift_labels=labels, **counts)}


class Watch(transformers.TrainerCallback):
    """Hands the log of every update to the loop, and ends the run where the loop says."""

    def __init__(self, loop):
        self.loop = loop

    def on_log(self, args, state, control, logs, **_):
        """A line of the log: loss, rate and norm of one update, or something else."""
        if "grad_norm" in logs:
            self.loop.record(logs["loss"], logs["learning_rate"], logs["grad_norm"])

    def on_step_end(self, args, state, control, **_):
        """The end of an update."""
        control.should_training_stop |= state.global_step == self.loop.stop_after
