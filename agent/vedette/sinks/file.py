"""Sink `file`: one JSON object a sample, a line each, in a file that rotates by size."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import Any, Literal

import msgspec
from pydantic import ByteSize, Field

from vedette import Diagnosis, Sink, SinkConfig, hookimpl
from vedette.kit import Batches, json_objects

_MODE = 0o640
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 15.0


class FileConfig(SinkConfig):
    """Options of the `file` sink."""

    path: Path = Field(description="The file; its folder must exist.", examples=["samples.jsonl"])
    format: Literal["jsonl"] = Field("jsonl", description="One JSON object a line.")
    max_bytes: ByteSize = Field(
        ByteSize(100_000_000),
        ge=1,
        description="Size at which the file becomes `path.1`, such as 10MB or 512KiB. Default: 100MB.",
        examples=["100MB"],
    )
    keep: int = Field(3, ge=1, le=1000, description="How many old files to keep: `path.1` is the youngest.")


class FileSink(Sink[FileConfig]):
    """Appends whole lines, one write a batch. What cannot be written is tried again; the queue fills meanwhile."""

    name = "file"
    durable = True

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """Whether lines can be written; nothing is."""
        path = self.config.path
        folder = path.parent
        if not folder.is_dir():
            diagnosis.failed("folder", f"there is no folder {folder}", "make it", f"mkdir -p {quote(str(folder))}")
        elif path.exists() and not (path.is_file() and os.access(path, os.W_OK)):
            diagnosis.failed("file", f"{path} cannot be written to", "see its owner and mode")
        elif not os.access(folder, os.W_OK | os.X_OK):
            diagnosis.failed(
                "folder", f"{folder} cannot be written to", "a new file cannot be made, nor the old turned"
            )
        else:
            free = shutil.disk_usage(folder).free
            least = self.config.max_bytes * (self.config.keep + 1)
            say = diagnosis.ok if free > least else diagnosis.warning
            say(
                "folder",
                f"{folder} can be written to, {free / 1e9:.1f} GB free of the {least / 1e9:.1f} GB it may take",
            )

    async def run(self, batches: Batches) -> None:
        """Write every batch until the agent stops.

        Raises:
            OSError: the last batch before the stop could not be written.
        """
        encode = msgspec.json.Encoder(decimal_format="number", enc_hook=str).encode
        writer = LineFile(self.config.path, self.config.max_bytes, self.config.keep)
        try:
            async for batch in batches:
                if not len(batch):
                    continue
                lines = b"".join(b"%b\n" % encode(item) for item in json_objects(batch))
                await self._append(writer, lines, batches)
        finally:
            writer.close()

    async def _append(self, writer: LineFile, lines: bytes, batches: Batches) -> None:
        """Write until it is written: a commit waits for it, and a listener is slowed down by the queue behind it."""
        pause = _FIRST_PAUSE
        while True:
            try:
                writer.append(lines)
            except OSError as error:
                what = f"{self.config.path}: {error.strerror or error}"
                if batches.closed:
                    raise OSError(error.errno, what) from None
                self.failed(what)
            else:
                self.recovered()
                return
            await batches.closing(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


class LineFile:
    """An append-only file of whole lines that rotates by renaming, and notices when others rotate it.

    Args:
        path: the file.
        limit: size in bytes that the file does not exceed, but for a single larger write.
        keep: how many old files stay.
    """

    def __init__(self, path: Path, limit: int, keep: int) -> None:
        self._path = path
        self._limit = limit
        self._keep = keep
        self._file = -1

    def append(self, lines: bytes) -> None:
        """Write all of these lines or none of them.

        Raises:
            OSError: they were not written; the next call opens the file again.
        """
        try:
            size = self._ready()
            if size and size + len(lines) > self._limit:
                self._rotate()
                size = self._ready()
            self._write(lines, size)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Close the file; `append` opens it again."""
        if self._file >= 0:
            file, self._file = self._file, -1
            os.close(file)

    def _ready(self) -> int:
        """Have the file that is at the path now open, and say how large it is."""
        if self._file >= 0:
            mine = os.fstat(self._file)
            try:
                there = self._path.stat()
            except FileNotFoundError:
                self.close()
            else:
                if (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino):
                    return mine.st_size
                self.close()
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)
        return os.fstat(self._file).st_size

    def _rotate(self) -> None:
        for number in range(self._keep - 1, 0, -1):
            older = self._numbered(number)
            if older.exists():
                older.replace(self._numbered(number + 1))
        self._path.replace(self._numbered(1))
        self.close()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _write(self, lines: bytes, size: int) -> None:
        done = 0
        try:
            while done < len(lines):
                done += os.write(self._file, lines[done:])
        except OSError:
            if done:  # the disk filled up in the middle: half a line would spoil the next one
                with suppress(OSError):
                    os.ftruncate(self._file, size)
            raise


@hookimpl
def register_sinks(register: Any) -> None:
    """Register the sink."""
    register(FileSink)
