"""Makes an editable install find the package `rexecutor_server` in app/, which hatchling by itself does not."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from editables import EditableProject
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class EditableInstall(BuildHookInterface):
    """Puts an import hook into the editable wheel instead of copies of the files."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            return
        self.folder = TemporaryDirectory()
        project = EditableProject(self.metadata.core.name, self.root)
        project.map("rexecutor_server", "app")
        for name, content in project.files():
            path = Path(self.folder.name, name)
            path.write_text(content, encoding="utf-8")
            build_data["force_include_editable"][str(path)] = name

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        if version == "editable":
            self.folder.cleanup()
