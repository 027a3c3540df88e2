"""redis-py's clients for the three kinds of broker, and the way to the one node that a key lives on.

A cluster's own transactions are not used: redis-py repeats them by itself, and it is the publisher who knows
what may be repeated. It talks to the node of its key, as to any single server; when the slot has moved, the
node's answer is an error like others, after which the map of the cluster is read again.
"""

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from ssl import PROTOCOL_TLS_CLIENT, SSLContext
from typing import Any, cast

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode, ClusterPipeline
from redis.asyncio.connection import ConnectionPool, RedisSSLContext, SSLConnection
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel, SentinelManagedConnection
from redis.exceptions import ConnectionError, RedisClusterException, RedisError, TimeoutError

from config.broker_url import BrokerUrl
from config.services import TlsClientSettings

from .stamps import Stamps, stamps

Options = dict[str, Any]


@contextlib.contextmanager
def _as_redis_errors() -> Iterator[None]:
    """redis-py's errors of a cluster are no RedisError, as all others are that it raises."""
    try:
        yield
    except RedisClusterException as error:
        if isinstance(error.__cause__, RedisError):
            raise error.__cause__ from None
        raise ConnectionError(str(error)) from error


class _Pipeline(ClusterPipeline):
    async def execute(self, *args: Any, **kwargs: Any) -> list[Any]:
        with _as_redis_errors():
            return await super().execute(*args, **kwargs)


class _Cluster(RedisCluster):
    """A cluster that raises RedisError and OSError, whatever goes wrong."""

    async def initialize(self, *args: Any, **kwargs: Any) -> RedisCluster:
        with _as_redis_errors():
            return await super().initialize(*args, **kwargs)

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        with _as_redis_errors():
            return await super().execute_command(*args, **kwargs)

    def get_node_from_key(self, key: str, replica: bool = False) -> ClusterNode | None:
        with _as_redis_errors():
            return super().get_node_from_key(key, replica)

    def pipeline(self, transaction: Any = None, shard_hint: Any = None) -> ClusterPipeline:
        return _Pipeline(self, transaction)  # type: ignore[abstract]  # as redis-py's own class is


class NoSentinel(ConnectionError):
    """None of the sentinels could be asked; `failed` is why, of each in turn."""

    def __init__(self, failed: Sequence[RedisError]) -> None:
        super().__init__("no sentinel could be asked")
        self.failed = tuple(failed)


class _Sentinels(Sentinel):
    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """As redis-py's own, which says "no master" also where no sentinel could be asked."""
        failed: list[RedisError] = []
        for place, sentinel in enumerate(self.sentinels):
            try:
                masters: Any = await sentinel.sentinel_masters()
            except (ConnectionError, TimeoutError) as error:
                failed.append(error)
                continue
            told = masters.get(service_name)
            if told and self.check_master_state(told, service_name):
                self.sentinels.insert(0, self.sentinels.pop(place))
                return told["ip"], told["port"]
        if len(failed) == len(self.sentinels):
            raise NoSentinel(failed)
        raise MasterNotFoundError(service_name)


class _OfSentinel(Redis):
    """A client of whichever server the sentinels call the primary; closes its connections to them too."""

    sentinels: Sentinel

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await super().aclose(close_connection_pool)
        with contextlib.suppress(RedisError, OSError):
            await self.sentinels.aclose()


class WrongCertificates(ConnectionError):
    """What `events.tls` names can't be used; one sentence for a person."""


