"""Music for the benchmarks: the soundtrack of Battle for Wesnoth from a Debian package, or a folder of your own.

The package (151 MB, over two hours of Ogg Vorbis, GPL-2+ and CC BY-SA 4.0) is downloaded by apt once, checked by its
SHA-256 and unpacked into the user's cache. Elsewhere than on Debian give a folder: --music FOLDER.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import soundfile

PACKAGE, VERSION = "wesnoth-1.16-music", "1:1.16.9-1"
SHA256 = "f9bc3cde92b4ab30db5d7b85f89b4bcc3d788dd92602956d0347250850bf59bb"
_SUFFIXES = (".ogg", ".flac", ".wav", ".mp3", ".opus", ".aiff")


def get(minutes: float, music: Path | None = None) -> list[Path]:
    """Audio files, in order of their names, that last `minutes` together; all there are if that is less.

    `music` is a folder to take them from instead of the package. Raises SystemExit with one line where there is none.
    """
    folder = music or _package()
    found, seconds = [], 0.0
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES):
        if seconds >= minutes * 60:
            break
        found.append(path)
        seconds += soundfile.info(path).duration
    if not found:
        raise SystemExit(f"{folder} holds no music; give another folder with --music")
    return found


def _package() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "samplernn-benchmarks"
    folder = cache / f"{PACKAGE}-{SHA256[:8]}"
    if folder.is_dir():
        return folder
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise SystemExit(
            f"the music is the Debian package {PACKAGE}; elsewhere give a folder with --music FOLDER"
        )
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as work:
        got = subprocess.run(
            ["apt-get", "download", f"{PACKAGE}={VERSION}"],
            cwd=work,
            capture_output=True,
            text=True,
            check=False,
        )
        archives = list(Path(work).glob("*.deb"))
        if got.returncode or not archives:
            raise SystemExit(
                f"apt-get can't download {PACKAGE} {VERSION} ({got.stderr.strip()}); give --music FOLDER"
            )
        digest = hashlib.sha256(archives[0].read_bytes()).hexdigest()
        if digest != SHA256:
            raise SystemExit(f"{archives[0].name} has SHA-256 {digest}, not {SHA256}; it is not used")
        unpacked = Path(work) / "unpacked"
        subprocess.run(["dpkg-deb", "-x", archives[0], unpacked], check=True)
        unpacked.rename(folder)
    return folder
