"""The scripts of the fleet's engine: each runs as one command, which no other comes between.

Each begins with the removal of a field that does not exist. That changes nothing, but a replica refuses it, and so does
a server that has lost its replicas under `min-replicas-to-write`: what those would read might be old.

A server that starts again, or takes over from another one, may have lost the newest writes. What it calls this run of
itself (`run_id`) is therefore part of every revision, after an `@`: those of before are void.
https://redis.io/docs/latest/develop/programmability/eval-intro/
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from vedette_checks.redis.session import Command


@dataclass(frozen=True, slots=True)
class Script:
    """A script, sent by its digest where the server has it already.

    Attributes:
        text: Lua.
    """

    text: str

    @property
    def digest(self) -> str:
        """What the server calls it: SHA-1, hex."""
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def by_digest(self, keys: Sequence[str], arguments: Sequence[str]) -> Command:
        """EVALSHA."""
        return ("EVALSHA", self.digest, len(keys), *keys, *arguments)

    def whole(self, keys: Sequence[str], arguments: Sequence[str]) -> Command:
        """EVAL."""
        return ("EVAL", self.text, len(keys), *keys, *arguments)


_CURRENT = """\
redis.call('HDEL', KEYS[1], '')
local memory = '@' .. string.sub(string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or '', 1, 16)
local function same(kept, revision)
  if not kept then return revision == '' end
  return string.sub(kept, 1, 24) .. memory == revision
end
"""

READ = Script(_CURRENT + "return {memory, redis.call('HGETALL', KEYS[1])}")
"""KEYS: hash. Returns the memory, and fields and values in turn."""

GET = Script(_CURRENT + "return {memory, redis.call('HGET', KEYS[1], ARGV[1])}")
"""KEYS: hash; ARGV: field. Returns the memory and the value."""

WRITE = Script(
    _CURRENT
    + """\
local kept = redis.call('HGET', KEYS[1], ARGV[1])
local again = kept and string.sub(kept, 1, 24) == ARGV[3]
if again then
  if ARGV[2] ~= '' and string.sub(ARGV[2], 25) ~= memory then return {0} end
else
  if not same(kept, ARGV[2]) then return {0} end
  if ARGV[7] ~= '' and not same(redis.call('HGET', KEYS[2], ARGV[7]), ARGV[8]) then return {-1} end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3] .. ARGV[4] .. ARGV[5])
if not kept or string.sub(kept, 25, 32) ~= ARGV[4] then redis.pcall('PUBLISH', ARGV[6], ARGV[1]) end
return {1, memory}"""
)
"""KEYS: hash, hash of the guard; ARGV: field, known revision or '', new one, gist, value, channel, the guard's field or
'', its revision. Returns 1 and the memory, or 0 for another revision, -1 for another one of the guard. A write that was
sent twice, because the connection broke, finds its own new revision: it is written again, so that WAIT has something to
wait for.
"""

REMOVE = Script(
    _CURRENT
    + """\
local kept = redis.call('HGET', KEYS[1], ARGV[1])
if not kept then return {1} end
if not same(kept, ARGV[2]) then return {0} end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.pcall('PUBLISH', ARGV[3], ARGV[1])
return {1}"""
)
"""KEYS: hash; ARGV: field, known revision, channel. Returns 1, or 0 for another revision."""
