import csv
import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.core import params, tables
from stages.core.errors import InputError
from stages.core.files import replacing, sha256, short_hash
from stages.corpora.record import Record, Unusable
from stages.corpora.removal import Removals
from stages.data import collect as collecting
from stages.data import contrast, filter, instruct, respond
from stages.data.collect import Params, collect, read

ROOT = Path(__file__).parents[2]
SENTENCES = [
    "We have to pass the housing bill before the summer break.",
    "My grandmother taught me to bake bread with very little salt.",
    "Nobody asked the teachers what they thought about the new schedule.",
    "The river was higher this spring than in any year I remember.",
    "Our mayor spent the whole road budget on a single parking garage.",
    "Young families cannot afford the rent in this town any more.",
    "The bus came late again and everyone was standing in the rain.",
    "Small shops deserve the same tax rules as the giant companies.",
]


def settings(**changes: object) -> Params:
    values = {
        "sources": {},
        "parties": {},
        "language": "en",
        "language_certainty": 0.9,
        "min_words": 4,
        "duplicate_similarity": 0.6,
        "max_unreadable": 0.2,
        "salt": "pepper",
    }
    return Params.model_validate(values | changes)


def record(number: int, text: str | None = None, author: str | None = "ann", unusable: Unusable | None = None, problem: str = "") -> Record:
    text = SENTENCES[number % len(SENTENCES)] if text is None else text
    return Record(f"p{number}", author, datetime(2022, 3, 1, tzinfo=UTC), text, unusable, problem)


def collected(folder: Path, *records: Record, **changes: object) -> list[dict[str, object]]:
    collect(iter(records), "test", settings(**changes), folder / "posts.parquet")
    return list(tables.read(folder / "posts.parquet", tables.POSTS).to_pylist())


def contents(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path) for path in folder.iterdir()}


def statuses(folder: Path, *records: Record, **changes: object) -> list[object]:
    return [row["status"] for row in collected(folder, *records, **changes)]


# ---- the sample corpora


@pytest.mark.usefixtures("in_root")
@pytest.mark.parametrize(("leaning", "folder"), [("left", "politosphere"), ("right", "truthsocial"), ("control", "control")])
def test_statuses_of_the_sample_agree_with_its_gold(leaning: str, folder: str, tmp_path: Path) -> None:
    chosen = params.load("collect", Params)
    path, target = chosen.sources[leaning].path, tmp_path / "posts.parquet"
    collecting.main(leaning, path, Path("data/external/removed.txt"), target)
    source = f"{chosen.sources[leaning].format}:{path.name}"
    found = {row["id"]: row["status"] for row in tables.read(target, tables.POSTS).to_pylist()}
    with (ROOT / "data" / "sample" / folder / "gold.csv").open(encoding="utf-8") as file:
        gold = {short_hash(source, row["native_id"]): row["status"] for row in csv.DictReader(file)}
    assert found.keys() == gold.keys()
    right = sum(found[key] == gold[key] for key in gold) / len(gold)
    assert right >= 0.97


@pytest.mark.usefixtures("in_root")
@pytest.mark.parametrize("leaning", ["left", "right", "control"])
def test_no_row_of_the_sample_is_lost(leaning: str, tmp_path: Path) -> None:
    chosen = params.load("collect", Params)
    records = list(read(leaning, chosen))
    counts = collect(iter(records), "s", chosen, tmp_path / "posts.parquet")
    rows = tables.read(tmp_path / "posts.parquet", tables.POSTS).to_pylist()
    assert [row["id"] for row in rows] == [short_hash("s", record.native_id) for record in records]
    assert sum(counts.values()) == len(records)
    assert counts == {status: sum(row["status"] == status for row in rows) for status in counts}


# ---- marking


def test_each_row_is_marked_with_the_first_reason_against_it(tmp_path: Path) -> None:
    spanish = "Tenemos que aprobar la ley antes de las vacaciones, digan lo que digan."
    spam = "Order now and get 20% off with free shipping https://example.net"
    found = statuses(
        tmp_path,
        record(0),
        record(1, "garbage", unusable="unreadable", problem="x: row 2: bad"),
        record(2, "[deleted]", unusable="deleted"),
        record(3, "", unusable="empty"),
        record(4, unusable="language"),
        record(5, spanish),
        record(6, spam),
        record(7, "So true @bob https://example.net/a/b/c"),
        record(8, SENTENCES[0] + " Please."),
    )
    assert found == ["kept", "unreadable", "deleted", "empty", "language", "language", "spam", "short", "duplicate"]


