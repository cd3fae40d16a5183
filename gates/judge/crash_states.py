"""What became of a run that was killed and resumed, in one word.

PASS               it ends equal to the run that was not interrupted, from the latest save that was complete
HARD_FAIL          a complete save was there, yet `resume` ends with a status other than 0, or hangs, or leaves a
                   run that lacks files; or neither `resume` nor `train` goes on from what the kill left
SILENT_DIVERGENCE  it ends with status 0, and is not equal to the run that was not interrupted
LOST_WORK          it ends equal, but it was made from further back than the latest complete save

Before the first complete save `resume` may refuse, with a status other than 0, or start from the beginning; if it
refuses, `train` in the same directory must end equal. A run that is already complete may refuse too.

How far back a resume went is seen without the script's help. The uninterrupted run shows how often each kind of file is
saved, and how often by a given event (gates/subject/saves.py); the resumed process shows which of them it reads, and
which it makes again. Work was lost if it made more saves than were still to be made, of every kind that is saved more
than once and read by a resume. (If resumes read none of them: of every kind that is saved more than once.) A kind is
not enough: a table of losses that is rewritten each step is rightly made again from the last checkpoint on.
"""

import enum
from collections import Counter
from dataclasses import dataclass

from gates.judge import same_run
from gates.subject.crash_runs import Crashes, Resumed
from gates.verdict.finding import Finding, Problem, no_problems


class Word(enum.Enum):
    """The verdict on one interrupted run."""

    PASS = "PASS"
    HARD_FAIL = "HARD_FAIL"
    SILENT_DIVERGENCE = "SILENT_DIVERGENCE"
    LOST_WORK = "LOST_WORK"


@dataclass(frozen=True)
class Outcome:
    """The verdict on one interrupted run, and why."""

    word: Word
    problem: Problem | None = None

    @property
    def told(self) -> Problem:
        """The problem, with the word before it."""
        assert self.problem is not None
        return Problem(f"{self.word.value}: {self.problem.what}", self.problem.got, self.problem.expected)


def outcome(crashes: Crashes, resumed: Resumed, may_differ: tuple[str, ...] = ()) -> Outcome:
    """The word for one interrupted run of several."""
    kinds = judged_kinds(crashes)
    saved = min((resumed.complete[kind] for kind in kinds), default=0)
    compared = same_run.compare(crashes.whole, resumed.run, may_differ)
    where = f"killed {resumed.moment}" if resumed.kind.islower() else resumed.moment
    if resumed.status == 0:
        return _of_result(crashes, resumed, where, compared, kinds)
    finished = all(resumed.complete[kind] == crashes.total[kind] for kind in kinds)
    if finished and not compared.problems:
        return Outcome(Word.PASS)
    if saved:
        what = f"{where}, {_saves(saved)} complete: `resume` refuses"
        return Outcome(Word.HARD_FAIL, Problem(what, _ended(resumed.status, resumed.said), "status 0"))
    if resumed.again is None or resumed.again[0] != 0:
        again = _ended(*resumed.again) if resumed.again else resumed.said
        what = f"{where}: neither `resume` nor `train` goes on"
        got = f"{_ended(resumed.status, resumed.said)}; then {again}"
        return Outcome(Word.HARD_FAIL, Problem(what, got, "one of them ends with status 0"))
    return _of_files(f"{where}, then trained again", compared) or Outcome(Word.PASS)


def judged_kinds(crashes: Crashes) -> set[str]:
    """The families of saves by which it is seen how far back a resume went."""
    again = {kind for kind, count in crashes.total.items() if count > 1} or set(crashes.total)
    return (again & crashes.again) or again


def found(where: str, crashes: Crashes, may_differ: tuple[str, ...] = ()) -> Finding:
    """Every interrupted run of a check passes."""
    outcomes = [outcome(crashes, resumed, may_differ) for resumed in crashes.tried]
    counts = Counter(o.word for o in outcomes)
    words = ", ".join(f"{counts[word]} {word.value}" for word in Word if counts[word])
    problems = [o.told for o in outcomes if o.word != Word.PASS]
    problems.sort(key=lambda problem: list(Word.__members__).index(problem.what.partition(":")[0]))
    return no_problems(where, problems, of=f"{crashes.of}: {words}{_declared(crashes, may_differ)}")


def _of_result(
    crashes: Crashes, resumed: Resumed, where: str, compared: same_run.Comparison, kinds: set[str]
) -> Outcome:
    """Of a resume that ended with status 0."""
    if wrong := _of_files(where, compared):
        return wrong
    lost = {k: resumed.made[k] - (crashes.total[k] - resumed.complete[k]) for k in kinds}
    if kinds and min(lost.values()) > 0:
        kind = max(kinds, key=lambda k: (lost[k], k))
        what = f"{where}, {_saves(resumed.complete[kind])} of {kind} complete: it went back further"
        left = crashes.total[kind] - resumed.complete[kind]
        got = f"{_saves(resumed.made[kind])} of {kind} made by `resume`"
        return Outcome(Word.LOST_WORK, Problem(what, got, f"the {left} that were still to be made"))
    return Outcome(Word.PASS)


def _of_files(where: str, compared: same_run.Comparison) -> Outcome | None:
    """HARD_FAIL if files are missing, SILENT_DIVERGENCE if they differ, None if they are equal."""
    if not compared.problems:
        return None
    first = compared.problems[0]
    word = Word.HARD_FAIL if compared.missing else Word.SILENT_DIVERGENCE
    what = "the run is incomplete" if compared.missing else "status 0, but the run is another"
    return Outcome(word, Problem(f"{where}: {what}: {first.what}", first.got, first.expected))


def _declared(crashes: Crashes, may_differ: tuple[str, ...]) -> str:
    needed = same_run.compare(crashes.whole, crashes.whole, may_differ).declared
    return f"; declared to differ: {', '.join(needed)}" if needed else ""


def _saves(count: int) -> str:
    return f"{count} save" + ("" if count == 1 else "s")


def _ended(status: int, said: str) -> str:
    return f"status {status}: {said}"
