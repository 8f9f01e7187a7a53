"""Tables whose bytes lie about themselves: one line, or one row, and the process lives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flywheel.core.errors import UserError
from flywheel.ingest.sources import items


@pytest.mark.parametrize("offsets", [[0, 5, -9, 10], [0, 5, 1 << 30, 10]])
def test_an_arrow_file_whose_texts_lie_elsewhere(tmp_path: Path, offsets: list[int]) -> None:
    buffers = [None, pa.py_buffer(np.array(offsets, dtype=np.int32)), pa.py_buffer(b"a.mp4b.mp4")]
    texts = pa.Array.from_buffers(pa.string(), 3, buffers)
    batch = pa.RecordBatch.from_arrays([texts], names=["video"])
    file = tmp_path / "t.arrow"
    with pa.OSFile(str(file), "wb") as out, pa.ipc.new_file(out, batch.schema) as writer:
        writer.write_batch(batch)
    [item] = items(str(file), tmp_path / "media")
    assert "can't be read any further" in item.problem


def test_a_parquet_file_whose_columns_have_no_names(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    pq.write_table(pa.table({"video": ["a.mp4"], "caption": ["one"]}), file, store_schema=False)
    file.write_bytes(file.read_bytes().replace(b"caption", b"\xe3aption"))
    with pytest.raises(UserError, match="can't be read as a table"):
        list(items(str(file), tmp_path / "media"))
