"""The command `honestloop`. Bad input is one line on standard error and status 2; nothing is overwritten."""

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import click

from honestloop import __version__, guard, scaffold, supervision
from honestloop.atomic_write import write_atomically
from honestloop.description import describe, must_be_there
from honestloop.exit_status import FAILED, NO_SUBJECT, OK, OWN_ERROR, USAGE
from honestloop.protocol import ProtocolError
from honestloop.rule_names import selected, unknown_rule
from reference.rules import RULES

STATUSES = (
    "Exit status: 0 held, 1 broken or incomplete, 2 wrong use, 3 nothing graded, 4 no subject, 5 own error."
)
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(
    context_settings=SETTINGS,
    help=f"Grade a language-model training loop.\n\n{STATUSES}",
    epilog="Start with:  honestloop init my_loop && honestloop check my_loop",
)
@click.version_option(__version__, message="honestloop %(version)s")
def app() -> None:
    """The command; every subcommand returns its exit status."""
    sys.path.insert(0, os.getcwd())  # a subject is found from where the command is typed


@app.command(
    short_help="Grade functions and loop, in seconds.",
    epilog="Examples:  honestloop check my_adapter   honestloop check my_loop -x   honestloop check a.adapter -r LOOP",
)
@click.argument("adapter")
@click.option("--rule", "-r", multiple=True, help="A rule (LOOP-02) or a family (LOOP); may be repeated.")
@click.option("--profile", default="dev", show_default=True, help="How many examples: dev, ci or nightly.")
@click.option("--first", "-x", is_flag=True, help="Stop at the first failure.")
@click.option("--margins", is_flag=True, help="Show the largest error / bound of every rule.")
@click.option(
    "--time-limit", default=guard.TIME_LIMIT, show_default=True, help="Seconds that a call may take."
)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the report as JSON."
)
@click.option(
    "--page",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the report as a page to open (HTML).",
)
def check(
    adapter: str,
    rule: tuple[str, ...],
    profile: str,
    first: bool,
    margins: bool,
    time_limit: float,
    json_file: Path | None,
    page: Path | None,
) -> int:
    """Grade the functions and the loop of ADAPTER by the properties, in seconds.

    ADAPTER is a module, a package with a module `adapter` in it, or a file.
    """
    from honestloop import checking
    from honestloop.progress import Progress
    from properties.grading import Status

    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise click.UsageError(f"--json {json_file}: there is no folder {json_file.absolute().parent}")
    said: set[str] = set()
    told: Callable[[str], None] | None = click.get_current_context().obj

    def show(result: checking.Result) -> None:
        """Say each failure when it is found, once for all dtypes that give the same message."""
        progress.advance(result)
        if told is not None:
            told(result.test)
        text = result.outcome.text
        if result.outcome.status == Status.BROKEN and text not in said:
            said.add(text)
            click.echo(text + "\n")

    try:
        total = sum(1 for _ in checking.cases(selected(rule or None)))
        with Progress(f"grading {adapter}", total) as progress:
            report = checking.check(
                module_of(adapter),
                rule or None,
                profile,
                time_limit=time_limit,
                ends_process=True,
                first=first,
                on_result=show,
            )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if margins:
        click.echo("\n".join([*report.grading.margins_table(), ""]))
    click.echo(report.summary)
    if json_file is not None:
        write_atomically(json_file, json.dumps(report.as_dict(), indent=1, ensure_ascii=False) + "\n")
    if page is not None:
        from honestloop import properties_page

        results = [(result.test, result.outcome) for result in report.results]
        properties_page.write(page, report.grading, profile, results, report.unfulfilled)
        click.echo(f"-> {page}")
    return report.status


@app.command(
    short_help="Train, interrupt, recompute: is it done?",
    epilog="Example:  honestloop grade my_pkg --runs runs",
)
@click.argument("subject")
@click.option(
    "--runs",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs"),
    show_default=True,
    help="Where runs, verdict and badge go.",
)
@click.option("--blind-seed", type=int, help="Seed of the blind split; fresh entropy if not given.")
@click.option("--kill-seed", type=int, help="Seed of the moments of SIGKILL; fresh entropy if not given.")
@click.option(
    "--all-controls", is_flag=True, help="Try every wrong loop that the gates must refuse, not some."
)
@click.option(
    "--every-event", is_flag=True, help="Resume after a kill at every file event, not at a drawn sample."
)
@click.option(
    "--gate",
    "only",
    multiple=True,
    metavar="NAME",
    help="Ask this gate alone (several times: these). The verdict is then INCOMPLETE at best.",
)
def grade(
    subject: str,
    runs: Path,
    blind_seed: int | None,
    kill_seed: int | None,
    all_controls: bool,
    every_event: bool,
    only: tuple[str, ...],
) -> int:
    """Train SUBJECT, interrupt it, recompute what it claims: is it done? Some minutes.

    SUBJECT is a subject.toml, a folder that holds one, or a module that offers the verbs of a subject (python -m
    SUBJECT train ...). What it hands over decides the level of the verdict. What is found goes into verdict.json and a
    badge.
    """
    from honestloop import run_gates

    if missing := run_gates.missing_packages():
        raise click.UsageError(f"grading runs needs {', '.join(missing)}: pip install 'honestloop[gates]'")
    must_be_there(describe(subject))
    if unknown := [name for name in only if name not in run_gates.names()]:
        raise click.UsageError(f"there is no gate {unknown[0]!r}; there are {', '.join(run_gates.names())}")
    seeds = {"--blind-seed": blind_seed, "--kill-seed": kill_seed}
    flags = {"--all-controls": all_controls, "--every-event": every_event}
    return run_gates.grade(subject, runs, seeds, flags, only)


