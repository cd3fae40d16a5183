"""The corpus: every form is right in both languages, and a split keeps apart what it says it keeps apart."""

import hashlib
import json
import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.corpus import files, generate
from fixtures.corpus import split as split_module
from fixtures.corpus.conjugation import PERSONS, TENSES, Row, rows
from fixtures.corpus.split import (
    BLIND_VAL_CELLS_PER_VERB,
    draw,
    draw_blind,
    hold_out,
    made_up,
    permutation,
)
from reference.tokenizer import ALPHABET, BOUNDARY

SEEDS = st.integers(min_value=0, max_value=2**64 - 1)

# Written by hand, from knowledge of the two languages and not from the generator.
SPANISH = {
    "do.present_simple.1sg": "yo hago",
    "do.past_simple.1sg": "yo hice",
    "do.past_simple.2sg": "tú hiciste",
    "do.past_simple.3sg": "él hizo",
    "do.present_perfect.2sg": "tú has hecho",
    "do.future_will.1sg": "yo haré",
    "do.future_will.3sg": "él hará",
    "do.future_going_to.2sg": "tú vas a hacer",
    "say.present_simple.1sg": "yo digo",
    "say.present_simple.3sg": "él dice",
    "say.past_simple.1sg": "yo dije",
    "say.past_simple.2sg": "tú dijiste",
    "say.past_simple.3sg": "él dijo",
    "say.present_perfect.1sg": "yo he dicho",
    "say.future_will.2sg": "tú dirás",
    "open.present_perfect.1sg": "yo he abierto",
    "open.present_perfect.3sg": "él ha abierto",
    "open.past_simple.3sg": "él abrió",
    "write.past_simple.1sg": "yo escribí",
    "write.past_simple.2sg": "tú escribiste",
    "write.past_simple.3sg": "él escribió",
    "write.present_perfect.3sg": "él ha escrito",
    "write.future_will.3sg": "él escribirá",
    "have.present_simple.1sg": "yo tengo",
    "have.present_simple.2sg": "tú tienes",
    "have.present_simple.3sg": "él tiene",
    "have.past_simple.1sg": "yo tuve",
    "have.past_simple.3sg": "él tuvo",
    "have.present_perfect.1sg": "yo he tenido",
    "have.future_will.1sg": "yo tendré",
    "have.future_will.2sg": "tú tendrás",
    "have.future_will.3sg": "él tendrá",
    "go.present_simple.1sg": "yo voy",
    "go.present_simple.2sg": "tú vas",
    "go.past_simple.1sg": "yo fui",
    "go.past_simple.2sg": "tú fuiste",
    "go.past_simple.3sg": "él fue",
    "go.present_perfect.3sg": "él ha ido",
    "go.future_will.1sg": "yo iré",
    "go.future_going_to.1sg": "yo voy a ir",
    "come.present_simple.1sg": "yo vengo",
    "come.present_simple.2sg": "tú vienes",
    "come.past_simple.1sg": "yo vine",
    "come.past_simple.3sg": "él vino",
    "come.future_will.1sg": "yo vendré",
    "see.present_simple.1sg": "yo veo",
    "see.present_simple.3sg": "él ve",
    "see.past_simple.1sg": "yo vi",
    "see.past_simple.2sg": "tú viste",
    "see.past_simple.3sg": "él vio",
    "see.present_perfect.2sg": "tú has visto",
    "see.future_will.1sg": "yo veré",
    "eat.past_simple.1sg": "yo comí",
    "eat.past_simple.3sg": "él comió",
    "play.present_simple.1sg": "yo juego",
    "play.present_simple.3sg": "él juega",
    "play.past_simple.1sg": "yo jugué",
    "play.past_simple.3sg": "él jugó",
    "close.present_simple.1sg": "yo cierro",
    "close.past_simple.1sg": "yo cerré",
    "close.future_will.2sg": "tú cerrarás",
    "start.present_simple.2sg": "tú empiezas",
    "start.past_simple.1sg": "yo empecé",
    "start.past_simple.2sg": "tú empezaste",
    "start.past_simple.3sg": "él empezó",
    "return.present_simple.3sg": "él vuelve",
    "return.past_simple.3sg": "él volvió",
    "return.present_perfect.1sg": "yo he vuelto",
    "serve.present_simple.1sg": "yo sirvo",
    "serve.past_simple.1sg": "yo serví",
    "serve.past_simple.3sg": "él sirvió",
    "serve.present_perfect.3sg": "él ha servido",
    "study.present_simple.1sg": "yo estudio",
    "study.past_simple.1sg": "yo estudié",
    "study.past_simple.3sg": "él estudió",
    "study.future_will.2sg": "tú estudiarás",
    "work.past_simple.3sg": "él trabajó",
    "work.future_will.1sg": "yo trabajaré",
    "learn.past_simple.1sg": "yo aprendí",
    "live.past_simple.3sg": "él vivió",
    "watch.future_will.3sg": "él mirará",
    "stop.past_simple.1sg": "yo paré",
}
ENGLISH = {
    "do.present_simple.3sg": "he does",
    "do.past_simple.1sg": "I did",
    "do.present_perfect.3sg": "he has done",
    "say.present_simple.3sg": "he says",
    "say.past_simple.2sg": "you said",
    "write.past_simple.1sg": "I wrote",
    "write.present_perfect.1sg": "I have written",
    "have.present_simple.3sg": "he has",
    "have.past_simple.3sg": "he had",
    "have.present_perfect.3sg": "he has had",
    "go.present_simple.3sg": "he goes",
    "go.past_simple.1sg": "I went",
    "go.present_perfect.2sg": "you have gone",
    "go.future_going_to.1sg": "I am going to go",
    "come.past_simple.3sg": "he came",
    "come.present_perfect.1sg": "I have come",
    "see.past_simple.1sg": "I saw",
    "see.present_perfect.3sg": "he has seen",
    "eat.past_simple.2sg": "you ate",
    "eat.present_perfect.1sg": "I have eaten",
    "study.present_simple.3sg": "he studies",
    "study.past_simple.1sg": "I studied",
    "watch.present_simple.3sg": "he watches",
    "stop.present_simple.3sg": "he stops",
    "stop.past_simple.3sg": "he stopped",
    "live.past_simple.1sg": "I lived",
    "play.present_simple.3sg": "he plays",
    "play.past_simple.1sg": "I played",
    "open.past_simple.1sg": "I opened",
    "close.future_will.3sg": "he will close",
    "serve.future_going_to.2sg": "you are going to serve",
    "return.future_going_to.3sg": "he is going to return",
}


