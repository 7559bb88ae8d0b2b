"""Local files that hold texts: which they may be, and the text of a table's column."""

from __future__ import annotations

from pathlib import Path

from rayfit.errors import RayfitError, first_line, nearest

TABLES = (".parquet", ".jsonl", ".csv")
SUFFIXES = (*TABLES, ".txt")


def local_files(path: Path) -> list[Path]:
    """The files that make up a local dataset, sorted; raises RayfitError when there is nothing that can be read."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*.txt") if file.is_file())
        if not files:
            raise RayfitError(
                f"dataset: the folder {path} holds no .txt file (a folder is one document per .txt file)"
            )
        return files
    if not path.is_file():
        raise RayfitError(f"dataset: there is no file or folder {path}")
    if path.suffix not in SUFFIXES:
        hint = nearest(path.suffix, SUFFIXES)
        raise RayfitError(
            f"dataset: {path} ends in {path.suffix!r}; expected one of {', '.join(SUFFIXES)}{hint}"
        )
    return [path]


def table_column(file: Path, text_column: str, *, where: str = "dataset") -> list[str | None]:
    """The texts of a column of a parquet, jsonl or csv file, None where a row has none.

    Raises RayfitError for a file that cannot be read, which begins with `where`, and for a column that is missing or
    not text.
    """
    import polars as pl  # not above: what plans knows files by name alone, also on a machine that only trains

    try:
        match file.suffix:
            case ".parquet":
                table = pl.read_parquet(file)
            case ".jsonl":
                table = pl.read_ndjson(file, infer_schema_length=None)
            case _:
                table = pl.read_csv(file, infer_schema_length=None)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = first_line(error)
        raise RayfitError(f"{where}: {file} cannot be read as {file.suffix[1:]}: {reason}") from error
    if text_column not in table.columns:
        hint = nearest(text_column, table.columns)
        raise RayfitError(
            f"--text-column: {file} has no column {text_column!r}; it has {', '.join(table.columns)}{hint}"
        )
    if table.schema[text_column] != pl.String:
        raise RayfitError(
            f"--text-column: {text_column!r} of {file} is {table.schema[text_column]}, expected text"
        )
    return table[text_column].to_list()
