"""Registry of application models: a folder with a folder for each; nothing is in a database."""

import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cgeartheye.apps.card import ARTIFACTS, CARD, THUMBNAIL, Card, is_id, read_card
from cgeartheye.utils.errors import UserError, nearest
from cgeartheye.utils.io import digest, replacing
from cgeartheye.utils.state import json_object

WEIGHTS, FACTS = "model.safetensors", "model.json"  # as a run directory has them
FILES = (CARD, FACTS, THUMBNAIL, *ARTIFACTS)
_LARGEST = {CARD: 2**20, FACTS: 2**22, THUMBNAIL: 2**22}  # bytes
_LARGEST_WEIGHTS = 2**34


def default_registry() -> Path:
    """Return the user's registry: `CGEARTHEYE_APPS`, or a folder of the user's data."""
    return Path(os.environ.get("CGEARTHEYE_APPS") or user_data("apps"))


def user_data(name: str) -> Path:
    """Return a folder of the user's data (XDG Base Directory Specification).

    Args:
        name: of the folder.
    """
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "cgeartheye" / name


class Registry:
    """The applications in a folder."""

    def __init__(self, folder: Path | None = None):
        """Take a folder.

        Args:
            folder: none: the user's own, see `default_registry`.
        """
        self.folder = default_registry() if folder is None else folder

    def ids(self) -> list[str]:
        """Return the ids of the applications, sorted."""
        if not self.folder.is_dir():
            return []
        return sorted(path.parent.name for path in self.folder.glob(f"[!.]*/{CARD}"))

    def cards(self) -> list[Card]:
        """Return the cards of all applications, by id.

        Raises:
            UserError: a card is damaged.
        """
        return [read_card(self.folder / one) for one in self.ids()]

    def path(self, name: str) -> Path:
        """Return the folder of an application, which is read as a run directory is.

        Raises:
            UserError: there is none of that id.
        """
        ids = self.ids()
        if name not in ids:
            known = f"it has {', '.join(ids)}" if ids else "it has none yet"
            raise UserError(
                f"no application '{name}' in {self.folder}: {known}{nearest(name, ids)}"
            )
        return self.folder / name

    def card(self, name: str) -> Card:
        """Return the card of an application; see `path`."""
        return read_card(self.path(name))

    def remove(self, name: str) -> None:
        """Delete an application."""
        folder = self.path(name)
        gone = folder.with_name(f".{name}.removed-{os.getpid()}")
        with _writing():
            folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    @contextmanager
    def adding(self, name: str, replace: bool = False) -> Iterator[Path]:
        """Yield a folder to write an application into; it is there, whole, when the block ends.

        Args:
            name: its id.
            replace: an application that has it.

        Raises:
            UserError: the id is taken, or the registry cannot be written.
        """
        place = self.folder / name
        if place.exists() and not replace:
            raise UserError(
                f"{self.folder} has an application '{name}' already: replace it with --replace, or "
                "name another --id"
            )
        unfinished = self.folder / f".{name}.partial-{os.getpid()}"
        try:
            with _writing():
                unfinished.mkdir(parents=True)
            yield unfinished
            if place.exists():
                self.remove(name)
            with _writing():
                unfinished.rename(place)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def export(self, name: str, file: Path) -> None:
        """Write an application as a ZIP file.

        Args:
            name: its id.
            file: ending in .zip.

        Raises:
            UserError: another ending, no such application, or the file cannot be written.
        """
        if file.suffix.lower() != ".zip":
            raise UserError(f"{file} must end in .zip")
        folder = self.path(name)
        with replacing(file) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for part in FILES:
                if (folder / part).exists():
                    archive.write(folder / part, part)

    def take(self, source: Path, replace: bool = False) -> Card:
        """Import an application that `export` wrote, or a folder of one.

        Args:
            source: a ZIP file or a folder.
            replace: an application of the same id.

        Raises:
            UserError: it is none, a file is damaged, missing or too large, or the id is taken.
        """
        if source.is_dir():
            card = read_card(source)
            with self.adding(card.id, replace) as folder:
                for part in FILES:
                    if (source / part).is_file():
                        with _writing():
                            shutil.copyfile(source / part, folder / part)
                _check(card, folder, source)
            return card
        unpacked = self.folder / f".import-{os.getpid()}"
        try:
            with _writing():
                unpacked.mkdir(parents=True)
            _unpack(source, unpacked)
            return self.take(unpacked, replace)
        finally:
            shutil.rmtree(unpacked, ignore_errors=True)


def find_run(run: Path, registry: Path | None = None) -> Path:
    """Return a run directory or model as it is, or the folder of the application of that name.

    Args:
        run: a path, or the id of an application.
        registry: its folder; none: the user's own.

    Raises:
        UserError: there is neither.
    """
    if run.exists() or not is_id(str(run)):
        return run
    found = Registry(registry)
    if str(run) in found.ids():
        return found.path(str(run))
    raise UserError(
        f"no trained model in {run}: there is no such folder, and no application of that name in "
        f"{found.folder}{nearest(str(run), found.ids())}"
    )


def _unpack(source: Path, folder: Path) -> None:
    """Write the known files of an archive; every other name in it is refused."""
    try:
        with zipfile.ZipFile(source) as archive:
            for member in archive.infolist():
                if member.filename not in FILES:
                    raise UserError(
                        f"{source} is no exported application: it holds '{member.filename[:80]}'"
                    )
                if member.file_size > _LARGEST.get(member.filename, _LARGEST_WEIGHTS):
                    raise UserError(f"{source}: {member.filename} is too large for an application")
                with archive.open(member) as data, (folder / member.filename).open("wb") as out:
                    shutil.copyfileobj(data, out, 2**20)
    except (OSError, zipfile.BadZipFile, RuntimeError, EOFError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{source} cannot be read as an exported application: {reason}") from error


def _check(card: Card, folder: Path, source: Path) -> None:
    """Make sure that an application is whole and that its weights are those of its card."""
    for part in (*card.files, FACTS):
        if not (folder / part).is_file():
            raise UserError(f"{source} is no whole application: {part} is missing")
    try:
        export = json_object((folder / FACTS).read_bytes()).get("export")
        named = tuple(export["files"]) if export else (WEIGHTS,)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{source}: {FACTS} is not the description of a model") from error
    if named != card.files or digest(folder / part for part in card.files) != card.sha256:
        raise UserError(
            f"{source}: {card.files[0]} is not the one of its card: export the application anew"
        )


@contextmanager
def _writing() -> Iterator[None]:
    """Turn a failed write into a sentence."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {error.filename}: {error.strerror}") from error