@pytest.mark.parametrize(("language", "table"), [("es", SPANISH), ("en", ENGLISH)])
def test_forms_are_right(language: str, table: dict[str, str]):
    forms = {row["id"]: row["es"] if language == "es" else row["en"] for row in files_rows()}
    assert {cell: forms[cell] for cell in table} == table


def test_the_hand_written_tables_are_large_enough():
    assert len(SPANISH) >= 60
    assert all(unicodedata.is_normalized("NFC", form) for form in SPANISH.values())


def files_rows() -> list[Row]:
    """What the committed files hold, which is what everything else reads."""
    return [row for split in files.read_directory().values() for row in split]


def test_the_grid_is_complete():
    cells = Counter((row["verb"], row["tense"], row["person"]) for row in files_rows())
    verbs = {row["verb"] for row in files_rows()}
    assert cells == Counter((verb, tense, person) for verb in verbs for tense in TENSES for person in PERSONS)
    regular = {row["verb"]: row["en_regular"] for row in files_rows()}
    assert Counter(regular.values()) == {True: 12, False: 8}


def test_no_two_cells_share_a_form():
    """Otherwise a held-out cell could stand in the training data under another name."""
    assert len({row["es"] for row in rows()}) == 300
    ambiguous = {form: count for form, count in Counter(row["en"] for row in rows()).items() if count > 1}
    assert ambiguous == {}


