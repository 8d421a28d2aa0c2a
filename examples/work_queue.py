"""
Hand out jobs to workers, each to one. A job whose worker dies can be taken again when its claim has expired.

    ./run.sh  # in another terminal
    .venv/bin/python examples/work_queue.py http://localhost:4000
"""

import sys

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from kvtwist.client import Client, Put, Record

JOBS = 12


async def claim(client: Client, name: str) -> Record | None:
    """A job that nobody else works on."""
    async for job in client.range("job/"):
        claimed = f"claim/{job.key}"
        taken = await client.txn().if_exists(job.key).if_absent(claimed).put(claimed, name, ttl=60).commit()
        if taken.committed:
            return job
    return None


async def work(client: Client, name: str, done: list[str]) -> None:
    """Take jobs, and wait for more, until there is one that says to stop."""
    async with client.follow("job/") as changes:
        async for change in changes:
            while isinstance(change, Put) and (job := await claim(client, name)) is not None:
                done.append(job.text)
                await client.txn().delete(job.key).delete(f"claim/{job.key}").commit()
            if await client.get("stop") is not None:
                return


async def main(url: str) -> None:
    async with Client(url) as client:
        await client.delete("stop")
        done: list[str] = []
        workers = [Deferred.fromCoroutine(work(client, name, done)) for name in ("ada", "bob", "eve")]
        for number in range(JOBS):
            await client.put(f"job/{number:03}", f"job {number}")
        await client.txn().put("stop", "").put("job/stop", "the last one").commit()
        await gatherResults(workers)
        left = [record.key async for record in client.range("job/")]
        print("jobs done:", len(done), "each once:", len(set(done)) == len(done), "left:", left)


def run(reactor: object, url: str = "http://localhost:4000") -> Deferred[None]:
    return Deferred.fromCoroutine(main(url))


if __name__ == "__main__":
    react(run, sys.argv[1:])
