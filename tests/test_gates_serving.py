"""A warm process that answers requests: an answer is how the verb ended, and what it cannot do is one line."""

import threading
from pathlib import Path

import pytest

from gates.errors import GateError
from gates.subject import serving
from gates.subject.pool import Part, Pool
from gates.subject.serving import Servers, WarmSubject
from honestloop.description import Description, Level

SERVE = """
import json, sys, time
for line in sys.stdin:
    request = json.loads(line)
    values = request["values"]
    if request["verb"] == "die":
        sys.exit(3)
    if request["verb"] == "mumble":
        print("Loading model ...", flush=True)
        continue
    if request["verb"] == "hang":
        time.sleep(60)
    with open(values["out"], "a") as file:
        file.write(json.dumps(values) + "\\n")
    print(json.dumps({"status": int(values.get("status", 0)), "error": values.get("error", "")}), flush=True)
"""


@pytest.fixture
def servers(tmp_path):
    (tmp_path / "serve.py").write_text(SERVE, encoding="utf-8")
    described = Description("x", Level.PHASE_18, tmp_path, commands={"serve": "{python} serve.py"})
    made = Servers(described, tmp_path / "home")
    yield made
    for server in made._free:
        server.kill()


def test_an_answer_is_how_the_verb_ended(servers, tmp_path):
    assert servers.ask("logits", run=tmp_path, out=tmp_path / "a").succeeded().status == 0
    refused = servers.ask("logits", out=tmp_path / "a", status=2, error="no such run")
    assert (refused.status, refused.stderr) == (2, "no such run")
    with pytest.raises(GateError, match=r"serve: logits .* ended with status 2: no such run"):
        refused.succeeded()
    assert len(servers._free) == 1


def test_a_subject_asks_with_the_options_of_the_command_line(servers, tmp_path):
    subject = WarmSubject("x", tmp_path / "home", servers=servers)
    subject.run("train", "--out", tmp_path / "a", "--stop-after", "4", "--resume", "--data", tmp_path)
    said = (tmp_path / "a").read_text(encoding="utf-8")
    assert said == f'{{"out": "{tmp_path}/a", "stop_after": "4", "resume": true, "data": "{tmp_path}"}}\n'


@pytest.mark.parametrize(
    ("verb", "says"),
    [
        ("die", "asked for `die`, ended without an answer"),
        ("mumble", "answered 'Loading model"),
        ("hang", "did not answer within 1 s"),
    ],
)
def test_a_process_that_does_not_answer_is_one_line_and_is_replaced(servers, tmp_path, verb, says):
    servers.timeout = 1.0
    with pytest.raises(GateError, match=says):
        servers.ask(verb, out=tmp_path / "a")
    assert servers.ask("logits", out=tmp_path / "a").status == 0


def test_two_jobs_have_a_process_each(servers, tmp_path):
    threads = [
        threading.Thread(target=servers.ask, args=("logits",), kwargs={"out": tmp_path / str(n)})
        for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(Path(tmp_path).glob("[0-5]"))) == 6
    assert 1 <= len(servers._free) <= serving.MOST


def test_parts_of_a_job_start_it_once():
    started = []

    def job() -> dict[str, int]:
        started.append(1)
        return {"a": 1, "b": 2}

    pool = Pool({"whole": job, "x/a": Part("whole", "a"), "x/b": Part("whole", "b")}, ["x/a", "x/b"])
    assert (pool["x/a"], pool["x/b"], len(started)) == (1, 2, 1)
    pool.close()
    empty = Pool({"whole": job, "x/a": Part("whole", "a")}, [])
    with pytest.raises(GateError, match="was not started"):
        _ = empty["x/a"]
    empty.close()
