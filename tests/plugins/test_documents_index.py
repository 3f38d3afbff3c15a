"""Making, updating, checking and refusing index files."""

import argparse
import json
import os
import socket
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from plb_backend_documents import building, index_command, ranking, scan
from plb_backend_documents.building import Report, build_index
from plb_backend_documents.extract import extract
from plb_backend_documents.index import open_index, open_starter
from plb_backend_documents.ranking import has_fts5
from plb_backend_documents.seal import SEAL_BYTES, UnusableIndex, seal, unseal
from plb_backend_documents.stem import stem
from plb_core import NoSettings
from plb_core.testing import fakes

Change = Callable[[bytearray], None]


def quiet(stage: str, done: int, total: int) -> None:
    assert 0 <= done <= max(total, 1), stage


def build(*folders: Path, into: Path, semantic: bool = False) -> Report:
    return build_index(list(folders), into, semantic=semantic, progress=quiet)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    write(tmp_path / "notes/a.md", "# Flux\n\nFlux is a rate.\n")
    write(tmp_path / "notes/deep/b.txt", "Mass is conserved.\n")
    return tmp_path / "notes"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "own.sqlite"


def paths_for(target: Path, question: str) -> list[str]:
    index = open_index(target)
    try:
        found = extract(index, question, 8, 4)
        return [each.passage.path for each in found.sentences] if found else []
    finally:
        index.close()


def content(target: Path) -> bytes:
    return target.read_bytes()


def age(*paths: Path) -> None:
    """Make files look as if they were written long before the index."""
    for path in paths:
        os.utime(path, ns=(10**18, 10**18))


def test_indexes_a_folder_with_path_heading_and_line(notes: Path, target: Path) -> None:
    report = build(notes, into=target)
    assert (report.files, report.added, report.passages) == (2, 2, 2)
    index = open_index(target)
    found = extract(index, "What is flux?", 8, 4)
    index.close()
    assert found is not None
    (only,) = found.sentences
    passage = only.passage
    assert (passage.path, passage.heading) == ("notes/a.md", "Flux")
    assert (only.line, only.text) == (3, "Flux is a rate.")


def test_says_again_what_it_has_without_writing(notes: Path, target: Path) -> None:
    build(notes, into=target)
    before = content(target), target.stat().st_mtime_ns, target.stat().st_ino
    report = build(notes, into=target)
    assert (report.added, report.changed, report.unchanged) == (0, 0, 2)
    assert (content(target), target.stat().st_mtime_ns, target.stat().st_ino) == before


