"""transformers.Trainer, graded: its loop, its loss, its schedule and its checkpoints."""

import transformers
from transformers.trainer_utils import get_last_checkpoint

from honestloop.templates.adapters.torch_parts import OWNED_LOOP, OwnedLoop, alone, labelled, narrow
from honestloop.templates.adapters.trainer_parts import MICRO_BATCHES, Model, Watch

CAPABILITIES, TRAINER_PARTS = ["trainer"], ["grad_norm", "evaluate"]
CONVENTIONS = OWNED_LOOP | {"dtypes": "float32", "schedule": "huggingface", "clip": "torch"}


class trainer(OwnedLoop):
    @alone
    def __init__(self, params, settings):
        super().__init__(Model, params, settings)
        arguments = transformers.TrainingArguments(
            self.folder,
            seed=narrow(settings["seed"]),
            gradient_accumulation_steps=settings["accumulate"],
            learning_rate=settings["peak"],
            warmup_steps=settings["warmup"],
            lr_scheduler_type="cosine_with_min_lr",
            lr_scheduler_kwargs={"min_lr_rate": self.lowest_share},
            adam_beta1=settings["beta1"],
            adam_beta2=settings["beta2"],
            adam_epsilon=settings["eps"],
            weight_decay=settings["weight_decay"],
            max_grad_norm=settings["max_norm"],
            save_strategy="steps" if self.keeps else "no",
            **MICRO_BATCHES,
        )
        self.trainer = transformers.Trainer(self.model, arguments, lambda rows: rows[0])
        self.trainer.add_callback(Watch(self))
        self.trainer.remove_callback(transformers.PrinterCallback)
        make = (
            self.trainer.create_scheduler
        )  # of as many updates as the settings say, not of those of this run
        self.trainer.create_scheduler = lambda num_training_steps: make(settings["total"])

    @alone
    def run(self, micro_batches, epochs, resumed):
        rows = [{"input_ids": x, "labels": y} for x, y in labelled(micro_batches)]
        self.trainer.train_dataset, self.trainer.args.num_train_epochs = rows, epochs
        self.trainer.train(resume_from_checkpoint=resumed and get_last_checkpoint(resumed))

    @alone
    def evaluate(self, batches):
        rows = [{"input_ids": x, "labels": y} for x, y in labelled(batches)]
        return self.trainer.evaluate(rows)["eval_loss"]
