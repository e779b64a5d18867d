"""The files of an instance: found, followed through rotations, given up. All of it blocks, and runs in a thread."""

from __future__ import annotations

import os
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vedette_checks.log_file import containers
from vedette_checks.log_file.config import LogFileConfig
from vedette_checks.log_file.content import READABLE, Packed, Plain
from vedette_checks.log_file.copies import Copies
from vedette_checks.log_file.finding import Found, find
from vedette_checks.log_file.rotated import Origin, copied, is_rotated, renamed, unseen, whereabouts
from vedette_checks.log_file.tail import Position, Tail, where

SOURCES = "sources"
"""Key of the state under which the paths are that were followed before."""

_OPEN = 500  # files kept open, where the system allows; those beyond are opened again when they change
_SHARE = 4  # of the descriptors that the process may have an instance takes one of so many
_LEAST_OPEN = 16
_LINGER = 300.0  # seconds that a renamed file is kept, as its writer may not have noticed
_LINGER_DELETED = 30.0
_AGAIN = 5.0  # seconds for which what was rotated unseen is looked for
_SHOWN = 8_192  # last bytes of a file that `vedette check` shows


@dataclass(frozen=True, slots=True)
class _Missed:
    """What may have been rotated away unseen: from where, since when and after which file, looked for until when."""

    origin: Origin
    source: str
    since: int
    after: str
    until: float