def test_the_first_of_several_copies_is_kept(tmp_path: Path) -> None:
    texts = [SENTENCES[0], SENTENCES[1], SENTENCES[0], SENTENCES[1].upper(), SENTENCES[2]]
    assert statuses(tmp_path, *(record(i, text) for i, text in enumerate(texts))) == ["kept", "kept", "duplicate", "duplicate", "kept"]


def test_texts_that_differ_in_masked_details_only_are_copies(tmp_path: Path) -> None:
    a, b = (record(i, f"{SENTENCES[0]} https://example.net/{i} @user{i}") for i in range(2))
    assert statuses(tmp_path, a, b) == ["kept", "duplicate"]


def test_a_copy_of_a_row_that_is_not_kept_is_kept(tmp_path: Path) -> None:
    assert statuses(tmp_path, record(0, SENTENCES[0], unusable="language"), record(1, SENTENCES[0])) == ["language", "kept"]


def test_a_repeated_id_is_marked_so_that_kept_ids_are_unique(tmp_path: Path) -> None:
    assert statuses(tmp_path, record(1, SENTENCES[0]), record(1, SENTENCES[1]), record(2, SENTENCES[2])) == ["kept", "duplicate", "kept"]


def test_min_words_counts_words_without_masks(tmp_path: Path) -> None:
    four, three = "Vote them all out @bob @ann", "Vote them out @bob @ann https://example.net"
    assert statuses(tmp_path, record(0, four), record(1, three)) == ["kept", "short"]
    assert statuses(tmp_path, record(0, four), record(1, three), min_words=3) == ["kept", "kept"]


def test_details_are_masked_in_every_row_even_an_unusable_one(tmp_path: Path) -> None:
    private = "ann@example.org told @bob at https://example.net to call 555-123-4567"
    rows = collected(tmp_path, record(0), record(1, private), record(2, private, unusable="language"))
    assert [row["text"] for row in rows[1:]] == ["[email] told @user at [link] to call [phone]"] * 2


def test_authors_are_hashed_with_the_salt(tmp_path: Path) -> None:
    given = [record(0, author="ann"), record(1, author="bob"), record(2, author="ann"), record(3, author=None)]
    ann, bob, again, nobody = (row["author"] for row in collected(tmp_path, *given))
    assert ann == hashlib.blake2b(b"test\x1fann", key=b"pepper", digest_size=8).hexdigest()
    assert ann == again != bob
    assert nobody is None
    assert collected(tmp_path, *given, salt="other")[0]["author"] not in (ann, bob)


def test_no_author_stands_in_the_file(tmp_path: Path) -> None:
    collected(tmp_path, *(record(i, author="remarkable_name") for i in range(8)))
    assert "remarkable_name" not in json.dumps(pq.read_table(tmp_path / "posts.parquet").to_pylist(), default=str)


def test_a_salt_of_any_length_can_be_used(tmp_path: Path) -> None:
    long, longer = "s" * 100, "s" * 101
    assert collected(tmp_path, record(0), salt=long)[0]["author"] != collected(tmp_path, record(0), salt=longer)[0]["author"]


def test_ids_depend_on_the_dump_and_on_the_row() -> None:
    ids = {collecting.to_post(record(number), source, settings())["id"] for number in range(3) for source in ("a", "b")}
    assert len(ids) == 6


def test_half_an_emoji_does_not_stop_the_stage(tmp_path: Path) -> None:
    half = json.loads(r'"\ud83d"')
    rows = collected(tmp_path, record(0), record(1, f"{SENTENCES[1]} {half}", author=f"ann{half}"))
    assert str(rows[1]["text"]).startswith(SENTENCES[1])


# ---- streaming


def test_rows_come_out_the_same_in_chunks_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [record(i, SENTENCES[i * 3 % 8] if i % 5 else "Too short") for i in range(40)]
    at_once = collected(tmp_path, *given)
    monkeypatch.setattr(collecting, "CHUNK", 7)
    assert collected(tmp_path, *given) == at_once
    assert len(at_once) == 40


