"""What the copies lack in which experiments run: `dvc exp run --temp` and the queue copy only what git tracks."""

from __future__ import annotations

import os
from pathlib import Path

from streetrecall.errors import UserError
from streetrecall.external import git
from streetrecall.params.schema import Params, load

NETWORKS = Path("data/networks")
READ_BY_DVC = ("dvc.yaml", "dvc.lock", "params.yaml")
SHOWN = 5  # files that a message names


def require_tracked(root: Path) -> None:
    """Make sure that a copy of the folder ``root`` holds everything that the stages of dvc.yaml read.

    Raises:
        UserError: git does not track a file that a stage reads, or a stage reads a path that starts with "..".
    """
    untracked, outside = lacking(root)
    if outside:
        raise UserError(
            f"the pipeline reads {outside[0]}, which is outside of this folder. Experiments run in copies of it; "
            "there, a relative path leads elsewhere: give the absolute path in params.yaml"
        )
    if untracked:
        names = ", ".join(untracked[:SHOWN]) + (", ..." if len(untracked) > SHOWN else "")
        raise UserError(
            f"git does not track {len(untracked)} of the files that the pipeline reads: {names}. Experiments run in "
            "copies of the folder, which hold only what git tracks. Run `git add` for these files (`git add --force` "
            "for a network, which .gitignore leaves out), or give a folder of pictures by its absolute path "
            "(archive.path). With --untracked, the experiments run without them"
        )


def require_collection(root: Path, params: Params) -> None:
    """Make sure that a copy of the folder ``root`` finds the collection of a provider that reads this machine's files.

    Raises:
        UserError: its path is relative, and git does not track what is there.
    """
    path = getattr(getattr(params, params.provider), "path", None)
    if path is None or Path(path).is_absolute():
        return
    inside = Path(os.path.normpath(root / path)).is_relative_to(root)
    if not inside or git(root, "ls-files", "--others", "-z", "--", path):
        raise UserError(
            f"{params.provider}.path: {path}: experiments run in copies of this folder, which hold only what git "
            f"tracks; give the absolute path: {(root / path).absolute()}"
        )


def lacking(root: Path) -> tuple[list[str], list[str]]:
    """Files that stages read and that neither git nor DVC tracks, and relative paths that lead out of ``root``.

    Of the networks of others, only those that ``baseline.networks`` names are read.
    """
    from dvc.repo import Repo

    base = root.resolve()
    with Repo(str(root)) as repo:
        made = [Path(out.fs_path) for out in repo.index.outs]  # DVC puts outputs into the copies
        read, outside = [name for name in READ_BY_DVC if (base / name).exists()], set()
        for dep in (dep for stage in repo.index.stages for dep in stage.deps if dep.protocol == "local"):
            path = Path(dep.fs_path)
            if path.is_relative_to(base):
                read.append(path.relative_to(base).as_posix())
            elif not Path(dep.def_path).is_absolute():
                outside.add(str(dep.def_path))
        unused = unused_networks(base)
        listed = filter(None, git(root, "ls-files", "--others", "-z", "--", *sorted(set(read))).split("\0"))
        untracked = [
            name
            for name in listed
            if name not in unused
            and not any((base / name).is_relative_to(out) for out in made)
            and not repo.dvcignore.is_ignored_file(str(base / name))
        ]
    return sorted(untracked), sorted(outside)


def unused_networks(root: Path) -> set[str]:
    """Files in data/networks, below ``root``, that params.yaml does not name."""
    if not (root / "params.yaml").is_file():
        return set()
    used = {network.file for network in load(root / "params.yaml").baseline.networks}
    return {(NETWORKS / path.name).as_posix() for path in (root / NETWORKS).glob("*") if path.name not in used}
