"""Exact and near duplicates among millions of posts, in flat memory: about 350 bytes a post.

MinHash over words and word pairs (Broder 1997), with locality-sensitive hashing by sorting. Hash tables of Python objects, as general libraries
keep them, would need over a kilobyte a post.
"""

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer

HASHES = 64  # of 32 bits: the estimated similarity has a standard error of at most 0.0625
BANDS = 16  # of 4 hashes: two posts of similarity 0.7 meet in at least one band with probability 0.99
CHUNK = 2048


class DuplicateFinder:
    """Collects texts one after another, then tells which repeat an earlier one."""

    def __init__(self, similarity: float) -> None:
        """``similarity``: texts whose words and word pairs have at least this Jaccard similarity (0..1) are duplicates."""
        self.similarity = similarity
        self._waiting: list[str] = []
        self._signatures: list[np.ndarray] = []
        self._shingles = HashingVectorizer(n_features=2**31 - 1, ngram_range=(1, 2), binary=True, norm=None, alternate_sign=False, token_pattern=r"\w+")
        random = np.random.default_rng(0)
        self._factors = random.integers(1, 2**63, HASHES, dtype=np.uint64) * 2 + 1
        self._offsets = random.integers(0, 2**63, HASHES, dtype=np.uint64)

    def add(self, text: str) -> None:
        """Take in the next text."""
        self._waiting.append(text)
        if len(self._waiting) == CHUNK:
            self._hash()

    def _hash(self) -> None:
        rows = self._shingles.transform([text or " " for text in self._waiting])
        self._waiting = []
        signature = np.full((rows.shape[0], HASHES), 2**32 - 1, dtype=np.uint32)
        filled = np.flatnonzero(np.diff(rows.indptr))
        if filled.size:
            features = rows.indices.astype(np.uint64)
            starts = rows.indptr[filled]
            for k in range(HASHES):  # multiply-shift hashing: the upper half of a 64-bit product
                hashed = ((features * self._factors[k] + self._offsets[k]) >> np.uint64(32)).astype(np.uint32)
                signature[filled, k] = np.minimum.reduceat(hashed, starts)
        self._signatures.append(signature)

    def find(self) -> np.ndarray:
        """Which texts repeat an earlier one: booleans [n], in the order they were added."""
        if self._waiting:
            self._hash()
        if not self._signatures:
            return np.zeros(0, dtype=bool)
        signatures = np.concatenate(self._signatures)  # [n, HASHES]
        self._signatures = [signatures]
        repeats = np.zeros(len(signatures), dtype=bool)
        width = HASHES // BANDS
        for band in range(BANDS):
            keys = np.ascontiguousarray(signatures[:, band * width : (band + 1) * width]).view(np.dtype((np.void, 4 * width))).ravel()
            order = np.argsort(keys, kind="stable")
            sorted_keys = keys[order]
            new = np.concatenate([[True], sorted_keys[1:] != sorted_keys[:-1]])
            first_of_group = order[np.flatnonzero(new)[np.cumsum(new) - 1]]
            self._compare(signatures, order, first_of_group, repeats)
            self._compare(signatures, order[1:], np.where(new[1:], order[1:], order[:-1]), repeats)
        return repeats

    def _compare(self, signatures: np.ndarray, later: Sequence[int] | np.ndarray, earlier: np.ndarray, repeats: np.ndarray) -> None:
        candidates = np.flatnonzero(np.asarray(later) != earlier)
        for start in range(0, len(candidates), 65536):
            part = candidates[start : start + 65536]
            a, b = np.asarray(later)[part], earlier[part]
            alike = (signatures[a] == signatures[b]).mean(axis=1) >= self.similarity
            repeats[np.maximum(a, b)[alike]] = True