def test_only_the_table_is_left_behind(tmp_path: Path) -> None:
    collected(tmp_path, record(0), record(1))
    assert [path.name for path in tmp_path.iterdir()] == ["posts.parquet"]


# ---- refusing


def broken(n: int, of: int) -> list[Record]:
    return [record(i, unusable="unreadable", problem=f"dump: row {i}: bad") if i < n else record(i) for i in range(of)]


def test_too_many_unreadable_rows_stop_with_counts_and_leave_the_former_output(tmp_path: Path) -> None:
    collected(tmp_path, record(0))
    before = contents(tmp_path)
    with pytest.raises(InputError, match=r"6 of 10 rows are unreadable, more than collect\.max_unreadable = 0\.5") as caught:
        collected(tmp_path, *broken(6, 10), max_unreadable=0.5)
    assert [f"dump: row {i}: bad" in str(caught.value) for i in range(6)] == [True] * 5 + [False]
    assert contents(tmp_path) == before


def test_as_many_unreadable_rows_as_allowed_are_kept_and_marked(tmp_path: Path) -> None:
    assert statuses(tmp_path, *broken(5, 10), max_unreadable=0.5).count("unreadable") == 5


@pytest.mark.parametrize("records", [[], [record(0, "Too short")], [record(0, "", unusable="empty")] * 3])
def test_a_corpus_without_a_kept_post_stops_and_leaves_the_former_output(tmp_path: Path, records: list[Record]) -> None:
    collected(tmp_path, record(0))
    before = contents(tmp_path)
    with pytest.raises(InputError, match=f"no post of {len(records)} is kept"):
        collected(tmp_path, *records)
    assert contents(tmp_path) == before


def test_a_dump_that_breaks_off_leaves_the_former_output(tmp_path: Path) -> None:
    def breaking() -> Iterator[Record]:
        yield record(1)
        raise InputError("dump: row 3: the file ends within the row")

    collected(tmp_path, record(0))
    before = contents(tmp_path)
    with pytest.raises(InputError, match="ends within the row"):
        collect(breaking(), "test", settings(), tmp_path / "posts.parquet")
    assert contents(tmp_path) == before


def test_a_politosphere_leaning_without_a_party_is_refused(tmp_path: Path) -> None:
    chosen = settings(sources={"green": {"format": "politosphere", "path": tmp_path}})
    with pytest.raises(InputError, match=r"collect\.parties has no entry for 'green'"):
        read("green", chosen)


# ---- parameters


class Rates(params.Section):
    rate: float
    steps: int


