"""The definition of done, as data: every gate, every check in it, and every negative control it must refuse.

The verdict is read against these tables, not against what happened to run: a check that is listed here and left no
finding did not pass.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One thing a gate establishes, and the rule (reference/rules.toml) that a subject breaks if it does not hold."""

    establishes: str
    rule: str


@dataclass(frozen=True)
class Gate:
    """One condition of the definition of done. The test file is `gates/test_<name>.py`."""

    name: str
    title: str
    checks: Mapping[str, Check]


@dataclass(frozen=True)
class Control:
    """A subject or an input that is wrong in one way, and the check that must refuse it for that reason."""

    name: str
    gate: str
    check: str
    wrong: str
    because: str  # words that the refusal must contain
    bugs: tuple[int, ...] = ()  # rows of the catalogue of real bugs that it stands for
    always: bool = False  # whether it is tried in every session, or only with --all-controls


RATIO_LIMIT = 0.7

GATES = (
    Gate(
        "perplexity",
        "Perplexity",
        {
            "committed": Check("val perplexity <= 0.7 x the strongest n-gram, committed split", "PPL-02"),
            "blind": Check(
                "the same on cells of a fresh split in made-up words that the subject never got", "PPL-02"
            ),
            "ruler": Check("uniform weights read perplexity V", "PPL-01"),
            "causality": Check("future tokens do not change earlier logits", "MODEL-05"),
            "padding": Check("what stands in the padding does not change any logit", "MODEL-06"),
            "oracle": Check("fp64 logits agree with the oracle", "MODEL-04"),
            "split": Check("no val or test cell in train; files read as handed over", "DATA-06"),
            "overlap": Check("a data directory whose splits overlap is refused, status 2", "DATA-07"),
            "reported": Check("reported perplexities and baselines agree with recomputed ones", "PPL-03"),
            "tokenizer": Check("the tokenizer is the one its training split gives", "PPL-04"),
        },
    ),
    Gate(
        "update",
        "Every update is the formula",
        {
            "init": Check("the first weights follow their law and the seed", "UPDATE-09"),
            "log": Check("replayed: loss, gradient norm, rate, epoch, tokens of a step", "UPDATE-01"),
            "moments": Check("replayed: both moments of every parameter", "UPDATE-02"),
            "weights": Check("replayed: every parameter", "UPDATE-03"),
            "schedule": Check("every rate of two logs is the schedule's", "UPDATE-04"),
            "data": Check("epoch and tokens of every line of two logs are the data's", "UPDATE-05"),
            "evaluation": Check("val losses are those of the checkpoints, without dropout", "UPDATE-06"),
            "cadence": Check("evaluations and checkpoints when due, and at the end", "UPDATE-07"),
            "finite": Check("a run that diverges keeps no NaN", "UPDATE-08"),
        },
    ),
    Gate(
        "resume",
        "Resume is bit-identical",
        {
            "rerun": Check("the same run twice is identical", "RESUME-01"),
            "cuts": Check("the interruptions fall where they claim to", "RESUME-02"),
            "first-step": Check("stopped after step 1", "RESUME-03"),
            "warm-up": Check("stopped inside the warm-up", "RESUME-03"),
            "mid-epoch": Check("stopped in the middle of an epoch", "RESUME-03"),
            "epoch-edge": Check("stopped at the edge of an epoch", "RESUME-03"),
            "last-step": Check("stopped one step before the end", "RESUME-03"),
            "twice": Check("stopped twice in one run", "RESUME-03"),
            "kill-early": Check("SIGKILL at a random moment before the first checkpoint", "RESUME-04"),
            "kill-late": Check("SIGKILL at a random moment after a checkpoint", "RESUME-04"),
            "terminate": Check("SIGTERM: a checkpoint, status 0", "RESUME-05"),
            "used": Check("a changed checkpoint changes what is resumed from it", "RESUME-06"),
            "torn": Check("a checkpoint that is half zeros is not resumed from", "RESUME-07"),
        },
    ),
    Gate(
        "reload",
        "Reload",
        {
            "logits": Check("a fresh process gives the live logits, byte for byte", "CKPT-01"),
            "name": Check("the file name carries the sha256 of the file", "CKPT-02"),
            "tensors": Check("103,680 finite parameters, tied head stored once", "CKPT-03"),
            "checkpoint": Check("the model file holds the weights of the last checkpoint", "CKPT-04"),
        },
    ),
    Gate(
        "no_pickle",
        "No pickle",
        {
            "source": Check("no way to unpickle in the subject's source", "CKPT-05"),
            "artefacts": Check("every file of the run is of an allowed format, by its bytes", "CKPT-06"),
            "process": Check("a step, a save and a load where unpickling raises", "CKPT-07"),
        },
    ),
    Gate(
        "manifest",
        "Manifest is valid and true",
        {
            "schema": Check("valid by the JSON Schema", "MAN-01"),
            "hashes": Check("config, corpus and tokenizer hashes recomputed", "MAN-02"),
            "git": Check("the commit, the dirty flag and the hash of the diff", "MAN-03"),
            "packages": Check("versions as installed", "MAN-04"),
            "machine": Check("Python, operating system, processor, memory, BLAS, numba", "MAN-05"),
            "run": Check("command line, seed, streams, start, parameters, loss reduction", "MAN-06"),
            "first": Check("written before step 1 and never edited", "MAN-07"),
        },
    ),
    Gate(
        "mlflow",
        "MLflow",
        {
            "run": Check("one finished run with this run id, in a SQLite store by default", "TRACK-01"),
            "metrics": Check("metric curves equal the log", "TRACK-02"),
            "parameters": Check("parameters equal the resolved configuration", "TRACK-03"),
            "artefacts": Check("manifest and plots as artefacts, equal to the files", "TRACK-04"),
        },
    ),
    Gate(
        "drift",
        "Low-precision drift",
        {
            "report": Check("drift report, plot and list of argmax flips exist", "DRIFT-01"),
            "errors": Check("relative errors agree with a recomputation", "DRIFT-02"),
            "flips": Check("argmax flips agree with a recomputation", "DRIFT-03"),
        },
    ),
    Gate(
        "strength",
        "The suite kills mutants",
        {"mutants": Check("mutants are refused by the rules that name their mistakes", "SUITE-01")},
    ),
)

