-- For wrk: sends the requests of a file one after the other, and prints the figures as JSON.
-- Arguments: the file, the length of each request in it, the number of the first. Without arguments, wrk asks for its URL.

function init(args)
  if not args[1] then return end
  local file = assert(io.open(args[1], "rb"))
  local requests, size = file:read("*a"), tonumber(args[2])
  file:close()
  local at = args[3] * size
  function request()
    if at >= #requests then at = 0 end
    at = at + size
    return string.sub(requests, at - size + 1, at)
  end
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    'figures: {"requests":%d,"seconds":%.6f,"bytes":%d,"failed":%d,"p50":%.6f,"p99":%.6f}\n',
    summary.requests, summary.duration / 1e6, summary.bytes, e.status + e.connect + e.read + e.write + e.timeout,
    latency:percentile(50) / 1e6, latency:percentile(99) / 1e6))
end
