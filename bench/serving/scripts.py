"""The Lua that tells wrk what to ask for, and how to tell what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bench.serving.data import KEY_BYTES, SPAN, STRIDE, Draws
from bench.serving.speech import Ask
from bench.workload import VALUE_BYTES

MARK: Final = "figures: "

_DONE: Final = f"""
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{MARK}{{"requests":%d,"seconds":%.6f,"bytes":%d,"status":%d,"sockets":%d,"timeouts":%d,' ..
    '"p50":%.6f,"p99":%.6f,"longest":%.6f}}\\n',
    summary.requests, summary.duration / 1e6, summary.bytes, e.status, e.connect + e.read + e.write, e.timeout,
    latency:percentile(50) / 1e6, latency:percentile(99) / 1e6, latency.max / 1e6))
end
"""

_READ: Final = """
local function contents(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end
"""

_BASE64: Final = """
local letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
local function base64(text)
  local out = {}
  for at = 1, #text, 3 do
    local a, b, c = string.byte(text, at, at + 2)
    local bits = a * 65536 + (b or 0) * 256 + (c or 0)
    for place = 3, 0, -1 do
      local digit = math.floor(bits / 64 ^ place) % 64
      out[#out + 1] = string.sub(letters, digit + 1, digit + 1)
    end
    if not c then out[#out] = "=" end
    if not b then out[#out - 1] = "=" end
  end
  return table.concat(out)
end
"""


def constant(ask: Ask, key: bytes) -> str:
    """One request again and again. (wrk makes it once: this is the least that its side can cost.)"""
    method, path, _ = ask.filled(key, b"")
    return f'wrk.method = "{method}"\nwrk.path = "{path}"\n' + _DONE


def drawn(asks: Sequence[Ask], draws: Draws, start: int, pause_ms: int = 0) -> str:
    """
    Requests by turns, the first of each turn for the next key that is drawn.

    :param pause_ms: how long a connection waits on average before its next request.
    """
    lines = [_READ, _BASE64 if any("64" in ask.path + ask.body for ask in asks) else ""]
    lines.append(f'local keys, noise = contents("{draws.keys}"), contents("{draws.noise}")')
    lines.append(f"local at, turn, count = {start}, -1, #keys / {KEY_BYTES}")
    lines.append("local key, value, key64, value64")
    lines.append("function request()")
    lines.append(f"  turn = (turn + 1) % {len(asks)}")
    lines.append("  if turn == 0 then")
    lines.append(f"    key = string.sub(keys, at * {KEY_BYTES} + 1, (at + 1) * {KEY_BYTES})")
    lines.append("    at = (at + 1) % count")
    if any("$value" in ask.body for ask in asks):
        lines.append(f"    local from = tonumber(string.sub(key, 4)) * {STRIDE} % {SPAN}")
        lines.append(f"    value = string.sub(noise, from + 1, from + {VALUE_BYTES})")
    for name in ("key", "value"):
        if any(f"${name}64" in ask.body for ask in asks):
            lines.append(f"    {name}64 = base64({name})")
    lines.append("  end")
    for turn, ask in enumerate(asks):
        lines.append(f"  if turn == {turn} then return {ask.lua()} end")
    lines.append("end")
    if pause_ms:
        lines.append(f"function delay() return math.random(0, {2 * pause_ms}) end")
    return "\n".join(lines) + _DONE


def few(ask: Ask, draws: Draws, indexes: Sequence[int], value_bytes: int) -> str:
    """A few requests by turns, with large values."""
    times = value_bytes // draws.noise.stat().st_size
    return f"""{_READ}
local noise = string.sub(string.rep(contents("{draws.noise}"), {times}), 9)
local all = {{}}
for _, index in ipairs({{{", ".join(map(str, indexes))}}}) do
  local key, value = string.format("key%09d", index), string.format("%08d", index) .. noise
  all[#all + 1] = {ask.lua(value_bytes)}
end
local turn = 0
function request()
  turn = turn % #all + 1
  return all[turn]
end
{_DONE}"""