def test_every_text_is_nfc():
    assert all(unicodedata.is_normalized("NFC", row["en"] + row["es"]) for row in files_rows())


def test_regenerating_gives_the_committed_bytes():
    for name, data in generate.corpus_files().items():
        assert (files.COMMITTED / name).read_bytes() == data, name


def test_manifest_holds_the_digests():
    manifest = json.loads((files.COMMITTED / "MANIFEST.json").read_bytes())
    for name, facts in manifest["files"].items():
        data = (files.COMMITTED / name).read_bytes()
        assert facts == {"sha256": hashlib.sha256(data).hexdigest(), "rows": data.count(b"\n")}
    assert manifest["seed"] == str(generate.SEED)


def test_check_reports_a_changed_and_a_missing_file(tmp_path, capsys):
    assert generate.main(["--out", str(tmp_path)]) == 0
    assert generate.main(["--check", "--out", str(tmp_path)]) == 0
    (tmp_path / "val.jsonl").write_bytes((tmp_path / "val.jsonl").read_bytes()[:-1])
    assert generate.main(["--check", "--out", str(tmp_path)]) != 0
    (tmp_path / "train.jsonl").unlink()
    assert generate.main(["--check", "--out", str(tmp_path)]) != 0
    first, second = capsys.readouterr().err.splitlines()
    assert "val.jsonl: differs" in first
    assert "train.jsonl: missing" in second


@given(SEEDS)
def test_a_split_divides_the_cells(seed: int):
    splits = draw(rows(), seed)
    cells = [row["id"] for split in splits.values() for row in split]
    assert sorted(cells) == sorted(row["id"] for row in rows())
    assert {name: len(split) for name, split in splits.items()} == {"train": 192, "val": 48, "test": 60}


@given(SEEDS)
def test_test_verbs_are_two_regular_and_two_irregular_never_seen(seed: int):
    splits = draw(rows(), seed)
    test_verbs = {row["verb"]: row["en_regular"] for row in splits["test"]}
    assert Counter(test_verbs.values()) == {True: 2, False: 2}
    assert not test_verbs.keys() & {row["verb"] for row in splits["train"] + splits["val"]}


@given(SEEDS)
def test_val_is_balanced(seed: int):
    val = draw(rows(), seed)["val"]
    assert set(Counter(row["verb"] for row in val).values()) == {3}
    assert set(Counter(row["person"] for row in val).values()) == {16}
    assert sorted(Counter(row["tense"] for row in val).values()) == [9, 9, 10, 10, 10]


@given(SEEDS)
def test_what_val_asks_for_was_taught(seed: int):
    """The verb occurs in training in that tense, and in that person: only their combination is new."""
    splits = draw(rows(), seed)
    taught = {(row["verb"], row["tense"]) for row in splits["train"]}
    taught |= {(row["verb"], row["person"]) for row in splits["train"]}
    for row in splits["val"]:
        assert {(row["verb"], row["tense"]), (row["verb"], row["person"])} <= taught


@given(SEEDS, st.randoms(use_true_random=False))
def test_the_seed_alone_decides(seed: int, random):
    shuffled = rows()
    random.shuffle(shuffled)
    one, other = draw(rows(), seed), draw(shuffled, seed)
    assert {n: {r["id"] for r in s} for n, s in one.items()} == {
        n: {r["id"] for r in s} for n, s in other.items()
    }


def test_every_verb_gets_its_turn_as_a_test_verb():
    turns = Counter(
        verb for seed in range(100) for verb in {row["verb"] for row in draw(rows(), seed)["test"]}
    )
    assert turns.keys() == {row["verb"] for row in rows()}


def test_a_verb_with_too_few_cells_is_an_impossible_split():
    one_tense = [row for row in rows() if row["tense"] == "past_simple"]
    with pytest.raises(ValueError, match=r"impossible split: verb '[a-z]+' has too few cells"):
        hold_out(one_tense, 2, seed=0, label="val")


