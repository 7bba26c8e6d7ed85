"""Pairs of each query with its most similar database images, by global descriptors.

    python -m samfeat_hloc.pairs_from_retrieval --descriptors global.h5 --output pairs.txt --num_matched 20 \\
        --query_prefix query --db_prefix db

Similarities are computed block by block and only the best are kept: memory does not grow with queries x database.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samfeat_hloc.errors import InputError, run_cli
from samfeat_hloc.formats.global_features import list_global_names, read_global_descriptors
from samfeat_hloc.formats.h5store import read_signature
from samfeat_hloc.formats.image_lists import ImageList, read_image_list
from samfeat_hloc.formats.names import check_known
from samfeat_hloc.formats.pairs import Pair, write_pairs

logger = logging.getLogger(__name__)
BLOCK = 1024  # images; two blocks of 32768-d descriptors are 256 MiB
Float32Array = npt.NDArray[np.float32]
PathLike = Path | str


def main(
    descriptors: PathLike,
    output: PathLike,
    num_matched: int,
    query_prefix: str | Sequence[str] | None = None,
    query_list: ImageList | None = None,
    db_prefix: str | Sequence[str] | None = None,
    db_list: ImageList | None = None,
    db_model: PathLike | None = None,
    db_descriptors: PathLike | Sequence[PathLike] | None = None,
    min_score: float | None = None,
) -> Path:
    """Write `QUERY DATABASE` pairs, best first for each query.

    Args:
        descriptors: global descriptors of the queries.
        output: pair list.
        num_matched: database images a query.
        query_prefix: queries are the images whose names begin with it (or with one of several).
        query_list: queries by name, or a text file of names (`*` in a path matches several). Default: all images.
        db_prefix, db_list: the same for the database. Without any, the database is all images that are no queries;
            when every image is a query, all of them: an image is never paired with itself.
        db_model: COLMAP model whose images are the database; goes before the other two, as in hloc.
        db_descriptors: global descriptors of the database, one file or several; default: the same file.
        min_score: pairs with a lower cosine are left out.

    Returns:
        the pair list.

    Raises:
        InputError: a name without descriptor, an empty set, descriptors of different codebooks, or no pair at all.
    """
    if num_matched < 1:
        raise InputError(f"num_matched is {num_matched}; expected at least 1")
    given = db_descriptors if db_descriptors is not None else descriptors
    files = [Path(given)] if isinstance(given, (str, Path)) else [Path(item) for item in given]
    _check_comparable([Path(descriptors), *files])
    known_queries = list_global_names(descriptors)
    where: dict[str, Path] = {name: file for file in files for name in list_global_names(file)}
    queries = _select("query", query_prefix, query_list, known_queries, Path(descriptors))
    if db_model is not None:
        database = _names_of_model(db_model, where)
    elif db_prefix is None and db_list is None:
        excluded = set(queries)
        database = [name for name in where if name not in excluded] or list(where)
    else:
        database = _select("database", db_prefix, db_list, list(where), files[0])
    pairs = retrieve(Path(descriptors), where, queries, database, num_matched, min_score)
    lonely = len(set(queries) - {name for name, _ in pairs})
    if not pairs:
        raise InputError(f"none of the {len(queries)} queries has a database image; check the prefixes and lists")
    if lonely:
        logger.warning("warning: %d of %d queries have no database image", lonely, len(queries))
    write_pairs(output, pairs)
    return Path(output)


def retrieve(
    query_file: Path,
    database_files: dict[str, Path],
    queries: Sequence[str],
    database: Sequence[str],
    num_matched: int,
    min_score: float | None = None,
    block: int = BLOCK,
) -> list[Pair]:
    """Best database images of each query, best first. Descriptors that are all zero (no features) match nothing."""
    pairs: list[Pair] = []
    numbers = {name: number for number, name in enumerate(database)}
    for first in range(0, len(queries), block):
        names = list(queries[first : first + block])
        rows = read_global_descriptors(query_file, names)
        own = np.array([numbers.get(name, -1) for name in names])
        scores, indices = np.zeros((len(names), 0), np.float32), np.zeros((len(names), 0), np.int64)
        for start in range(0, len(database), block):
            columns = _read_block(database_files, database[start : start + block])
            if columns.shape[1] != rows.shape[1]:
                raise InputError(
                    f"global descriptors of length {rows.shape[1]} (queries) and {columns.shape[1]} (database); "
                    "make both with one codebook"
                )
            similarity = _masked_similarity(rows, columns, own - start)
            scores, indices = merge_best(scores, indices, similarity, start, num_matched)
        lowest = -np.inf if min_score is None else min_score
        for name, row_scores, row in zip(names, scores, indices, strict=True):
            kept = np.isfinite(row_scores) & (row_scores >= lowest)
            pairs += [(name, database[i]) for i in row[kept]]
    return pairs


def merge_best(
    scores: Float32Array, indices: npt.NDArray[np.int64], similarity: Float32Array, start: int, count: int
) -> tuple[Float32Array, npt.NDArray[np.int64]]:
    """Merge a block of similarities into the best so far.

    Args:
        scores, indices: (Q, k) best so far, k <= count, in descending order.
        similarity: (Q, B) of database images `start`, `start` + 1, ...
        start: number of the block's first image.
        count: how many to keep.

    Returns:
        the new scores and indices; of equal scores the lower index comes first.
    """
    keep = min(count, similarity.shape[1])
    if keep < similarity.shape[1]:
        columns = np.argpartition(-similarity, keep - 1, axis=1)[:, :keep]
    else:
        columns = np.broadcast_to(np.arange(keep), similarity.shape)
    all_scores = np.concatenate([scores, np.take_along_axis(similarity, columns, 1)], axis=1)
    all_indices = np.concatenate([indices, columns + start], axis=1)
    order = np.lexsort((all_indices, -all_scores), axis=1)[:, :count]
    return np.take_along_axis(all_scores, order, 1), np.take_along_axis(all_indices, order, 1)


def _masked_similarity(rows: Float32Array, columns: Float32Array, own: npt.NDArray[Any]) -> Float32Array:
    """(Q, B) dot products; -inf for the image itself and for images without features."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    product = torch.from_numpy(rows).to(device) @ torch.from_numpy(columns).to(device).T
    similarity: Float32Array = product.cpu().numpy()
    inside = np.flatnonzero((own >= 0) & (own < len(columns)))
    similarity[inside, own[inside]] = -np.inf
    similarity[~rows.any(axis=1)] = -np.inf
    similarity[:, ~columns.any(axis=1)] = -np.inf
    return similarity


