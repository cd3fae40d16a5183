"""How well the audit of a whole run sees what begins late: many draws on kept runs, one table.

python -m gates.audit_study        every late control, 3 gradings, 20 draws on the run of the first; docs/audit.md
python -m gates.audit_study --seeds 1 --draws 3 --controls late_beta2 late_horizon --out table.md
"""

import argparse
import hashlib
import itertools
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from fixtures.controls.shared.table import Control
from gates.errors import GateError
from gates.judge import whole_run
from gates.judge.run_record import Settings, TrainingPlan
from gates.judge.update import Replayed
from gates.subject import controls
from gates.subject.audit_draw import checkpoint_before, mean_chance_of_seeing
from gates.subject.drawn_resumes import REPLAYED, Audit, Drawn, draw_updates, resume_drawn, spread
from gates.subject.pool import WORKERS
from gates.subject.run_directory import RunDirectory
from gates.subject.session import Session
from gates.subject.stepwise_runs import ConfiguredRun, follow, stepwise_options
from gates.verdict.definition import control as control_named
from gates.verdict.definition import controls as all_controls
from gates.verdict.finding import Finding
from honestloop.description import describe
from honestloop.guarded_files import sha256_regular
from honestloop.suite_location import ROOT

DEFAULT_OUT = ROOT / "docs" / "audit.md"
LASTING = (1, 5, 10, 25, 50, 99)
STUDIED = controls.LONG | {"steps": 240, "eval_every": 40, "checkpoint_every": 40}
COMMITTED_STEPS, COMMITTED_EVERY = 600, 50

TEXT = """# How well the audit sees what begins late

`python -m gates.audit_study --seeds {seeds} --draws {draws}` wrote this page.

After the judged run one update of every stretch between two checkpoints is drawn from the grading's seed, and the
special ones are added: the last of the warm-up, an edge of an epoch, the last. A mistake that lasts k updates is seen
with the chance `1 - prod(1 - k_i / n_i)`, where k_i of them are in stretch i of n_i updates
(`gates/subject/audit_draw.py`); surely, if it fills a stretch or lasts to the end. If it begins anywhere in {steps}
updates with a checkpoint every {every}, the special ones not counted:"""
MEASURED = """What can be judged from tensors (moments, decay, rate, clipping) is judged of every drawn update, and
every line that is made again is compared. What only the oracles see (batch, masks, loss) is judged of eight of them or
a few more. The validation loss is recomputed at every checkpoint; where the rate is low, as at the end, that of weights
a single update too old is within the bound of single precision.

Measured on runs of {steps} updates with a checkpoint every {every}, one for each grading's seed; on that of the first
seed all the draws were made, on the others one. Each mistake begins at an update that is drawn, and lasts to the
end."""


@dataclass(frozen=True)
class Studied:
    """What became of the draws on one kept run: how many were made, and how many of them refused it."""

    name: str
    seed: int
    first_wrong: int | None
    draws: int
    refused: int
    by: str = ""
    """The check that refused it first, and why."""