@given(SEEDS)
def test_a_blind_split_hands_over_training_cells_only(seed: int):
    blind = draw_blind(rows(), seed)
    handed = [row for split in blind.handed.values() for row in split]
    kept = [row for split in blind.kept.values() for row in split]
    assert blind.handed.keys() == {"train", "val"}
    assert {name: len(split) for name, split in blind.kept.items()} == {"val": 48, "test": 60}
    assert len({row["id"] for row in handed + kept}) == len(rows())
    for name in ("id", "en", "es"):
        assert not {row[name] for row in kept} & {row[name] for row in handed}


@given(SEEDS)
def test_the_words_of_a_blind_split_exist_nowhere_else(seed: int):
    """The committed cells lie on the subject's disk: whoever learned them has learned none of these."""
    blind = draw_blind(rows(), seed)
    made = [row for part in (blind.handed, blind.kept) for split in part.values() for row in split]
    for name in ("id", "en", "es", "verb"):
        assert not {row[name] for row in made} & {row[name] for row in rows()}
        assert len({row[name] for row in made}) == len({row[name] for row in rows()})


@given(SEEDS, st.integers(min_value=0, max_value=9))
def test_letters_are_permuted_one_to_one_and_nothing_else_changes(seed: int, attempt: int):
    letters = permutation(seed, attempt)
    assert sorted(letters) == sorted(letters.values()) == sorted({*ALPHABET} - {"I", BOUNDARY})
    back = str.maketrans({new: old for old, new in letters.items()})
    for real, made in zip(rows(), made_up(rows(), seed, attempt), strict=True):
        assert made["id"] == f"{made['verb']}.{made['tense']}.{made['person']}"
        assert all(made[name].translate(back) == real[name] for name in ("en", "es", "verb", "es_verb"))
        assert all(made[name] == real[name] for name in ("tense", "person", "en_regular", "es_regular"))


def test_each_seed_and_each_attempt_has_its_own_letters():
    drawn = [tuple(permutation(seed, attempt).values()) for seed in range(50) for attempt in range(4)]
    assert len(set(drawn)) == len(drawn)


def test_a_blind_split_takes_the_next_letters_when_the_first_do_not_do(monkeypatch):
    first, second = (made_up(rows(), 5, attempt) for attempt in (0, 1))
    words = {row["en"] for row in first}
    assert {row["en"] for split in draw_blind(rows(), 5).kept.values() for row in split} <= words
    verdicts = iter([False, True])
    monkeypatch.setattr(split_module, "_fits", lambda split: next(verdicts))
    kept = [row for split in draw_blind(rows(), 5).kept.values() for row in split]
    assert {row["en"] for row in kept} <= {row["en"] for row in second}


def test_a_blind_split_that_never_fits_is_impossible(monkeypatch):
    monkeypatch.setattr(split_module, "_fits", lambda split: False)
    with pytest.raises(ValueError, match="impossible split: seed 5 gives no usable words"):
        draw_blind(rows(), 5)


@given(SEEDS)
def test_the_blind_val_is_small_and_balanced(seed: int):
    _, val = hold_out(draw(rows(), seed)["train"], BLIND_VAL_CELLS_PER_VERB, seed, "blind val")
    assert set(Counter(row["verb"] for row in val).values()) == {1}
    assert sorted(Counter(row["tense"] for row in val).values()) == [3, 3, 3, 3, 4]


def test_a_data_directory_holds_the_handed_rows_and_nothing_else(tmp_path):
    blind = draw_blind(rows(), 5)
    files.write_directory(tmp_path / "data", blind.handed)
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["train.jsonl", "val.jsonl"]
    assert files.read_directory(tmp_path / "data") == blind.handed
    with pytest.raises(FileExistsError, match="not empty"):
        files.write_directory(tmp_path / "data", blind.handed)
