"""Whether a dataset can be trained on, found before a cluster is touched."""

from __future__ import annotations

from orchestrator.workspace import Workspace
from samplernn import commit
from samplernn.chunks import CARD, PCM
from samplernn.errors import BadInput, Damaged


def require_dataset(workspace: Workspace, name: str) -> None:
    """Raises BadInput when there is no such dataset, or one that does not verify.

    On this machine's disk every track is read and its hash compared, on an object store only its manifest: the nodes
    verify the copies that they take.
    """
    folder = workspace.dataset(name)
    try:
        card = commit.read_record(folder, CARD)
        for track in card["tracks"]:
            at = folder.at("tracks", track["id"])
            if folder.local is None:
                commit.read_manifest(at)
            else:
                commit.verify_file(at, PCM)
    except (Damaged, FileNotFoundError) as error:
        if not folder.exists(CARD):
            whole = [other for other in workspace.names("datasets") if workspace.dataset(other).exists(CARD)]
            known = ", ".join(whole) or "none yet"
            raise BadInput(
                f"there is no dataset {name!r} (there are: {known}); orchestrator ingest FOLDER makes one"
            ) from error
        what = str(error) if isinstance(error, Damaged) else "a track has no manifest"
        raise BadInput(
            f"the dataset {name} is damaged: {what}; the ingest command that made it mends it (whole tracks are kept)"
        ) from error
