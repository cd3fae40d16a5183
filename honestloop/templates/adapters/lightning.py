"""lightning.Trainer by automatic optimization, graded: training_step returns the mean of its micro-batch."""

import os

import lightning
from lightning.pytorch.callbacks import ModelCheckpoint

from honestloop.templates.adapters.lightning_parts import QUIET, RecordedModule, loader
from honestloop.templates.adapters.torch_parts import OWNED_LOOP, OwnedLoop, SmallModel, alone, narrow

CAPABILITIES, TRAINER_PARTS = ["trainer"], ["grad_norm", "evaluate"]
CONVENTIONS = OWNED_LOOP | {"schedule": "nanogpt", "clip": "torch", "empty_evaluation": "raises"}
CONVENTIONS["domain"] = "full equal unmasked micro-batches"  # each weighs the same, whatever it predicts


class Module(RecordedModule):
    def training_step(self, batch, index):
        loss = self.model.loss(*batch)
        self.losses.append(loss.item())
        return loss

    def validation_step(self, batch, index):
        self.log("loss", self.model.loss(*batch), batch_size=int((batch[1] >= 0).sum()))

    def configure_optimizers(self):
        optimizer, schedule = self.loop.adamw()
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class trainer(OwnedLoop):
    @alone
    def __init__(self, params, s):
        lightning.seed_everything(narrow(s["seed"]), verbose=False)
        super().__init__(SmallModel, params, s)
        self.module = Module(self)
        self.files = {"enable_checkpointing": self.keeps, "default_root_dir": self.folder}
        self.window = {"gradient_clip_val": s["max_norm"], "accumulate_grad_batches": s["accumulate"]}

    @alone
    def run(self, micro_batches, epochs, resumed):
        save = [ModelCheckpoint(self.folder, every_n_train_steps=1, save_last=True)] if self.keeps else []
        ends = {"max_epochs": epochs, "max_steps": self.stop_after or -1}
        trainer = lightning.Trainer(callbacks=save, **ends, **self.window, **self.files, **QUIET)
        data = loader(micro_batches)
        trainer.fit(self.module, data, ckpt_path=resumed and os.path.join(resumed, "last.ckpt"))

    @alone
    def evaluate(self, batches):
        data = loader(batches)
        return lightning.Trainer(**QUIET).validate(self.module, data, verbose=False)[0]["loss"]
