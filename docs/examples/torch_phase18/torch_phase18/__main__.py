"""The command line. Bad input is one line on stderr and status 2."""

import argparse
import inspect
import sys
from pathlib import Path
from typing import Any, NoReturn

from torch_phase18.errors import NonFiniteError, UsageError
from torch_phase18.verbs import VERBS


class Parser(argparse.ArgumentParser):
    """Reports a wrong command line as a UsageError."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def parser() -> Parser:
    """A subcommand a verb; its options are the arguments of its function."""
    top = Parser(prog="python -m torch_phase18")
    verbs = top.add_subparsers(required=True, dest="verb", metavar="VERB")
    for name, function in VERBS.items():
        made = verbs.add_parser(name, help=(function.__doc__ or "").splitlines()[0])
        for argument in inspect.signature(function).parameters.values():
            option, required = f"--{argument.name.replace('_', '-')}", argument.default is argument.empty
            if argument.annotation is bool:
                made.add_argument(option, action="store_true")
            else:
                made.add_argument(option, required=required, type=_kind(argument.annotation))
    verbs.add_parser("serve", help="answer verbs from stdin, a line of JSON each, in one warm process")
    return top


def _kind(annotation: Any) -> Any:
    return Path if "Path" in str(annotation) else int if "int" in str(annotation) else str


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; the exit status."""
    status, message = attempt(arguments)
    if message:
        print(f"error: {message}", file=sys.stderr)
    return status


def attempt(arguments: list[str] | None) -> tuple[int, str]:
    """(exit status, what went wrong in one line) of one verb."""
    try:
        options = vars(parser().parse_args(arguments))
        verb = options.pop("verb")
        if verb == "serve":
            from torch_phase18.serve import serve

            serve(attempt)
        else:
            VERBS[verb](**options)
    except UsageError as error:
        return 2, str(error)
    except OSError as error:
        return 2, f"{error.filename}: {error.strerror}" if error.filename else str(error)
    except NonFiniteError as error:
        return 1, str(error)
    return 0, ""


if __name__ == "__main__":
    sys.exit(main())
