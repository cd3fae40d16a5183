"""A small script that trains and resumes, for the tests of what interrupts it: changed, described, and run."""

from pathlib import Path

from gates.subject.run_places import Places
from gates.subject.session import Session
from honestloop.description import describe

SCRIPT = """
import json, os, random, shutil, signal, sys, time
from pathlib import Path

out, steps, every, resume = Path(sys.argv[1]), 4, 2, "resume" in sys.argv
stop_after = int(sys.argv[2]) if len(sys.argv) > 2 and sys.argv[2].isdigit() else steps
LOG = out / "log.txt"

def write(path, text):
    partial = Path(str(path) + ".partial")
    with open(partial, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)

def save(step, value, rng):
    path = out / f"step-{step}.json"
    write(path, json.dumps({"step": step, "value": value, "rng": rng.getstate()}))

def load():
    saved = sorted(out.glob("step-*.json"))
    if not saved:
        sys.exit("there is no checkpoint")
    state = json.loads(saved[-1].read_text())
    version, numbers, gauss = state["rng"]
    return state["step"], state["value"], (version, tuple(numbers), gauss)

out.mkdir(exist_ok=True)
rng = random.Random(1)
step, value = 0, 0.0
if resume:
    step, value, state = load()
    rng.setstate(state)
    write(LOG, "".join(LOG.read_text().splitlines(keepends=True)[:step]))
else:
    LOG.write_text("")
stop = []
signal.signal(signal.SIGTERM, lambda number, frame: stop.append(number))
while step < min(steps, stop_after) and not stop:
    step, value = step + 1, value + rng.random()
    time.sleep(PAUSE)
    with LOG.open("a") as log:
        log.write(f"{step} {value}\\n")
    if step % every == 0 or step == stop_after or stop:
        save(step, value, rng)
"""


def changed(*changes: tuple[str, str], pause: float = 0.0) -> str:
    """The script with parts of it replaced, each of which is there once."""
    text = SCRIPT.replace("PAUSE", str(pause))
    for old, new in changes:
        assert text.count(old) == 1, (old, text.count(old))
        text = text.replace(old, new)
    return text


def session_of(folder: Path, script: str, *, said: str = "", stop: bool = True, seed: int = 5) -> Session:
    """A session that judges the script, which is described at level 1."""
    folder.mkdir(exist_ok=True)
    (folder / "script.py").write_text(script, encoding="utf-8")
    after = " {stop_after}" if stop else ""
    (folder / "subject.toml").write_text(
        f'train = "{{python}} script.py {{out}}{after}"\nresume = "{{python}} script.py {{out}}{after} resume"\n{said}',
        encoding="utf-8",
    )
    return Session(describe(str(folder)), folder / "home", 1, seed, committed={})


def places_of(folder: Path, script: str, **options) -> Places:
    """The folders of its runs."""
    return Places(session_of(folder, script, **options), "interruption")
