"""A copy of a store that is made from what a watch tells, and that objects if anything is told twice."""

from __future__ import annotations

from attrs import Factory, define
from twisted.internet.defer import Deferred

from kvtwist.client import Clear, Client, Delete, Expire, Listed, Put, Record, Reset, Told, Watch


@define
class Mirror:
    """
    :ivar records: what there is, by key.
    :ivar told: each change since the last `Reset` and its listing, in order.
    :ivar resets: how many there were.
    :ivar listed: the revision of the last listing.
    """

    records: dict[str, Record] = Factory(dict)
    told: list[Put | Delete | Expire | Clear] = Factory(list)
    resets: int = 0
    listed: int = 0
    is_listing: bool = False

    def tell(self, told: Told) -> None:
        """:raises AssertionError: that cannot come after what was told before."""
        if isinstance(told, Reset):
            self.records.clear()
            self.told.clear()
            self.resets += 1
            self.is_listing = True
        elif isinstance(told, Listed):
            assert self.is_listing
            self.is_listing = False
            self.listed = told.revision
        elif self.is_listing:
            assert isinstance(told, Put) and told.key not in self.records
            self.records[told.key] = told.record
        else:
            self._change(told)

    def _change(self, told: Put | Delete | Expire | Clear) -> None:
        assert not self.told or told.revision >= self.told[-1].revision, "changes come in the order of their revisions"
        assert told not in self.told[-100:], "told twice"
        self.told.append(told)
        if isinstance(told, Put):
            before = self.records.get(told.key)
            assert before is None or before.revision < told.revision, "back to an older value"
            self.records[told.key] = told.record
        elif isinstance(told, Clear):
            self.records.clear()
        else:
            self.records.pop(told.key, None)  # a transaction may delete what is not there

    async def follow(self, watch: Watch, key: str) -> None:
        """Tell all that a watch tells, until there is a key."""
        while self.is_listing or key not in self.records:
            self.tell(await watch.__anext__())


async def records_of(client: Client, prefix: str = "") -> dict[str, Record]:
    """What a listing shows."""
    return {record.key: record async for record in client.range(prefix)}


def following(watch: Watch, key: str) -> tuple[Mirror, Deferred[None]]:
    """A mirror of a watch, and what fires when that has a key."""
    mirror = Mirror()
    return mirror, Deferred.fromCoroutine(mirror.follow(watch, key))
