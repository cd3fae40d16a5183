"""Questions to a subject's model, and the process that stays to answer: which answers are taken, which are not."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gates.errors import GateError
from gates.subject import asked_model, tensors
from gates.subject.commanded import CommandedSubject
from gates.subject.process import Process
from gates.subject.warm_process import WarmProcess
from honestloop.description import Description, Level
from tests import small_language_model as small

ANSWERS = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    open(asked["values"]["out"], "w").write(json.dumps([asked["verb"], asked["values"]]))
    print(json.dumps({"status": 0}), flush=True)
"""


def serve(code, tmp_path, timeout=20.0):
    return WarmProcess(
        [sys.executable, "-c", code], folder=tmp_path, errors=tmp_path / "err", timeout=timeout
    )


def test_a_warm_process_answers_many_questions_and_ends_with_its_input(tmp_path):
    with serve(ANSWERS, tmp_path) as warm:
        for number in range(3):
            out = tmp_path / f"{number}.json"
            warm.ask("loss", {"out": str(out), "x": "é"})
            assert json.loads(out.read_text()) == ["loss", {"out": str(out), "x": "é"}]
    assert warm._process._popen.returncode == 0


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import sys; sys.exit('no torch here')", "no torch here"),
        ("input(); raise KeyError('weights')", "ended without an answer: KeyError: 'weights'"),
        ("input(); print('loading')", "answered 'loading', expected"),
        ("input(); print('[0]')", "answered '[0]', expected"),
        ("input(); print('{\"status\": true}')", "expected"),
        ("input(); print('{\"status\": 0, \"note\": 1}')", "expected"),
        ("input(); print('x' * 100_000)", "answered with more than 65,536 bytes"),
        ("import json; input(); print(json.dumps({'status': 1, 'error': 'row 7\\n lost'}))", "`loss`: row 7 lost"),
    ],
)  # fmt: skip
def test_a_warm_process_that_breaks_is_one_line(code, says, tmp_path):
    with serve(code, tmp_path) as warm, pytest.raises(GateError) as error:
        warm.ask("loss", {})
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_warm_process_that_hangs_is_ended(tmp_path):
    began = time.monotonic()
    with serve("import time; time.sleep(60)", tmp_path, timeout=0.3) as warm:
        with pytest.raises(GateError, match="did not answer within 0 s"):
            warm.ask("loss", {})
        assert warm._process._popen.returncode is not None
    assert time.monotonic() - began < 20


def test_a_warm_process_ends_with_the_session(tmp_path, monkeypatch):
    monkeypatch.setattr(Process, "_no_more", False)
    monkeypatch.setattr(Process, "_running", set())
    with serve("import time; time.sleep(60)", tmp_path) as warm:
        Process.kill_the_rest()
        assert warm._process._popen.returncode is not None
    with pytest.raises(GateError, match="the session was ended"):
        serve("input()", tmp_path)


def test_after_a_question_it_could_not_answer_it_can_be_asked_again(tmp_path):
    code = "\n".join(
        [
            "import sys",
            "for n, _ in enumerate(sys.stdin):",
            "    print('{\"status\": %d}' % (n == 0), flush=True)",
        ]
    )
    with serve(code, tmp_path) as warm:
        with pytest.raises(GateError, match="it does not say why"):
            warm.ask("loss", {})
        warm.ask("loss", {})


def test_a_program_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(GateError, match="could not be started: No such file"):
        WarmProcess(["/no/such/program"], folder=tmp_path, errors=tmp_path / "err", timeout=1)


@pytest.mark.parametrize("verb", ["serve", "loss"])
def test_a_described_subject_is_asked_by_serve_or_by_a_command_for_each_question(verb, tmp_path):
    command = "{python} answer.py {weights} {out}"
    (tmp_path / "answer.py").write_text(
        "import json, os, sys\n"
        "def answer(weights, out):\n"
        "    json.dump({'losses': {n: 2.5 for n in os.listdir(weights)}}, open(out, 'w'))\n"
        "if len(sys.argv) > 1:\n"
        "    answer(*sys.argv[1:])\n"
        "else:\n"
        "    for line in sys.stdin:\n"
        "        values = json.loads(line)['values']\n"
        "        answer(values['weights'], values['out'])\n"
        "        print(json.dumps({'status': 0}), flush=True)\n"
    )
    commands = {"loss": command} | ({"serve": "{python} answer.py"} if verb == "serve" else {})
    described = Description("x", Level.MODEL, folder=tmp_path, commands=commands)
    with asked_model.asked(CommandedSubject(described, tmp_path / "home")) as model:
        assert model.losses(tmp_path, [{"w": np.ones(2)}] * 3, {"update": 1}) == [2.5] * 3
    assert (tmp_path / "home" / "serve.err").exists() == (verb == "serve")