def test_all_mistakes_of_a_section_are_reported_together(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("a:\n  rate: fast\n  colour: red\n  size: 3\n")
    with pytest.raises(InputError) as caught:
        params.load("a", Rates, file)
    lines = str(caught.value).splitlines()[1:]
    assert sorted(line.split(":")[1].strip() for line in lines) == ["a.colour", "a.rate", "a.size", "a.steps"]
    assert all(str(file) in line for line in lines)


def test_an_exponent_without_a_point_is_a_number_and_no_is_a_word(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("tiny: 1e-05\nother: 3e-4\nword: no\nflag: true\nname: on\n")
    found = params.read_yaml(file)
    assert found == {"tiny": 0.00001, "other": 0.0003, "word": "no", "flag": True, "name": "on"}
    assert isinstance(found["tiny"], float)


def test_dots_descend_into_sections(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("a:\n  b:\n    rate: 1e-05\n    steps: 2\n")
    assert params.load("a.b", Rates, file) == Rates(rate=0.00001, steps=2)
    for absent in ("c", "a.c", "a.b.rate.x"):
        with pytest.raises(InputError, match=f"there is no section '{absent}'"):
            params.load(absent, Rates, file)


@pytest.mark.parametrize("text", ["a: [1", "a: 1\na: 2\n", "a: 'open"])
def test_a_parameter_file_that_is_no_yaml_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=r"params\.yaml: is not readable as YAML"):
        params.read_yaml(file)
    with pytest.raises(InputError, match="there is no such file"):
        params.read_yaml(tmp_path / "nowhere.yaml")


def test_sections_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Rates(rate=1.0, steps=1).rate = 2.0


@pytest.mark.usefixtures("in_root")
def test_the_shipped_parameters_suit_the_data_stages() -> None:
    assert set(params.load("collect", Params).sources) == set(params.load_study().leanings)
    assert 0 <= params.load("filter", filter.Params).threshold < filter.SCORES
    assert params.load("instruct", instruct.Params).limit > 0
    for section, schema in (("respond", respond.Params), ("contrast", contrast.Params)):
        assert params.load(section, schema).max_tokens > 0


def test_a_study_without_its_lists_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("leanings: [left]\nother: 1\n")
    with pytest.raises(InputError, match="leanings.*datasets"):
        params.load_study(file)


# ---- tables and files


SMALL = pa.schema({"id": pa.string(), "n": pa.int8()})


def test_a_table_reads_back_in_the_order_and_types_of_its_schema(tmp_path: Path) -> None:
    pq.write_table(pa.table({"extra": [1.5], "n": pa.array([7], pa.int64()), "id": ["a"]}), tmp_path / "t.parquet")
    table = tables.read(tmp_path / "t.parquet", SMALL)
    assert table.schema == SMALL
    assert table.to_pylist() == [{"id": "a", "n": 7}]


@pytest.mark.parametrize(("columns", "problem"), [({"id": ["a"]}, r"column n is missing\. The file has: id"), ({"id": ["a"], "n": ["x"]}, "another type")])
def test_a_table_with_other_columns_is_refused(tmp_path: Path, columns: dict[str, list[str]], problem: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=problem):
        tables.read(tmp_path / "t.parquet", SMALL)


def test_a_missing_or_damaged_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"t\.parquet: there is no such file"):
        tables.read(tmp_path / "t.parquet", SMALL)
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(InputError, match=r"t\.parquet: is not a readable Parquet file"):
        tables.read(tmp_path / "t.parquet", SMALL)


def test_rows_that_do_not_fit_leave_the_former_table(tmp_path: Path) -> None:
    target = tmp_path / "t.parquet"
    tables.write(target, [{"id": "a", "n": 7}], SMALL)
    with pytest.raises(pa.ArrowInvalid):
        tables.write(target, [{"id": "b", "n": 1000}], SMALL)
    assert tables.read(target, SMALL).to_pylist() == [{"id": "a", "n": 7}]


def test_a_failing_write_leaves_the_former_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="half way"), replacing(target) as temporary:
        temporary.write_text("new")
        raise RuntimeError("half way")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failing_folder_leaves_the_former_folder_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "a").write_text("old")
    with pytest.raises(RuntimeError, match="half way"), replacing(target) as temporary:
        temporary.mkdir()
        (temporary / "a").write_text("new")
        raise RuntimeError("half way")
    assert (target / "a").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_old_stays_until_the_new_is_whole_and_is_then_gone(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "folder"
    for content in ("one", "two"):
        with replacing(target) as temporary:
            temporary.mkdir()
            (temporary / content).touch()
            assert not (target / content).exists()
        assert [path.name for path in target.iterdir()] == [content]
    assert list(target.parent.iterdir()) == [target]


def test_short_hashes_tell_parts_apart() -> None:
    assert short_hash("ab", "c") == hashlib.sha256(b"ab\x1fc").hexdigest()[:16]
    assert len({short_hash("ab", "c"), short_hash("a", "bc"), short_hash("abc")}) == 3


# ---- removal


@pytest.mark.parametrize("listed", ["p1", short_hash("test", "p1")])
def test_nothing_but_the_id_of_a_removed_post_is_left(tmp_path: Path, listed: str) -> None:
    records = [record(0), record(1), record(2, SENTENCES[1])]
    before = collected(tmp_path, *records)
    collect(iter(records), "test", settings(), tmp_path / "posts.parquet", Removals(frozenset({listed})))
    after = tables.read(tmp_path / "posts.parquet", tables.POSTS).to_pylist()
    assert after[1] == {"id": before[1]["id"], "source": "test", "author": None, "created_at": None, "text": "", "status": "removed"}
    assert [after[0], after[2]] == [before[0], before[2]]
    assert before[2]["status"] == "duplicate"  # a copy does not take the place of the removed post
