"""The command line: train, eval, logits, drift, baseline, sample. Bad input is one line on stderr and status 2."""

import gc

gc.disable()  # imports leave little garbage; collecting it would take a quarter of the start-up time
try:
    import argparse
    import json
    import os
    import sys
    from pathlib import Path
    from typing import Any, NoReturn, TextIO

    from impl import commands
    from impl.config import WHOLE_NUMBER, whole_number
    from impl.errors import NonFiniteError, UsageError
finally:
    gc.freeze()
    gc.enable()
gc.set_threshold(100_000)  # a training step leaves little garbage, too


class Parser(argparse.ArgumentParser):
    """Reports a wrong command line as a UsageError of one line."""

    def error(self, message: str) -> NoReturn:
        """Called by argparse. Raises UsageError."""
        raise UsageError(f"{message} (see {self.prog} --help)")


def parser() -> Parser:
    """One subcommand a verb; each names the function that does it."""
    top = Parser(
        prog="python -m impl", description="A correct training loop: MiniGPT on a bilingual verb corpus."
    )
    verbs = top.add_subparsers(required=True, metavar="VERB")

    _train_verb(verbs)
    score = _verb(
        verbs, "eval", _printing(commands.evaluate), "perplexity of a finished run's model, as JSON"
    )
    _run(score)
    _data(score)

    _report_verbs(verbs)

    logits = _verb(
        verbs, "logits", commands.logits, "float64 logits of a finished run's model for any tokens"
    )
    _run(logits)
    files = "safetensors with "
    logits.add_argument(
        "--tokens",
        type=Path,
        required=True,
        metavar="FILE",
        help=files + "tokens int64 and key_mask bool, [N, T]",
    )
    logits.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help=files + "logits [N, T, V], to write"
    )

    drift = _verb(verbs, "drift", commands.measure_drift, "how far rounded weights move each layer's output")
    _run(drift)
    drift.add_argument("--out", type=Path, metavar="DIR", help="where to; default: the run's drift directory")

    baseline = _verb(
        verbs, "baseline", _printing(commands.baseline), "perplexity of each n-gram baseline, as JSON"
    )
    _data(baseline)

    sample = _verb(verbs, "sample", commands.sample, "let the model translate one cell, greedily")
    _run(sample)
    sample.add_argument("--verb", required=True, help="English infinitive")
    sample.add_argument("--tense", required=True, help="past_simple, for example")
    sample.add_argument("--person", required=True, help="1sg, 2sg or 3sg")
    sample.add_argument("--to", default="es", help="language to translate into: es (default) or en")
    return top


def _report_verbs(verbs: Any) -> None:
    summary = "bits per byte, by tense and person, and exact translations of a finished run's model, as JSON"
    _run(_verb(verbs, "evaluate", _printing(commands.score), summary))

    summary = "where the time of one step of a run goes, as a table and as a trace for chrome://tracing"
    profile = _verb(verbs, "profile", commands.profile, summary)
    profile.add_argument("--run", type=Path, required=True, metavar="DIR", help="a run directory")
    profile.add_argument("--out", type=Path, metavar="FILE", help="the trace as JSON, to write")

    summary = (
        "keep or discard a finished run against the best so far, by bits per byte; prints and records the try"
    )
    compare = _verb(verbs, "compare", _printing(commands.compare), summary)
    compare.add_argument("run", type=Path, metavar="RUN", help="a finished run directory")
    compare.add_argument("best", type=Path, metavar="BEST", help="that of the best run so far")
    compare.add_argument(
        "--record", type=Path, metavar="FILE", help="the record of tries; default: tries.jsonl beside BEST"
    )


def _train_verb(verbs: Any) -> None:
    train = _verb(verbs, "train", commands.train, "train a model; all about it goes into one run directory")
    train.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="run directory to make, or to resume"
    )
    _data(train)
    train.add_argument(
        "--config", type=Path, metavar="FILE", help="settings as TOML; a run's config.toml will do"
    )
    train.add_argument("--preset", metavar="NAME", help="settings of impl/presets/NAME.toml")
    train.add_argument("--seed", type=_count, metavar="N")
    train.add_argument("--steps", type=_count, metavar="N", help="updates in the whole run; 0 trains nothing")
    train.add_argument(
        "--stop-after", type=_count, metavar="N", help="stop early, once the run has N updates"
    )
    train.add_argument("--resume", action="store_true", help="continue an unfinished run")


def _verb(verbs: Any, name: str, action: Any, summary: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = verbs.add_parser(name, help=summary, description=summary)
    made.set_defaults(action=action)
    return made


def _run(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--run", type=Path, required=True, metavar="DIR", help="a finished run directory")


def _data(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--data", type=Path, metavar="DIR", help="has train.jsonl, val.jsonl and maybe test.jsonl"
    )


def _count(text: str) -> int:
    number = whole_number(text)
    if number is None:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not {WHOLE_NUMBER}")
    return number


def _printing(function: Any) -> Any:
    """The command that prints what `function` returns, as JSON."""
    return lambda **options: print(json.dumps(function(**options), indent=2))


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; the exit status, 141 (128 + SIGPIPE) if nobody reads its output any more."""
    try:
        try:
            options = vars(parser().parse_args(arguments))
            options.pop("action")(**options)
        finally:
            _flush()
    except BrokenPipeError:
        return 141
    except MemoryError as error:
        return _fail(f"not enough memory: {error}", 2)
    except UsageError as error:
        return _fail(str(error), 2)
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), 2)
    except NonFiniteError as error:
        return _fail(str(error), 1)
    except KeyboardInterrupt:
        return _fail("interrupted before the first step", 130)
    return 0


def _flush() -> None:
    """Write what is left of the output now, while a failure can still be told."""
    if sys.stdout is None:  # closed by the caller: `>&-`
        return
    try:
        sys.stdout.flush()
    except OSError:
        _discard(sys.stdout)
        raise


def _fail(message: str, status: int) -> int:
    try:
        print("error: " + " ".join(message.split()), file=sys.stderr, flush=True)
    except OSError:
        _discard(sys.stderr)
    return status


def _discard(stream: TextIO) -> None:
    """Send what the stream still holds nowhere, or the interpreter tries to write it once more when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    sys.exit(main())