def test_losses_are_asked_for_many_weights_at_once_and_come_back_in_order(tmp_path, monkeypatch):
    w = small.weights(dtype=np.float64)
    several = [{n: x * (1 + k / 10) for n, x in w.items()} for k in range(7)]
    expected = [small.loss(one, *small.batch(3)) for one in several]
    questions = []
    model = small.asked(tmp_path)
    ask = model.ask

    def counted(verb, values):
        questions.append(verb)
        ask(verb, values)

    model.ask = counted
    assert model.losses(tmp_path, iter(several), {"update": 3}) == expected
    assert len(questions) == 1
    monkeypatch.setattr(asked_model, "WEIGHTS_AT_ONCE", 3 * 8 * sum(x.size for x in w.values()))
    assert model.losses(tmp_path, iter(several), {"update": 3}) == expected
    assert len(questions) == 1 + 3
    assert not list(tmp_path.glob("question-*"))  # nothing stays behind


def test_logits_are_asked_in_parts_and_are_those_of_one_question(tmp_path, monkeypatch):
    tokens, _, mask = small.batch(1, rows=9)
    expected = small.logits(small.weights(dtype=np.float64), tokens)
    monkeypatch.setattr(asked_model, "LOGITS_AT_ONCE", 4 * expected[0].nbytes)
    sizes = []

    def own(w, some):
        sizes.append(len(some))
        return small.logits(w, some)

    assert np.array_equal(small.asked(tmp_path, own=own).logits(tmp_path, tokens, mask), expected)
    assert sizes == [1, 4, 4]


@pytest.mark.parametrize(
    ("own", "says"),
    [
        (lambda w, t: small.logits(w, t).astype("f4"), "`logits` answered with float32 [1, 7, 11], expected float64"),
        (lambda w, t: small.logits(w, t)[:, -1], "expected float64 [1, 7, V]"),
        (lambda w, t: small.logits(w, t)[..., : len(t) + 8], "`logits` answered for 11 tokens, before that for 9"),
    ],
)  # fmt: skip
def test_logits_of_another_form_are_refused(own, says, tmp_path):
    tokens, _, mask = small.batch(1)
    with pytest.raises(GateError) as error:
        small.asked(tmp_path, own=own).logits(tmp_path, tokens, mask)
    assert says in str(error.value)


def written(text):
    return lambda values: Path(values["out"]).write_text(text)


@pytest.mark.parametrize(
    ("verb", "answer", "says"),
    [
        ("loss", "not json", "the answer of `loss` cannot be read"),
        ("loss", '{"losses": {}}', "one for each of the files"),
        ("loss", '{"losses": {"00000.safetensors": "2"}}', "something that is not a number"),
        ("loss", "[" * 200_000, "levels"),
        ("rows", '{"3": [1, -2]}', "expected a list of natural numbers"),
        ("rows", '{"4": [1]}', "did not answer with an object of the updates [3]"),
        ("encode", '[[1], [2]]', "did not answer with a list of 1"),
        ("encode", '[[1.0]]', "expected a list of natural numbers"),
        ("decode", "[1]", "did not answer with texts alone"),
    ],
)  # fmt: skip
def test_answers_of_another_form_are_one_line(verb, answer, says, tmp_path):
    model = small.asked(tmp_path, **{verb: written(answer)})
    asks = {
        "loss": lambda: model.losses(tmp_path, [{"w": np.ones(2)}], {"update": 3}),
        "rows": lambda: model.rows(tmp_path, [3]),
        "encode": lambda: model.encode(tmp_path, ["a"]),
        "decode": lambda: model.decode(tmp_path, [[1]]),
    }
    with pytest.raises(GateError) as error:
        asks[verb]()
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_an_answer_that_is_a_link_or_missing_is_refused(tmp_path):
    target = tmp_path / "elsewhere"
    target.write_text('{"losses": {"00000.safetensors": 1.0}}')
    for answer in (lambda values: Path(values["out"]).symlink_to(target), lambda values: None):
        with pytest.raises(GateError, match="the answer of `loss` cannot be read"):
            small.asked(tmp_path, loss=answer).losses(tmp_path, [{"w": np.ones(2)}], {})


def each(name, function):
    def answer(values):
        given = json.loads(Path(values[name]).read_text())
        Path(values["out"]).write_text(json.dumps([function(one) for one in given]))

    return answer


def test_rows_masks_and_texts(tmp_path):
    mask = tensors.write({"embedding": np.ones((2, 3), bool)})
    model = small.asked(
        tmp_path,
        rows=written('{"3": [1, 2], "5": []}'),
        masks=lambda values: Path(values["out"]).write_bytes(mask),
        encode=each("texts", lambda text: [ord(letter) for letter in text]),
        decode=each("ids", lambda ids: "".join(map(chr, ids))),
    )
    assert model.rows(tmp_path, [3, 5]) == {3: [1, 2], 5: []}
    assert model.masks(tmp_path, 3)["embedding"].all()
    assert model.decode(tmp_path, model.encode(tmp_path, ["añ", ""])) == ["añ", ""]
    floats = small.asked(
        tmp_path, masks=lambda v: Path(v["out"]).write_bytes(tensors.write({"a": np.ones(2)}))
    )
    with pytest.raises(GateError, match="expected booleans"):
        floats.masks(tmp_path, 3)