class Files:
    """Keeps a tail for each file.

    Args:
        config: the options.
        state: what was stored.
        shows: show what is there instead of following it.
        written: a path as it may be written down: what must not leave may be in a name too.
    """

    def __init__(
        self,
        config: LogFileConfig,
        state: Mapping[str, Any],
        *,
        shows: bool = False,
        written: Callable[[str], str] = str,
    ) -> None:
        self.tails: list[Tail] = []
        self.matched = 0
        """Files that the paths match."""
        self.trouble: dict[str, str] = {}
        """Why files cannot be read, by path."""
        self.rotations: Counter[str] = Counter()
        """Rotations by how, since that was last told."""
        self.lost = 0
        """Bytes that were cut off before they were read, since that was last told."""
        self.over = 0
        """Files beyond `max_files`."""
        self.missing: list[str] = []
        """Files that were not read to their end and are gone, since that was last told."""
        self.waiting = 0
        """Files that have grown and wait until another may be closed."""
        self.hurries = False
        """Whether some of them could be opened at once, as others were when it was looked last."""
        self.freed: set[str] = set()
        """Slots of the state that are free, and not yet stored as such."""
        before = state.get(SOURCES)
        self.known: set[str] = set(before) if isinstance(before, list) else set()
        """Paths of the configuration whose files were looked for before."""
        self._config = config
        self._shows = shows
        self._written = written
        self._slots: set[str] = set()
        self._reusable: list[str] = []
        self._last_slot = -1
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]  # -1 is none
        self._most_open = max(_LEAST_OPEN, min(_OPEN, limit // _SHARE if limit > 0 else _OPEN))
        self._open = 0
        self._turn = 0
        self._missed: list[_Missed] = []
        self.copies = Copies(max(config.poll, config.discover))
        self._stored = {} if shows else {slot: Position.restored(value) for slot, value in state.items() if value}
        self._inherited: dict[tuple[int, int], Plain] = {}

    # At the start

    def inherit(self, tails: Iterable[Tail]) -> None:
        """Take over open files from a predecessor: one that was deleted cannot be opened again."""
        for tail in tails:
            if isinstance(tail.content, Plain):
                self._inherited[tail.identity] = tail.content
                tail.content = None

    def restore(self) -> None:
        """Find the files of the state again, wherever they are now."""
        sources = {str(path) for path in self._config.paths}
        places: dict[tuple[str, str], list[tuple[Position, Tail | None]]] = {}
        for slot, position in self._stored.items():
            if slot == SOURCES:
                continue
            self.freed.add(slot)
            if position is None or position.source not in sources:
                continue
            tail = self._found_again(position)
            places.setdefault((position.path, position.real), []).append((position, tail))
            if tail is None:
                self.missing.append(position.path)
                self.lost += max(0, position.size - position.offset)
                continue
            self._add(tail, slot)
            tail.changed = tail.position() != position
            self._keep_open(tail)
        for known in places.values():
            self._catch_up_after(known)
        for content in self._inherited.values():
            content.close()
        self._inherited.clear()

    def _catch_up_after(self, known: list[tuple[Position, Tail | None]]) -> None:
        """Look for what was rotated unseen, after these files that were at the same path, if any of them was."""
        if all(tail is not None and not tail.moved for _, tail in known):
            return
        first, tail = min(known, key=lambda one: one[0].changed)
        folders = [one.folder for _, one in known if one is not None and one.folder]
        origin = Origin(first.path, first.real or first.path, folders[0] if folders else first.folder)
        self._catch_up(origin, first.source, first.changed, tail.place if tail is not None else "")

    def _found_again(self, position: Position) -> Tail | None:
        identity = (position.device, position.inode)
        content = self._inherited.pop(identity, None)
        if content is not None and (tail := self._resumed(content, position)) is not None:
            tail.moved = where(position.path) != identity
            return tail
        if where(position.path) == identity:
            try:
                tail = self._resumed(Plain(position.path), position)
                if tail is not None:
                    tail.real = os.path.realpath(tail.path)
            except OSError:
                tail = None
            if tail is not None:
                return tail
        else:
            tail = renamed(position, self._config.encoding)
            if tail is not None:
                self.rotations["rename"] += 1
                return tail
        taken = {tail.identity for tail in self.tails}
        if (tail := copied(position, self._config.encoding, taken)) is not None:
            self.rotations["copy"] += 1
        return tail

    def _resumed(self, content: Plain, position: Position) -> Tail | None:
        tail = Tail(position.path, position.source, content, self._config.encoding, position.real)
        tail.folder = position.folder
        try:
            if tail.resume(position):
                return tail
        except OSError:
            pass
        tail.close()
        return None

    # While it runs

    def discover(self) -> None:
        """Take up files that are new, and say which can not be read."""
        found = find(self._config.paths, self._config.exclude)
        self.matched = len(found)
        matched = {one.identity: one for one in found}
        by_identity = {tail.identity: tail for tail in self.tails}
        now = time.monotonic()
        self.copies.forget(now)
        self.trouble = {}
        unknown = [one for one in found if one.identity not in by_identity]
        new = [one for one in unknown if not self.copies.holds(one.identity, one.size, now)]
        room = max(0, self._config.max_files - len(self.tails))
        self.over = max(0, len(new) - room)
        self._count_open()
        folders = {tail.path: tail.folder for tail in self.tails if tail.folder}
        for one in new[:room]:
            self._take_up(one, folders.get(one.path, ""))
        for tail in self.tails:
            if tail.finished and (there := matched.get(tail.identity)) is not None:
                tail.path, tail.source, tail.moved, tail.finished = there.path, there.source, False, False
                tail.real = os.path.realpath(tail.path)
                tail.changed = True
        self.known.update(str(path) for path in self._config.paths)

    def _take_up(self, one: Found, folder: str = "") -> None:
        real = os.path.realpath(one.path)
        try:
            content = Plain(real)  # so it is this one's, though a link is switched meanwhile
        except OSError as error:
            self.trouble[one.path] = error.strerror or str(error)
            return
        tail = Tail(one.path, one.source, content, self._config.encoding, real)
        tail.folder = folder
        try:
            size = tail.size = content.size() or 0
            if self._shows:
                tail.begin_at(max(0, size - _SHOWN))
                tail.skipping = tail.offset > 0
            elif one.source not in self.known and self._config.start_position == "end":
                tail.begin_at(size)
        except OSError as error:
            self.trouble[one.path] = error.strerror or str(error)
            tail.close()
            return
        self._add(tail)
        self._keep_open(tail)

    def _count_open(self) -> None:
        self._open = sum(tail.content is not None and not tail.moved for tail in self.tails)

    def _keep_open(self, tail: Tail) -> None:
        """Keep a file open if there is room: closed it waits to be read, and one that is renamed cannot be opened."""
        if tail.moved:
            return
        if self._open < self._most_open:
            self._open += 1
        else:
            _close(tail)

    def _new_slot(self) -> str:
        if self._reusable:
            return self._reusable.pop()
        while True:
            self._last_slot += 1
            if (slot := f"f{self._last_slot}") not in self._slots:
                return slot

    def _add(self, tail: Tail, slot: str = "") -> None:
        """Have it among the tails, with its tags and a place in the state."""
        slot = slot or self._new_slot()
        self._slots.add(slot)
        self.freed.discard(slot)
        tail.slot = slot
        tail.grown = time.monotonic()
        of_container = containers.tags_of(tail.path)
        tail.container = self._config.format == "container" or (
            self._config.format == "auto" and of_container is not None
        )
        if of_container is not None:
            tail.tags = of_container
            named = dict(tag.split(":", 1) for tag in of_container)
            tail.service = named.get("container_name", "")
        else:
            folder, _, name = self._written(tail.path).rpartition("/")
            tail.tags = (f"filename:{name}", f"dirname:{folder or '/'}")
        if tail.content is not None:
            tail.size, tail.written = tail.content.size() or 0, tail.content.about().st_mtime_ns
        first = sum(one.moved for one in self.tails) if tail.moved else len(self.tails)
        self.tails.insert(first, tail)  # what was written first is read first

    def look(self) -> None:
        """See what grew, what was rotated and what is over."""
        now = time.monotonic()
        self._park(self.waiting)
        self._count_open()
        self.waiting, turn, self._turn = 0, self._turn, 0
        opened = self._open
        for tail in [*self.tails[turn:], *self.tails[:turn]]:
            try:
                self._look_at(tail, now)
            except OSError as error:
                self.trouble[tail.path] = error.strerror or str(error)
        for missed in self._missed.copy():
            if not self._take_up_unseen(missed) and missed.until <= now:
                self._missed.remove(missed)
        self.hurries = self.waiting > 0 and self._open > opened
        self._park(0)

    def _look_at(self, tail: Tail, now: float) -> None:
        there = None if tail.moved else where(tail.path)
        if tail.finished and now - tail.grown > (_LINGER_DELETED if tail.deleted else _LINGER):
            if not any(one.path == tail.path and one.moved and one.written < tail.written for one in self.tails):
                self._give_up(tail)  # the oldest first: what is newer than one that is known and unknown was never seen
            return
        if tail.content is None and (tail.finished or not self._open_again(tail, there)):
            return
        content = tail.content
        if content is None:
            return
        about, before = content.about(), tail.written
        tail.deleted = not about.st_nlink
        if not tail.packed:
            if about.st_size < max(tail.offset, tail.size):
                self.truncated(tail)
            if about.st_size != tail.size:
                tail.size, tail.grown = about.st_size, now
                tail.quiet = tail.last = False
            tail.written = about.st_mtime_ns
        if not tail.moved and there != tail.identity:
            if not tail.packed and not tail.is_as_before():  # before it was renamed: its copy is not to be read whole
                self.truncated(tail)
            tail.moved = tail.changed = True
            self.rotations["delete" if tail.deleted else "rename"] += 1
            self._locate(tail)
            self._catch_up(Origin.of(tail), tail.source, before, tail.place)
            if there is not None:
                self._follow(tail, there)

    def _locate(self, tail: Tail) -> None:
        """See where a file went: those that were rotated after it may be there too."""
        tail.place = tail.place or whereabouts(tail)
        folder = os.path.dirname(tail.place)  # noqa: PTH120
        if folder and folder not in map(os.path.dirname, (tail.real, tail.path)):
            for one in self.tails:
                if one.path == tail.path and one.folder != folder:
                    one.folder, one.changed = folder, True

    def _follow(self, old: Tail, identity: tuple[int, int]) -> None:
        """Another file is in its place: take it up at once."""
        if not any(tail.identity == identity for tail in self.tails):
            self.copies.acquit(identity)
            self.known.add(old.source)
            self._take_up(Found(old.path, identity, 0.0, 0, old.source), old.folder)

    def _open_again(self, tail: Tail, there: tuple[int, int] | None) -> bool:
        """Open a file that was closed for want of room, where it has changed or is another's now."""
        position = tail.position()
        if there == tail.identity:
            size = os.stat(tail.path).st_size  # noqa: PTH116
            if size == tail.ended:
                return False
            if self._open >= self._most_open:
                self.waiting, tail.size = self.waiting + 1, size
                self._turn = self._turn or self.tails.index(tail)
                return False
            self._open += 1
            tail.content = Plain(tail.path)
            return True
        taken = {one.identity for one in self.tails}
        again = renamed(position, self._config.encoding) or copied(position, self._config.encoding, taken)
        if again is None:
            self._give_up(tail)
            if not tail.offset:  # it was never read: whatever was made of it is to be read whole
                self._catch_up(Origin.of(tail), tail.source, tail.written, "")
            if there is not None:
                self._follow(tail, there)
            return False
        tail.content, again.content = again.content, None
        tail.identity, tail.place, tail.folder = again.identity, again.place, again.folder
        return True

    def truncated(self, tail: Tail) -> None:
        """Begin anew in a file that was truncated; what was not read of it may be in a copy."""
        self.rotations["truncate"] += 1
        rest = self._rest_of(tail) if tail.offset else None
        self._catch_up(Origin.of(tail), tail.source, tail.written, "")
        if rest is None and tail.size > tail.offset:
            self.lost += tail.size - tail.offset
        tail.begin_anew()

    def _rest_of(self, tail: Tail) -> Tail | None:
        """The copy that holds what was not read of a file, among those that are new here or as one more."""
        position = tail.position()
        for one in self.tails:
            if not one.fresh or one is tail or one.content is None or not is_rotated(one.path, Origin.of(tail)):
                continue
            if one.resume(position):
                one.changed = True
                return one
        rest = copied(position, self._config.encoding, {one.identity for one in self.tails})
        if rest is not None:
            self.copies.acquit(rest.identity)
            tail.folder = rest.folder
            self._add(rest)
        return rest

    def _catch_up(self, origin: Origin, source: str, since: int, after: str) -> None:
        """Take up what was rotated away after the last file that was seen at a path: another may have come and gone.

        It is done again for some seconds, as files may be renamed and compressed meanwhile.
        """
        missed = _Missed(origin, source, since, after, time.monotonic() + _AGAIN)
        self._missed.append(missed)
        self._take_up_unseen(missed)

    def _take_up_unseen(self, missed: _Missed) -> bool:
        """Returns whether there is one that must be looked at again, as it may be a copy."""
        path, waits = missed.origin.path, False
        now = where(path)
        taken = {tail.identity for tail in self.tails} | ({now} if now is not None else set())
        for name, identity in unseen(missed.origin, missed.since, missed.after, taken):
            try:
                content = Packed(name) if name.endswith(READABLE) else Plain(name)
            except OSError as error:
                self.trouble[name] = error.strerror or str(error)
                continue
            tail = Tail(path, missed.source, content, self._config.encoding, missed.origin.real)
            tail.moved, tail.size, tail.place = True, content.size() or 0, name
            tail.folder = missed.origin.folder
            try:
                known = self._is_known(tail)
                suspect = not known and self._is_suspect(tail, [other for other in self.tails if other.path == path])
            except OSError:  # it is being compressed: what it is made of is there too
                known, suspect = True, False
            if known or suspect:
                waits = waits or suspect
                tail.close()
            else:
                self.copies.acquit(identity)
                self._add(tail)
        return waits

    def _is_known(self, tail: Tail) -> bool:
        """Whether it is what was made of a file that is followed under its old name: compressed, to the same end.

        One that is empty is only just being made, of a file that is there too.
        """
        others = (other for other in self.tails if other.moved and other.path == tail.path)
        return tail.packed and (
            tail.is_empty() or any(tail.is_copy_of(other) and tail.ends_at(other.size) for other in others)
        )

    def is_copy(self, tail: Tail) -> bool:
        """Whether an unread file may be a copy of another: then it is given up until that one is truncated, or not."""
        if self._is_suspect(tail, [other for other in self.tails if is_rotated(tail.path, Origin.of(other))]):
            self._give_up(tail)
            return True
        return False

    def _is_suspect(self, tail: Tail, others: Iterable[Tail]) -> bool:
        """Whether it may be a copy of one of these that is about to be truncated: one that was renamed will not be."""
        alike = any(other is not tail and not other.moved and tail.is_copy_of(other) for other in others)
        return alike and self.copies.suspect(tail.identity, tail.size, time.monotonic())

    def _give_up(self, tail: Tail) -> None:
        tail.close()
        if tail in self.tails:
            self.tails.remove(tail)
            self._slots.discard(tail.slot)
            self._reusable.append(tail.slot)
            self.freed.add(tail.slot)

    def finish(self, tail: Tail) -> None:
        """All of it was read, and it cannot grow."""
        tail.finished = True
        if tail.packed:
            tail.close()

    def _park(self, wanted: int) -> None:
        """Close those that did not grow for the longest time, where too many are open or so many others wait."""
        able = [tail for tail in self.tails if tail.content is not None and not tail.moved]
        beyond = len(able) - self._most_open + wanted
        if beyond > 0:
            idle = [tail for tail in able if self._is_read(tail)]
            for tail in sorted(idle, key=lambda one: one.grown)[:beyond]:
                _close(tail)

    def _is_read(self, tail: Tail) -> bool:
        """Whether there is nothing to read in a file until it has grown."""
        if tail.size == tail.offset:
            return True
        joins = tail.container or self._config.multiline is not None
        return tail.waits and tail.ended >= tail.size and (tail.quiet or not joins)

    @property
    def lag(self) -> int:
        """Bytes that are there and not read."""
        return sum(max(0, tail.size - tail.offset) for tail in self.tails)

    def close(self) -> None:
        """Close all files."""
        for tail in self.tails:
            tail.close()


def _close(tail: Tail) -> None:
    """Close it until it has another size than that up to which it was read."""
    if tail.size == tail.offset:
        tail.ended = tail.size
    elif not tail.waits:
        tail.ended = 0
    tail.close()
