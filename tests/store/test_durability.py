"""What a commit promises."""

from app.store.dialects.sqlite.connection import open_writer

_FULL = 2


def test_writer_returns_from_a_commit_once_the_disk_has_it(tmp_path):
    writer = open_writer(tmp_path / "jobs.db")
    try:
        assert writer.execute("PRAGMA synchronous").fetchone() == (_FULL,)
        assert writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    finally:
        writer.close()
