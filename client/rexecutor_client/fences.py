"""Remembers under which fence this client holds a job, so that a call that names only the job is fenced too."""

from collections import OrderedDict
from threading import Lock

_MOST = 50_000


class Fences:
    """The fence of each job that was handed out here; of very many the latest. Threads may share it."""

    def __init__(self) -> None:
        """Begin with none."""
        self._fences: OrderedDict[int, int] = OrderedDict()
        self._lock = Lock()

    def remember(self, job_id: int, fence: int) -> None:
        """Note that a job was handed out."""
        with self._lock:
            self._fences[job_id] = fence
            self._fences.move_to_end(job_id)
            if len(self._fences) > _MOST:
                self._fences.popitem(last=False)

    def forget(self, job_id: int, fence: int | None) -> None:
        """Note that a job is held no more under this fence; under a later one it may be."""
        with self._lock:
            if self._fences.get(job_id) == fence:
                self._fences.pop(job_id, None)

    def of(self, job_id: int, given: int | None) -> int | None:
        """Return the given fence, else the one under which the job is held here, else None."""
        return self._fences.get(job_id) if given is None else given