class Replays:
    """Replayed updates: many draws meet in the same one, and it is replayed once if it begins and ends alike."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, str, str], Replayed] = {}

    def of(self, drawn: Drawn, audit: Audit, plan: TrainingPlan) -> Replayed:
        """The drawn update, replayed by the oracles and compared."""
        key = (
            drawn.update,
            _digest(drawn.before, drawn.update - 1),
            _digest(drawn.after, drawn.update),
        )
        if key not in self._known:
            (self._known[key],) = whole_run.replay_drawn(replace(audit, drawn=(drawn,)), plan)
        return self._known[key]


def _digest(run: RunDirectory, step: int) -> str:
    """SHA-256 over every file of a checkpoint."""
    folder = run.path / run.checkpoints()[step]
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found.update(str(path.relative_to(folder)).encode() + bytes.fromhex(sha256_regular(path)))
    return found.hexdigest()


def study(session: Session, wrong: Control | None, draws: int) -> Studied:
    """One kept run of a late control, or of impl if there is none, audited with so many draws."""
    if wrong is None:
        subject, first = session.untracked(controls.IMPL, "study-impl"), None
    else:
        subject, first = controls.late_subject_of(session, wrong), controls.first_wrong(session, wrong)
    followed = follow(session, subject, "", settings=STUDIED)
    options = stepwise_options(session, subject, "", STUDIED)
    plan, replays = TrainingPlan.of(followed), Replays()
    refused = list[Finding]()
    for number in range(draws):
        chance = session.chance(f"study/{number}")
        drawn, special = draw_updates(chance, followed.run, followed.rows["train"])
        replayed, home = spread(drawn, special), subject.home / f"draw-{number}"
        parts = [drawn] if wrong is None else list(_stretches(drawn, followed.run))[::-1]
        findings = itertools.chain.from_iterable(
            _findings(
                session,
                followed,
                resume_drawn(
                    replace(subject, home=home / str(part[0])), followed.run, part, replayed, *options
                ),
                plan,
                replays,
            )
            for part in parts
        )
        refused += itertools.islice((finding for finding in findings if not finding.passed), 1)
    by = f"{refused[0].check}: {refused[0].problem}" if refused else ""
    return Studied(wrong.name if wrong else "impl", session.kill_seed, first, draws, len(refused), by)


def _stretches(drawn: Sequence[int], run: RunDirectory) -> Iterator[list[int]]:
    """The drawn updates of each stretch between two checkpoints. What is wrong to the end shows in the last ones, and
    nothing is made again after the first refusal."""
    saved = run.checkpoints()
    for _, group in itertools.groupby(drawn, lambda update: checkpoint_before(update, saved)):
        yield list(group)


def _findings(
    session: Session, followed: ConfiguredRun, audit: Audit, plan: TrainingPlan, replays: Replays
) -> Iterator[Finding]:
    """The checks that depend on the draw, the quickest first; of the replayed updates, one after the other."""
    yield whole_run.lines(audit)
    yield whole_run.optimizer(audit, Settings.read(followed.config), session.description)
    for drawn in audit.drawn:
        if drawn.update in audit.replayed:
            yield whole_run.replayed([replays.of(drawn, audit, plan)])


def page(studied: Sequence[Studied], seeds: int, draws: int) -> str:
    """Markdown: the formula in numbers, then one row a kept run."""
    saved = range(0, COMMITTED_STEPS + 1, COMMITTED_EVERY)
    chances = [mean_chance_of_seeing(k, COMMITTED_STEPS, saved, at_least=REPLAYED) for k in LASTING]
    late, right = [s for s in studied if s.first_wrong], [s for s in studied if not s.first_wrong]
    seen = [sum(s.refused for s in part) for part in (late, right)]
    made = [sum(s.draws for s in part) for part in (late, right)]
    lines = [
        *TEXT.format(seeds=seeds, draws=draws, steps=COMMITTED_STEPS, every=COMMITTED_EVERY).splitlines(),
        "",
        "| updates it lasts | " + " | ".join(map(str, LASTING)) + " |",
        "| --- |" + " ---: |" * len(LASTING),
        "| is seen | " + " | ".join(f"{chance:.1%}" for chance in chances) + " |",
        "",
        *MEASURED.format(steps=STUDIED["steps"], every=STUDIED["checkpoint_every"]).splitlines(),
        f"**{seen[0]} of {made[0]} draws refused** what is wrong; {seen[1]} of {made[1]} refused `impl`.",
        "",
        "| run | grading's seed | wrong from update | refused, of draws | by |",
        "| --- | ---: | ---: | ---: | --- |",
        *(
            f"| {s.name} | {s.seed} | {s.first_wrong or ''} | {s.refused} of {s.draws} | {s.by} |"
            for s in studied
        ),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Status 0 if every draw refused what is wrong and none refused impl, 1 if not, 2 if a run could not be made."""
    parser = argparse.ArgumentParser(prog="python -m gates.audit_study", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="gradings' seeds, from 1 (default 3)"
    )
    parser.add_argument(
        "--draws", type=int, default=20, metavar="N", help="draws on the run of the first seed (default 20)"
    )
    parser.add_argument(
        "--controls", nargs="*", metavar="NAME", help="these alone (default all that are audited)"
    )
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, metavar="FILE", help="default docs/audit.md")
    options = parser.parse_args()
    if options.seeds < 1 or options.draws < 1:
        parser.error("--seeds and --draws must be at least 1")
    chosen = [c for c in all_controls() if c.run == "audit"]
    if options.controls is not None:
        if unknown := set(options.controls) - {c.name for c in chosen}:
            parser.error(f"no audited control is called {min(unknown)}")
        chosen = [control_named(name) for name in options.controls]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(WORKERS) as pool:
        try:
            jobs = [
                pool.submit(
                    study,
                    Session(describe("impl"), Path(folder) / str(seed), 0, seed),
                    wrong,
                    options.draws if seed == 1 else 1,
                )
                for seed in range(1, options.seeds + 1)
                for wrong in [None, *chosen]
            ]
            studied = sorted(
                (job.result() for job in jobs), key=lambda s: (bool(s.first_wrong), s.name, s.seed)
            )
        except GateError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(page(studied, options.seeds, options.draws), encoding="utf-8")
    print(options.out.read_text(encoding="utf-8"), end="")
    return 0 if all(s.refused == (s.draws if s.first_wrong else 0) for s in studied) else 1


if __name__ == "__main__":
    sys.exit(main())