def _read_block(files: dict[str, Path], names: Sequence[str]) -> Float32Array:
    """(len(names), D) descriptors that may be spread over several files; each is opened once."""
    by_file: dict[Path, list[int]] = {}
    for number, name in enumerate(names):
        by_file.setdefault(files[name], []).append(number)
    parts = {file: read_global_descriptors(file, [names[i] for i in rows]) for file, rows in by_file.items()}
    if len({part.shape[1] for part in parts.values()}) > 1:
        raise InputError("the database files have global descriptors of different lengths; make all with one codebook")
    if len(parts) == 1:
        return next(iter(parts.values()))
    merged = np.empty((len(names), next(iter(parts.values())).shape[1]), np.float32)
    for file, rows in by_file.items():
        merged[rows] = parts[file]
    return merged


def _select(
    kind: str, prefix: str | Sequence[str] | None, names: ImageList | None, known: Sequence[str], path: Path
) -> list[str]:
    """hloc's rule: a prefix goes before a list, without both all names."""
    if prefix is not None:
        prefixes = prefix if isinstance(prefix, str) else tuple(prefix)
        chosen = [name for name in known if name.startswith(prefixes)]
        if not chosen:
            raise InputError(f"no {kind} image in {path} begins with {prefix}; the first name there is '{known[0]}'")
        return chosen
    if names is None:
        return list(known)
    chosen = read_image_list(names)
    check_known(chosen, known, f"the {kind} list", str(path))
    return chosen


def _names_of_model(model: PathLike, where: dict[str, Path]) -> list[str]:
    from samfeat_hloc._pycolmap import read_model

    names = sorted(image.name for image in read_model(model).images.values())
    check_known(names, where, f"the model {model}", "the database descriptors")
    return names


def _check_comparable(files: Sequence[Path]) -> None:
    """Descriptors of different codebooks or networks have no common meaning."""
    signatures = {file: read_signature(file) for file in dict.fromkeys(files)}
    first_file, first = next(iter(signatures.items()))
    for file, signature in signatures.items():
        if signature is not None and first is not None and signature != first:
            raise InputError(f"{first_file} and {file} were made with different codebooks; make both with one")


def cli() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--descriptors", type=Path, required=True, help="global descriptors of the queries")
    parser.add_argument("--output", type=Path, required=True, help="pair list to write")
    parser.add_argument("--num_matched", type=int, required=True, help="database images a query")
    parser.add_argument("--query_prefix", nargs="+", help="queries begin with one of these")
    parser.add_argument("--query_list", help="text file of queries; a * matches several files")
    parser.add_argument("--db_prefix", nargs="+", help="database images begin with one of these")
    parser.add_argument("--db_list", help="text file of database images; a * matches several files")
    parser.add_argument("--db_model", type=Path, help="COLMAP model whose images are the database")
    parser.add_argument("--db_descriptors", type=Path, nargs="+", help="of the database; default: the same file")
    parser.add_argument("--min_score", type=float, help="least cosine of a pair")
    args = parser.parse_args()
    print(main(**vars(args)))


if __name__ == "__main__":
    run_cli(cli)