@app.command(
    "check-run",
    short_help="Judge one run directory by its files, in seconds.",
    epilog="Example:  honestloop check-run runs/1",
)
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--level",
    type=click.Choice(["record", "phase18"]),
    help="What it must have; by default what it says it is.",
)
def check_run(directory: Path, level: str | None) -> int:
    """Judge the run DIRECTORY by its files alone: forms, digests, names of tensors, counts, formats.

    Nothing is started and nothing is recomputed. Each complaint is one line: file, field, found, expected, rule. The
    layout is described in docs/run-directory.md.
    """
    from honestloop import run_check

    try:
        report = run_check.check_run(directory, level)
    except NotADirectoryError as error:
        raise ProtocolError(str(error)) from None
    for complaint in report.complaints:
        click.echo(str(complaint))
    click.echo(str(report))
    return FAILED if report.complaints else OK


@app.command(
    short_help="Show one run directory as a page to open.",
    epilog="Example:  honestloop report runs/1",
)
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the page goes; report.html in the directory, by default.",
)
def report(directory: Path, out: Path | None) -> int:
    """Write report.html, a page that shows the run DIRECTORY: curves, results and cost, drift, samples, manifest.

    It is drawn from train_log.jsonl, results.json and manifest.json, as far as they are there; it judges nothing.
    """
    from honestloop.run_files import read_run
    from pages.run import report as page

    if not directory.is_dir():
        raise ProtocolError(f"{directory}: no such folder")
    path = out or directory / "report.html"
    shown = read_run(directory)
    write_atomically(path, page(shown))
    for line in shown.absent:
        click.echo(f"not shown: {line}")
    click.echo(f"-> {path}")
    return OK


@app.command(
    short_help="Explain a rule, with wrong and right code.", epilog="Example:  honestloop explain LOOP-02"
)
@click.argument("rule")
def explain(rule: str) -> int:
    """Explain RULE: what it says, why it matters, an example that breaks it, the mended example, its source."""
    from honestloop import explain as pages

    if rule.upper() not in RULES:
        raise click.UsageError(unknown_rule(rule))
    click.echo(pages.explained(RULES[rule.upper()]))
    return OK


@app.command(short_help="List the rules.", epilog="Examples:  honestloop rules   honestloop rules LOOP")
@click.argument("family", required=False)
def rules(family: str | None) -> int:
    """List the rules, or those of FAMILY: id and statement."""
    chosen = [r for r in RULES.values() if family is None or family.upper() in (r.family, r.id)]
    if not chosen:
        raise click.UsageError(unknown_rule(str(family)))
    for one in chosen:
        click.echo(f"{one.id:10}  {one.statement}")
    return OK


@app.command(
    short_help="Make a loop with its adapter, or a framework's adapter.",
    epilog="Examples:  honestloop init my_loop && honestloop check my_loop   honestloop init my_adapter --from trainer",
)
@click.argument("name")
@click.option(
    "--from",
    "framework",
    type=click.Choice(scaffold.FRAMEWORKS),
    help="Make NAME.py, the adapter of transformers.Trainer, Lightning or Keras, in place of a package.",
)
def init(name: str, framework: str | None) -> int:
    """Make a package NAME with a training loop and its adapter, which runs and is graded, to begin from."""
    try:
        made = (
            scaffold.make_adapter(name, Path.cwd(), framework)
            if framework
            else scaffold.make(name, Path.cwd())
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    click.echo(f"made {', '.join(str(path) for path in made)}")
    if framework:
        click.echo(
            f"grade it:  honestloop check {name} --rule LOOP    its loop; without --rule, all, in some minutes"
        )
        return OK
    click.echo(f"run it:    python {name}/train.py --out runs/{name}")
    click.echo(f"grade it:  honestloop check {name}           its functions, in seconds")
    click.echo(f"           honestloop check-run runs/{name}  the files of that run")
    click.echo(f"           honestloop grade {name}           the whole run, in minutes")
    return OK


def module_of(adapter: str) -> str:
    """The module that the argument names; a file's folder goes onto the search path. ProtocolError if there is none."""
    if not adapter.endswith(".py"):
        return adapter
    path = Path(adapter)
    if not path.is_file():
        raise ProtocolError(f"no such subject: {adapter} is no file")
    sys.path.insert(0, str(path.absolute().parent))
    return path.stem


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status. Typed, `check` grades in a child that must prove that it came to its end."""
    if arguments is None and sys.argv[1:2] == ["check"] and supervision.is_possible():
        return supervision.supervised(lambda reporter: run(None, reporter.at))
    return run(arguments)


def run(arguments: list[str] | None, told: Callable[[str], None] | None = None) -> int:
    """Run the command in this process; `told` hears of each property that was graded."""
    with contextlib.suppress(RuntimeError):  # there is no home
        os.environ.setdefault(
            "HYPOTHESIS_STORAGE_DIRECTORY", str(Path.home() / ".cache" / "honestloop" / "hypothesis")
        )
    try:
        status = app(arguments, standalone_mode=False, obj=told)
        sys.stdout.flush()
        return int(status or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return USAGE
    except click.ClickException as error:
        return _fail(error.format_message(), USAGE)
    except ProtocolError as error:
        return _fail(str(error), NO_SUBJECT)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing more to flush into
            return FAILED
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), USAGE)
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted", 130)
    except Exception as error:
        if os.environ.get("HONESTLOOP_TRACEBACK"):
            traceback.print_exc()
        line = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(line.filename).name}:{line.lineno}"
        return _fail(
            f"of honestloop itself: {error!r} at {place} (HONESTLOOP_TRACEBACK=1 shows all)", OWN_ERROR
        )


def _fail(message: str, status: int) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