CONTROLS = (
    Control("untrained", "perplexity", "committed", "weights as initialised", "ratio", always=True),
    Control("no_causal_mask", "perplexity", "causality", "trained without its causal mask", "future"),
    Control("unshifted_targets", "perplexity", "committed", "trained to copy its input", "ratio", bugs=(23,)),
    Control(
        "claims_better", "perplexity", "reported", "claims half its perplexity", "perplexity.val", always=True
    ),
    Control(
        "swallows_overlap",
        "perplexity",
        "split",
        "trains on a split that overlaps",
        "train and val",
        always=True,
    ),
    Control(
        "initial_deviation", "update", "init", "matrices start ten times too large", "deviation", bugs=(59,)
    ),
    Control(
        "forgets_to_initialise",
        "update",
        "init",
        "one LayerNorm is left uninitialised",
        "ln_final.gamma",
        bugs=(58,),
    ),
    Control(
        "same_start_for_every_seed",
        "update",
        "init",
        "first weights ignore the seed",
        "another seed",
        bugs=(138,),
    ),
    Control(
        "logs_last_row",
        "update",
        "log",
        "logs the loss of the last row",
        "update 2: loss",
        bugs=(9,),
        always=True,
    ),
    Control(
        "divides_logged_loss", "update", "log", "divides the logged loss twice", "update 2: loss", bugs=(10,)
    ),
    Control(
        "sums_loss", "update", "log", "sums the loss instead of averaging it", "update 2: loss", bugs=(20,)
    ),
    Control("logs_clipped_norm", "update", "log", "logs the norm after clipping", "update 7: grad_norm"),
    Control(
        "partial_norm",
        "update",
        "log",
        "the norm is that of a part of the gradients",
        "update 2: grad_norm",
        bugs=(62, 64),
    ),
    Control("shifts_twice", "update", "log", "predicts the token after next", "update 2: loss", bugs=(22,)),
    Control(
        "dropout_ends_with_evaluation",
        "update",
        "moments",
        "dropout stays off after an evaluation",
        "no dropout",
        bugs=(108,),
    ),
    Control(
        "shares_streams",
        "update",
        "moments",
        "dropout draws from the data's stream",
        "54 of 54 tensors",
        bugs=(104,),
    ),
    Control(
        "evaluation_draws",
        "update",
        "moments",
        "evaluation consumes the dropout stream",
        "the dropout masks of a later step",
        bugs=(113,),
    ),
    Control("no_dropout", "update", "moments", "dropout is configured and not applied", "no dropout"),
    Control(
        "forgets_zero_grad",
        "update",
        "moments",
        "gradients are not zeroed",
        "not zeroed",
        bugs=(6, 7, 8),
        always=True,
    ),
    Control(
        "trains_on_padding", "update", "moments", "the loss mask is lost on its way", "padding", bugs=(25,)
    ),
    Control(
        "forgets_head_gradient",
        "update",
        "moments",
        "the tied head gives no gradient",
        "2 of 54 tensors, first m.E[",
        bugs=(135,),
    ),
    Control(
        "recomputes_wrong_block",
        "update",
        "moments",
        "block 1 is differentiated with block 0's weights",
        "tensors",
        bugs=(140,),
    ),
    Control("forgets_clip", "update", "moments", "gradients are not clipped", "no clipping", bugs=(65,)),
    Control(
        "clips_after_update",
        "update",
        "moments",
        "clips after the update",
        "no clipping, or clipping after",
        bugs=(61,),
    ),
    Control(
        "clips_each_tensor",
        "update",
        "moments",
        "clips each tensor by itself",
        "54 of 54 tensors",
        bugs=(62, 64),
    ),
    Control(
        "squares_before_clip",
        "update",
        "moments",
        "second moment from the gradient before clipping",
        "27 of 54 tensors, first v.",
    ),
    Control(
        "decays_everything",
        "update",
        "weights",
        "decays biases and LayerNorm parameters",
        "decay of biases",
        bugs=(42, 54),
    ),
    Control(
        "misses_a_parameter",
        "update",
        "weights",
        "a parameter is missing from the optimizer's list",
        "1 of 27 tensors, first ln_final.beta",
        bugs=(52,),
    ),
    Control(
        "decay_without_rate",
        "update",
        "weights",
        "decay is not multiplied by the rate",
        "not multiplied by the rate",
        bugs=(41,),
    ),
    Control(
        "l2_decay", "update", "moments", "L2 regularisation instead of decoupled decay", "L2", bugs=(40,)
    ),
    Control(
        "early_epsilon",
        "update",
        "weights",
        "epsilon before the bias correction",
        "epsilon added before",
        bugs=(39,),
        always=True,
    ),
    Control(
        "no_bias_correction",
        "update",
        "weights",
        "the update count stays where the correction is 1",
        "no bias correction",
        bugs=(43,),
    ),
    Control(
        "counts_from_two",
        "update",
        "weights",
        "a dummy step has advanced the update count",
        "one too high",
        bugs=(44,),
    ),
    Control(
        "rate_before",
        "update",
        "weights",
        "the optimizer gets the rate of the update before",
        "rate of the update before",
        bugs=(78,),
    ),
    Control(
        "first_rate_zero",
        "update",
        "schedule",
        "the warm-up starts at 0",
        "update 1",
        bugs=(78,),
        always=True,
    ),
    Control("ticks_twice", "update", "schedule", "the scheduler ticks twice an update", "lr", bugs=(76, 77)),
    Control(
        "wrong_horizon", "update", "schedule", "the cosine ends after half of the run", "lr", bugs=(15, 16)
    ),
    Control(
        "drops_last_batch",
        "update",
        "data",
        "the last batch of an epoch is dropped when it is short",
        "update 7",
        bugs=(12,),
        always=True,
    ),
    Control(
        "same_order_every_epoch",
        "update",
        "data",
        "every epoch has the order of the first",
        "update 8",
        bugs=(90,),
    ),
    Control(
        "evaluation_reads_on",
        "update",
        "data",
        "evaluation advances the training data",
        "update 6",
        bugs=(98, 113),
    ),
    Control(
        "repeats_first_batch", "update", "data", "the first batch is trained on twice", "update 2", bugs=(98,)
    ),
    Control("masks_eos", "update", "data", "the end of a sentence is not predicted", "tokens", bugs=(24,)),
    Control("counts_padding", "update", "data", "padding counts as tokens seen", "tokens", bugs=(112,)),
    Control(
        "dropout_in_evaluation",
        "update",
        "evaluation",
        "dropout during evaluation",
        "val_loss",
        bugs=(109,),
        always=True,
    ),
    Control(
        "evaluation_of_means",
        "update",
        "evaluation",
        "validation loss is the mean of the batches' means",
        "val_loss",
        bugs=(1, 111),
    ),
    Control(
        "validates_on_train",
        "update",
        "evaluation",
        "validation reads the training split",
        "val_loss",
        bugs=(116,),
    ),
    Control(
        "skips_final_evaluation",
        "update",
        "cadence",
        "the final evaluation is skipped",
        "evaluations",
        bugs=(122,),
    ),
    Control(
        "extra_final_checkpoint",
        "update",
        "cadence",
        "a checkpoint more at the end",
        "checkpoints",
        bugs=(139,),
    ),
    Control("best_is_last", "update", "cadence", "the best step is the last one", "best_step", bugs=(118,)),
    Control(
        "ignores_nan",
        "update",
        "finite",
        "NaN is not noticed, and filtered from the log",
        "not finite",
        bugs=(71, 73),
        always=True,
    ),
    Control(
        "late_nan_check", "update", "finite", "NaN is noticed after it was saved", "not finite", bugs=(72, 74)
    ),
    Control(
        "nondeterministic",
        "resume",
        "rerun",
        "draws from the operating system's entropy",
        "nondeterminism",
        always=True,
    ),
    Control(
        "forgets_model",
        "resume",
        "mid-epoch",
        "model not restored",
        "machine model",
        bugs=(131,),
    ),
    Control(
        "forgets_optimizer",
        "resume",
        "mid-epoch",
        "optimizer not restored",
        "machine optimizer",
        bugs=(46, 47),
        always=True,
    ),
    Control(
        "forgets_scheduler",
        "resume",
        "mid-epoch",
        "scheduler not restored",
        "machine scheduler",
        bugs=(82, 131),
    ),
    Control(
        "forgets_data",
        "resume",
        "mid-epoch",
        "data iterator not restored",
        "machine data",
        bugs=(99,),
    ),
    Control(
        "forgets_control",
        "resume",
        "mid-epoch",
        "control RNG not restored",
        "machine control",
        bugs=(103,),
        always=True,
    ),
    Control(
        "forgets_count",
        "resume",
        "mid-epoch",
        "the update count alone is not restored",
        "optimizer.t",
        bugs=(46,),
    ),
    Control(
        "saves_no_moments", "resume", "mid-epoch", "moments are not saved", "machine optimizer", bugs=(47,)
    ),
    Control(
        "saves_half_moments",
        "resume",
        "mid-epoch",
        "moments are saved in half precision",
        "machine optimizer",
        bugs=(49,),
    ),
    Control(
        "resets_rate",
        "resume",
        "mid-epoch",
        "the rate starts again, the step does not",
        "log field lr",
        bugs=(83, 85),
    ),
    Control(
        "resumes_first_order",
        "resume",
        "mid-epoch",
        "a resumed epoch has the order of the first",
        "machine data",
        bugs=(91, 96),
    ),
    Control(
        "skips_prefetched_batch",
        "resume",
        "mid-epoch",
        "the batch that was read ahead is lost",
        "machine data",
        bugs=(95,),
    ),
    Control(
        "repeats_batch_in_flight",
        "resume",
        "mid-epoch",
        "the position is saved before the batch",
        "machine data",
        bugs=(94,),
    ),
    Control(
        "forgets_best",
        "resume",
        "mid-epoch",
        "the best evaluation is not restored",
        "state.json.best",
        bugs=(118, 132),
    ),
    Control(
        "initialises_after_restore",
        "resume",
        "mid-epoch",
        "initial weights are drawn again after the restore",
        "machine model",
        bugs=(138,),
    ),
    Control(
        "second_resume_restarts",
        "resume",
        "twice",
        "a second resume starts the data again",
        "machine data",
        bugs=(93,),
    ),
    Control(
        "trains_again",
        "resume",
        "used",
        "resuming trains again from the start",
        "changed checkpoint",
        bugs=(82,),
    ),
    Control(
        "trusts_torn_checkpoint",
        "resume",
        "torn",
        "the newest checkpoint is trusted as it is",
        "torn",
        bugs=(128,),
    ),
    Control(
        "saves_float16",
        "reload",
        "logits",
        "weights pass through float16 on their way to disk",
        "logits",
        bugs=(49,),
    ),
    Control(
        "unties_head",
        "reload",
        "tensors",
        "the tied head is stored a second time",
        "head",
        bugs=(134, 135),
        always=True,
    ),
    Control(
        "prefixes_names", "reload", "tensors", "names carry the prefix of a wrapper", "_orig_mod", bugs=(133,)
    ),
    Control(
        "one_update_older",
        "reload",
        "checkpoint",
        "the model file is older than the last checkpoint",
        "model file",
        bugs=(125,),
    ),
    Control(
        "pickle_in_checkpoint", "no_pickle", "artefacts", "a pickle in the checkpoint", "pickle", always=True
    ),
    Control(
        "hidden_imports",
        "no_pickle",
        "source",
        "pickle imported in roundabout ways",
        "hidden_imports",
        always=True,
    ),
    Control("unpickles", "no_pickle", "process", "unpickles through a library", "unpickling", always=True),
    Control("manifest_last", "manifest", "first", "manifest written after training", "before", always=True),
    Control(
        "wrong_commit", "manifest", "git", "names a commit that is not checked out", "git.sha", always=True
    ),
    Control("wrong_versions", "manifest", "packages", "names a version that is not installed", "numpy"),
    Control("smooths_metrics", "mlflow", "metrics", "tracked loss is smoothed", "loss", always=True),
    Control(
        "makes_up_drift", "drift", "errors", "drift measured at half its size", "relative_error", always=True
    ),
    Control(
        "harmless_mutant", "strength", "mutants", "a mutant that is the original", "harmless_mutant survives"
    ),
)


def gate(name: str) -> Gate:
    """The gate of that name. KeyError if there is none."""
    return {g.name: g for g in GATES}[name]


def rule_of(where: str) -> str | None:
    """The rule that "gate/check" checks; None if the definition knows no such check."""
    name, _, check = where.partition("/")
    return next((g.checks[check].rule for g in GATES if g.name == name and check in g.checks), None)


def control(name: str) -> Control:
    """The control of that name. KeyError if there is none."""
    return {c.name: c for c in CONTROLS}[name]