def test_does_not_open_files_whose_size_and_time_are_as_before(
    notes: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(notes / "a.md", notes / "deep/b.txt")
    build(notes, into=target)
    opened: list[object] = []
    monkeypatch.setattr(building, "read_bytes", opened.append)
    assert build(notes, into=target).unchanged == 2
    assert opened == []


def test_compares_content_when_a_file_was_changed_just_before_it_was_indexed(
    notes: Path, target: Path
) -> None:
    build(notes, into=target)
    status = (notes / "a.md").stat()
    write(notes / "a.md", "# Flux\n\nFlux is a fate.\n")
    os.utime(notes / "a.md", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert build(notes, into=target).changed == 1


def test_a_touched_file_counts_as_unchanged(notes: Path, target: Path) -> None:
    build(notes, into=target)
    age(notes / "a.md")
    report = build(notes, into=target)
    assert (report.changed, report.unchanged) == (0, 2)


def test_updates_changed_files_and_drops_removed_ones_with_their_text(
    notes: Path, target: Path
) -> None:
    build(notes, into=target)
    write(notes / "a.md", "# Flux\n\nFlux was renamed tempo.\n")
    (notes / "deep/b.txt").unlink()
    write(notes / "c.rst", "Energy\n======\nEnergy is kept.\n")
    report = build(notes, into=target)
    assert (report.added, report.changed, report.unchanged) == (1, 1, 0)
    assert (report.removed, report.files, report.passages) == (1, 2, 2)
    assert paths_for(target, "tempo") == ["notes/a.md"]
    assert paths_for(target, "energy") == ["notes/c.rst"]
    assert paths_for(target, "conserved mass") == []
    assert b"conserved" not in content(target)
    assert b"is a rate" not in content(target)


def test_several_folders_go_into_one_index_and_unnamed_ones_out_of_it(
    tmp_path: Path, notes: Path, target: Path
) -> None:
    write(tmp_path / "papers/p.md", "Papers are long.")
    assert build(notes, tmp_path / "papers", into=target).files == 3
    assert build(notes, into=target).removed == 1


def test_empty_folders_make_an_empty_index_that_finds_nothing(
    tmp_path: Path, target: Path
) -> None:
    (tmp_path / "void").mkdir()
    assert build(tmp_path / "void", into=target).files == 0
    assert paths_for(target, "anything at all") == []


def test_leaves_out_what_is_not_readable_text_and_says_why(
    notes: Path, target: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(scan, "MAX_FILE_BYTES", 1 << 20)
    (notes / "binary.md").write_bytes(b"a\0b")
    (notes / "latin.txt").write_bytes("Gefäß".encode("latin-1"))
    write(notes / "large.txt", "x" * ((1 << 20) + 1))
    write(notes / "ignored.pdf", "no")
    write(notes / ".hidden.md", "no")
    write(notes / ".git/x.md", "no")
    os.mkfifo(notes / "pipe.md")
    (notes / "dangling.md").symlink_to(tmp_path / "nowhere.md")
    (notes / "loop.md").symlink_to(notes / "loop.md")
    report = build(notes, into=target)
    assert report.files == 2
    reasons = dict(report.problems)
    assert reasons.pop("notes/dangling.md")
    assert reasons.pop("notes/loop.md")
    assert reasons == {
        "notes/binary.md": "binary, not text",
        "notes/latin.txt": "not UTF-8 text",
        "notes/large.txt": "larger than 1 MiB",
        "notes/pipe.md": "not a regular file",
    }


def test_a_file_that_cannot_be_opened_is_left_out(
    notes: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open

    def refuse(self: Path, mode: str = "r") -> IO[Any]:
        if self.name == "a.md":
            raise PermissionError(13, "Permission denied")
        return real(self, mode)

    monkeypatch.setattr(Path, "open", refuse)
    report = build(notes, into=target)
    assert report.problems == [("notes/a.md", "Permission denied")]


def test_a_file_that_grows_while_it_is_read_is_left_out(
    notes: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents, _ = scan.find_documents([notes])
    monkeypatch.setattr(scan, "MAX_FILE_BYTES", 5)
    with pytest.raises(scan.Unreadable, match="larger"):
        scan.read_bytes(documents[0])


def test_a_folder_that_cannot_be_listed_is_reported(
    notes: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    def refuse(path: str) -> Iterator[os.DirEntry[str]]:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    report = build(notes, into=target)
    assert report.files == 1
    assert report.problems == [(str(notes / "deep"), "Permission denied")]


def test_names_that_are_not_utf8_are_left_out(notes: Path, target: Path) -> None:
    name = os.fsencode(notes) + b"/\xff.md"
    Path(os.fsdecode(name)).write_text("Odd.")
    report = build(notes, into=target)
    assert report.problems == [("notes/\\udcff.md", "its name is not valid UTF-8")]


def test_links_never_lead_out_of_the_folder(
    tmp_path: Path, notes: Path, target: Path
) -> None:
    secret = write(tmp_path / "secret/keys.md", "The secret word is swordfish.")
    (notes / "out.md").symlink_to(secret)
    (notes / "away").symlink_to(secret.parent, target_is_directory=True)
    (notes / "up").symlink_to(notes, target_is_directory=True)
    (notes / "inside.md").symlink_to(notes / "a.md")
    report = build(notes, into=target)
    assert report.problems == [("notes/out.md", "a link that leads out of the folder")]
    assert report.files == 3
    assert b"swordfish" not in content(target)


def test_a_folder_named_through_a_link_is_indexed(
    tmp_path: Path, notes: Path, target: Path
) -> None:
    (tmp_path / "alias").symlink_to(notes, target_is_directory=True)
    assert build(tmp_path / "alias", into=target).files == 2


def test_hostile_file_names_and_texts_are_only_data(notes: Path, target: Path) -> None:
    write(notes / "'); DROP TABLE passages;--.md", 'Flux "OR" NEAR(x) is odd.')
    assert build(notes, into=target).files == 3
    assert len(paths_for(target, "odd")) == 1


def test_too_many_passages_are_refused_and_the_old_index_stays(
    notes: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(notes, into=target)
    before = content(target)
    write(notes / "c.md", "More.")
    monkeypatch.setattr(building, "MAX_PASSAGES", 2)
    with pytest.raises(UnusableIndex, match="split them over several indexes"):
        build(notes, into=target)
    assert content(target) == before
    assert not list(target.parent.glob(".*"))


def test_a_failure_while_building_leaves_the_old_index_and_no_litter(
    notes: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(notes, into=target)
    before = content(target)
    write(notes / "c.md", "More.")

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(building, "seal", full)
    with pytest.raises(OSError, match="No space"):
        build(notes, into=target)
    assert content(target) == before
    assert not list(target.parent.glob(".*"))


def test_readers_keep_the_index_they_opened(notes: Path, target: Path) -> None:
    build(notes, into=target)
    index = open_index(target)
    write(notes / "a.md", "Everything changed.")
    build(notes, into=target)
    assert extract(index, "flux", 8, 4) is not None
    index.close()


def test_an_index_behind_a_link_is_replaced_where_it_lies(
    tmp_path: Path, notes: Path, target: Path
) -> None:
    build(notes, into=target)
    link = tmp_path / "link.sqlite"
    link.symlink_to(target)
    write(notes / "c.md", "More.")
    build(notes, into=link)
    assert link.is_symlink()
    assert paths_for(target, "more flux") == ["notes/a.md"]


def test_reading_cannot_change_the_file(notes: Path, target: Path) -> None:
    build(notes, into=target)
    index = open_index(target)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        index.connection.execute("DELETE FROM files")
    index.close()


# Refusals


def spoil(target: Path, change: Change) -> None:
    data = bytearray(target.read_bytes())
    change(data)
    target.write_bytes(data)


def set_version(target: Path, version: int) -> None:
    unseal(target)
    connection = sqlite3.connect(target)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    seal(target)


def flip(place: int) -> Change:
    def change(data: bytearray) -> None:
        data[place] ^= 1

    return change


def cut(count: int) -> Change:
    def change(data: bytearray) -> None:
        del data[-count:]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (flip(5000), "damaged"),
        (flip(-1), "damaged"),
        (flip(-SEAL_BYTES), "damaged"),
        (cut(1), "damaged"),
        (cut(SEAL_BYTES), "damaged"),
        (cut(5000), "damaged"),
        (lambda data: data.extend(b"x"), "damaged"),
        (lambda data: data.clear(), "not made by plb index"),
        (lambda data: data.__setitem__(slice(100, None), b""), "damaged"),
        (flip(0), "not made by plb index"),
        (flip(70), "not made by plb index"),
    ],
)
def test_a_damaged_index_is_neither_opened_nor_replaced(
    notes: Path, target: Path, change: Change, message: str
) -> None:
    build(notes, into=target)
    spoil(target, change)
    before = content(target)
    with pytest.raises(UnusableIndex, match=message):
        open_index(target)
    with pytest.raises(UnusableIndex, match=message):
        build(notes, into=target)
    assert content(target) == before


@pytest.mark.parametrize(("version", "age_word"), [(2, "newer"), (0, "older")])
def test_an_index_of_another_version_is_refused(
    notes: Path, target: Path, version: int, age_word: str
) -> None:
    build(notes, into=target)
    set_version(target, version)
    with pytest.raises(UnusableIndex, match=f"format of a {age_word} plb"):
        open_index(target)
    with pytest.raises(UnusableIndex, match=age_word):
        build(notes, into=target)


def test_a_missing_index_is_refused_with_the_command_that_makes_it(
    target: Path,
) -> None:
    with pytest.raises(UnusableIndex, match="make it with: plb index"):
        open_index(target)
    assert not target.exists()


def test_a_folder_is_no_index(tmp_path: Path) -> None:
    with pytest.raises(UnusableIndex, match="cannot read"):
        open_index(tmp_path)


def test_another_programs_database_is_never_overwritten(
    notes: Path, target: Path
) -> None:
    connection = sqlite3.connect(target)
    connection.execute("CREATE TABLE precious (x)")
    connection.commit()
    connection.close()
    before = content(target)
    with pytest.raises(UnusableIndex, match="not made by plb index"):
        build(notes, into=target)
    assert content(target) == before


def test_a_sealed_file_without_the_right_tables_is_an_sqlite_error(
    notes: Path, target: Path
) -> None:
    build(notes, into=target)
    unseal(target)
    connection = sqlite3.connect(target)
    connection.execute("DROP TABLE facts")
    connection.close()
    seal(target)
    with pytest.raises(sqlite3.Error):
        open_index(target)


# SQLite without FTS5


@pytest.fixture
def without_fts5(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(connection: sqlite3.Connection) -> bool:
        return False

    monkeypatch.setattr(building, "has_fts5", never)
    monkeypatch.setattr("plb_backend_documents.index.has_fts5", never)


@pytest.mark.usefixtures("without_fts5")
def test_without_fts5_an_index_is_made_and_searched_in_python(
    notes: Path, target: Path
) -> None:
    build(notes, into=target)
    assert paths_for(target, "What is flux?") == ["notes/a.md"]
    write(notes / "c.md", "More flux.")
    assert build(notes, into=target).added == 1
    assert len(paths_for(target, "What is flux?")) == 2


def test_an_index_made_without_fts5_is_searched_with_it_but_not_updated(
    notes: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(building, "has_fts5", lambda connection: False)
        patch.setattr("plb_backend_documents.index.has_fts5", lambda connection: False)
        build(notes, into=target)
    assert paths_for(target, "What is flux?") == ["notes/a.md"]
    with pytest.raises(UnusableIndex, match="differs in FTS5"):
        build(notes, into=target)


def test_an_index_made_with_fts5_is_searched_without_it(
    notes: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(notes, into=target)
    monkeypatch.setattr(
        "plb_backend_documents.index.has_fts5", lambda connection: False
    )
    index = open_index(target)
    assert isinstance(index.ranking, ranking.PythonRanking)
    index.close()
    assert paths_for(target, "What is flux?") == ["notes/a.md"]


def test_python_ranking_is_bounded(
    notes: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(notes, into=target)
    monkeypatch.setattr("plb_backend_documents.index.MAX_PYTHON_PASSAGES", 1)
    with pytest.raises(UnusableIndex, match="need a Python whose sqlite3 has FTS5"):
        open_index(target, fts5=False)


def test_both_rankings_order_the_starter_collection_alike() -> None:
    fast, plain = open_starter(), open_starter(fts5=False)
    assert has_fts5(fast.connection)
    for word in ("insulin", "mitochondria", "spectrometry", "fasting", "pathways"):
        terms = {stem(word): word}
        assert fast.ranking.best(terms, 5)[0] in plain.ranking.best(terms, 3)
        assert fast.ranking.frequencies(terms) == plain.ranking.frequencies(terms)
    assert fast.ranking.passages == plain.ranking.passages
    fast.close()
    plain.close()


# The command


def run(*arguments: str) -> int:
    provider = index_command.plb_register_command()
    command = provider.build(NoSettings(), fakes.context())
    parser = argparse.ArgumentParser()
    command.configure(parser)
    return command.run(parser.parse_args(arguments))


def test_the_command_prints_counts(
    notes: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(str(notes), "--into", str(target)) == 0
    shown = capsys.readouterr()
    assert (
        "2 files, 2 added, 0 changed, 0 unchanged, 0 removed, 2 passages" in shown.out
    )
    assert shown.err == ""


def test_the_command_prints_json_with_what_was_left_out(
    notes: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (notes / "binary.md").write_bytes(b"\0")
    assert run(str(notes), "--into", str(target), "--json") == 1
    assert json.loads(capsys.readouterr().out) == {
        "index": str(target),
        "files": 2,
        "added": 2,
        "changed": 0,
        "unchanged": 0,
        "removed": 0,
        "passages": 2,
        "problems": [{"path": "notes/binary.md", "problem": "binary, not text"}],
    }


def test_names_of_left_out_files_cannot_steer_a_terminal(
    notes: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (notes / "\x1b[2J.md").write_bytes(b"\0")
    assert run(str(notes), "--into", str(target)) == 1
    assert "left out notes/?[2J.md: binary, not text" in capsys.readouterr().err


def test_the_default_index_lies_in_the_current_folder(
    notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("notes") == 0
    assert (tmp_path / "documents.sqlite").exists()


def test_a_bar_is_shown_on_a_terminal(
    notes: Path,
    target: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert run(str(notes), "--into", str(target)) == 0
    assert "reading" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["nowhere", "notes/a.md"])
def test_what_is_no_folder_is_refused(
    notes: Path, target: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert run(str(notes.parent / name), "--into", str(target)) == 2
    assert "is not a folder" in capsys.readouterr().err
    assert not target.exists()


def test_two_folders_of_one_name_are_refused(
    tmp_path: Path, notes: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "old/notes/a.md", "Old.")
    assert run(str(notes), str(tmp_path / "old/notes"), "--into", str(target)) == 2
    assert "two folders are named 'notes'" in capsys.readouterr().err


def test_a_damaged_index_is_reported(
    notes: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(target, "not an index")
    assert run(str(notes), "--into", str(target)) == 2
    assert "was not made by plb index" in capsys.readouterr().err
    assert target.read_text() == "not an index"


def test_an_index_that_cannot_be_written_is_reported(
    notes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(str(notes), "--into", str(tmp_path / "nowhere/x.sqlite")) == 1
    assert "cannot write the index" in capsys.readouterr().err


def test_indexing_opens_no_socket(
    notes: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **more: object) -> None:
        raise AssertionError

    monkeypatch.setattr(socket, "socket", refuse)
    assert run(str(notes), "--into", str(target)) == 0