class _Tls(SSLConnection):
    """Certificates that were written anew count when it connects: redis-py reads them once, and clients live
    for as long as the line runs.
    """

    _read: Stamps | None = None

    async def connect_check_health(self, *args: Any, **kwargs: Any) -> None:
        if not self.is_connected:
            tls = self.ssl_context
            now = stamps(Path(file) for file in (tls.ca_certs, tls.certfile, tls.keyfile) if file is not None)
            if now != self._read:
                self._read, tls.context = now, None
            try:
                if tls.context is None and tls.certfile is not None:
                    # With a passphrase, though a wrong one: else OpenSSL asks for it at the terminal, and
                    # the line waits.
                    SSLContext(PROTOCOL_TLS_CLIENT).load_cert_chain(tls.certfile, tls.keyfile, password="")
                tls.get()
            except OSError as error:  # an SSLError is one
                raise WrongCertificates(_what_is_wrong(tls, error)) from error
        await super().connect_check_health(*args, **kwargs)


def _what_is_wrong(tls: RedisSSLContext, error: OSError) -> str:
    from .bridges.certificates import wrong_for_client  # slow to import, and not needed else

    named = TlsClientSettings.model_validate(
        {"ca_file": tls.ca_certs, "cert_file": tls.certfile, "key_file": tls.keyfile}
    )
    told = next((wrong.text for wrong in wrong_for_client(named)), None)
    return told or f"the files of events.tls can't be used: {error.strerror or type(error).__name__}"


class _TlsToPrimary(SentinelManagedConnection, _Tls):
    """The same to the server that the sentinels name."""


def connect(url: BrokerUrl, options: Options, sentinel_options: Options) -> Redis:
    """A client that connects when it is first used; both kinds of options are redis-py's, TLS in `ssl_…`."""
    if url.kind == "single":
        single: Redis = Redis.from_url(url.text, **options)
        if url.tls:
            single.connection_pool.connection_class = _Tls
        return single
    tls: Options = {"ssl": True} if url.tls else {}
    if url.kind == "cluster":
        nodes = [ClusterNode(host, port) for host, port in url.nodes]
        # A node that is down costs the keys it holds, and no others.
        cluster = _Cluster(startup_nodes=nodes, require_full_coverage=False, **options, **tls)
        if url.tls:
            cluster.nodes_manager.connection_kwargs["connection_class"] = _Tls
            for node in cluster.nodes_manager.startup_nodes.values():
                node.connection_class = _Tls
        return cast(Redis, cluster)  # the same commands
    sentinels = _Sentinels(list(url.nodes), sentinel_kwargs=sentinel_options | tls)  # type: ignore[no-untyped-call]
    client: _OfSentinel = sentinels.master_for(url.service, _OfSentinel, db=url.db, **options, **tls)
    client.sentinels = sentinels
    if url.tls:
        client.connection_pool.connection_class = _TlsToPrimary
        for sentinel in sentinels.sentinels:
            sentinel.connection_pool.connection_class = _Tls
    return client


class Links:
    """`client`, or in a cluster a client of each node that a key of ours lives on. Closes them all.

    `greet` is called with each before its first use, and may refuse it by raising.
    """

    def __init__(self, client: Redis, greet: Callable[[Redis], Awaitable[object]]) -> None:
        self._client: Redis | RedisCluster = client
        self._greet = greet
        self._nodes: dict[str, Redis] = {}
        self._greeted: set[Redis] = set()

    async def of(self, key: str) -> Redis:
        """The client of the one server that holds this key. Raises RedisError, OSError, what `greet` does."""
        client = await self._of(key)
        if client not in self._greeted:
            await self._greet(client)
            self._greeted.add(client)
        return client

    async def _of(self, key: str) -> Redis:
        if not isinstance(self._client, RedisCluster):
            return self._client
        cluster = await self._client.initialize()
        node = cluster.get_node_from_key(key)
        assert node is not None  # only a replica may be missing
        if node.name not in self._nodes:
            self._nodes[node.name] = _alone(node)
        return self._nodes[node.name]

    async def aclose(self) -> None:
        for client in (*self._nodes.values(), self._client):
            with contextlib.suppress(RedisError, OSError):
                await client.aclose()


def _alone(node: ClusterNode) -> Redis:
    """A client of this one node, with the cluster's options."""
    return Redis.from_pool(ConnectionPool(connection_class=node.connection_class, **node.connection_kwargs))
