"""The definition of done, as data: every gate, every check in it, and every negative control it must refuse.

The verdict is read against these tables, not against what happened to run: a check that is listed here and left no
finding did not pass.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Gate:
    """One condition of the definition of done. The test file is `gates/test_<name>.py`."""

    name: str
    title: str
    checks: dict[str, str]  # name -> what it establishes


@dataclass(frozen=True)
class Control:
    """A subject or an input that is wrong in one way, and the check that must refuse it for that reason."""

    name: str
    gate: str
    check: str
    wrong: str
    because: str  # words that the refusal must contain


RATIO_LIMIT = 0.7

GATES = (
    Gate(
        "perplexity",
        "Perplexity",
        {
            "committed": "val perplexity <= 0.7 x the strongest n-gram, committed split",
            "blind": "the same on cells of a fresh split in made-up words that the subject never got",
            "ruler": "uniform weights read perplexity V",
            "causality": "future tokens do not change earlier logits",
            "padding": "what stands in the padding does not change any logit",
            "oracle": "fp64 logits agree with the oracle",
            "split": "no val or test cell in train; files read as handed over",
            "overlap": "a data directory whose splits overlap is refused, status 2",
            "reported": "reported perplexities and baselines agree with recomputed ones",
            "tokenizer": "the tokenizer is the one its training split gives",
        },
    ),
    Gate(
        "resume",
        "Resume is bit-identical",
        {
            "rerun": "the same run twice is identical",
            "cuts": "the interruptions fall where they claim to",
            "first-step": "stopped after step 1",
            "warm-up": "stopped inside the warm-up",
            "mid-epoch": "stopped in the middle of an epoch",
            "epoch-edge": "stopped at the edge of an epoch",
            "last-step": "stopped one step before the end",
            "twice": "stopped twice in one run",
            "kill-early": "SIGKILL at a random moment before the first checkpoint",
            "kill-late": "SIGKILL at a random moment after a checkpoint",
            "terminate": "SIGTERM: a checkpoint, status 0",
        },
    ),
    Gate(
        "reload",
        "Reload",
        {
            "logits": "a fresh process gives the live logits, byte for byte",
            "name": "the file name carries the sha256 of the file",
            "tensors": "103,680 finite parameters, tied head stored once",
            "checkpoint": "the model file holds the weights of the last checkpoint",
        },
    ),
    Gate(
        "no_pickle",
        "No pickle",
        {
            "source": "no way to unpickle in the subject's source",
            "artefacts": "every file of the run is of an allowed format, by its bytes",
            "process": "a step, a save and a load where unpickling raises",
        },
    ),
    Gate(
        "manifest",
        "Manifest is valid and true",
        {
            "schema": "valid by the JSON Schema",
            "hashes": "config, corpus and tokenizer hashes recomputed",
            "git": "the commit, the dirty flag and the hash of the diff",
            "packages": "versions as installed",
            "machine": "Python, operating system, processor, memory, BLAS, numba",
            "run": "command line, seed, streams, start, parameters, loss reduction",
            "first": "written before step 1 and never edited",
        },
    ),
    Gate(
        "mlflow",
        "MLflow",
        {
            "run": "one finished run with this run id, in a SQLite store by default",
            "metrics": "metric curves equal the log",
            "parameters": "parameters equal the resolved configuration",
            "artefacts": "manifest and plots as artefacts, equal to the files",
        },
    ),
    Gate(
        "drift",
        "Low-precision drift",
        {
            "report": "drift report, plot and list of argmax flips exist",
            "errors": "relative errors agree with a recomputation",
            "flips": "argmax flips agree with a recomputation",
        },
    ),
)

CONTROLS = (
    Control("untrained", "perplexity", "committed", "weights as initialised", "ratio"),
    Control("no_causal_mask", "perplexity", "causality", "trained without its causal mask", "future"),
    Control("unshifted_targets", "perplexity", "committed", "trained to copy its input", "ratio"),
    Control("claims_better", "perplexity", "reported", "claims half its perplexity", "perplexity.val"),
    Control("swallows_overlap", "perplexity", "split", "trains on a split that overlaps", "train and val"),
    Control(
        "nondeterministic", "resume", "rerun", "draws from the operating system's entropy", "nondeterminism"
    ),
    Control("forgets_model", "resume", "mid-epoch", "model not restored", "machine model"),
    Control("forgets_optimizer", "resume", "mid-epoch", "optimizer not restored", "machine optimizer"),
    Control("forgets_scheduler", "resume", "mid-epoch", "scheduler not restored", "machine scheduler"),
    Control("forgets_data", "resume", "mid-epoch", "data iterator not restored", "machine data"),
    Control("forgets_control", "resume", "mid-epoch", "control RNG not restored", "machine control"),
    Control(
        "saves_float16", "reload", "logits", "weights pass through float16 on their way to disk", "logits"
    ),
    Control("unties_head", "reload", "tensors", "the tied head is stored a second time", "head"),
    Control("pickle_in_checkpoint", "no_pickle", "artefacts", "a pickle in the checkpoint", "pickle"),
    Control("hidden_imports", "no_pickle", "source", "pickle imported in roundabout ways", "hidden_imports"),
    Control("unpickles", "no_pickle", "process", "unpickles through a library", "unpickling"),
    Control("manifest_last", "manifest", "first", "manifest written after training", "before"),
    Control("wrong_commit", "manifest", "git", "names a commit that is not checked out", "git.sha"),
    Control("wrong_versions", "manifest", "packages", "names a version that is not installed", "numpy"),
    Control("smooths_metrics", "mlflow", "metrics", "tracked loss is smoothed", "loss"),
    Control("makes_up_drift", "drift", "errors", "drift measured at half its size", "relative_error"),
)


def gate(name: str) -> Gate:
    """The gate of that name. KeyError if there is none."""
    return {g.name: g for g in GATES}[name]


def control(name: str) -> Control:
    """The control of that name. KeyError if there is none."""
    return {c.name: c for c in CONTROLS}[name]
