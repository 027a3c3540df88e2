"""The broker's address says which kind of broker it is, or what is wrong with it."""

import pytest

from config.broker_url import BrokerUrl


@pytest.mark.parametrize(
    ("text", "expected"),
    {
        "redis://h": ("single", (("h", 6379),), False, "", 0),
        "redis://h:7/3": ("single", (("h", 7),), False, "", 3),
        "rediss://[::1]:7/": ("single", (("::1", 7),), True, "", 0),
        "unix:///run/valkey.sock": ("single", (), False, "", 0),
        "redis+sentinel://a,b:7/mine": ("sentinel", (("a", 26379), ("b", 7)), False, "mine", 0),
        "rediss+sentinel://a/mine/2": ("sentinel", (("a", 26379),), True, "mine", 2),
        "redis+cluster://a:1,b,[::1]:3": ("cluster", (("a", 1), ("b", 6379), ("::1", 3)), False, "", 0),
        "rediss+cluster://a/0": ("cluster", (("a", 6379),), True, "", 0),
    }.items(),
)
def test_an_address_is_taken_apart(text: str, expected: tuple[object, ...]) -> None:
    url = BrokerUrl.parse(text)
    assert (url.kind, url.nodes, url.tls, url.service, url.db) == expected


@pytest.mark.parametrize(
    ("text", "wish"),
    {
        "http://h": "expected embedded, redis://HOST",
        "redis://h:0": "expected HOST:PORT",
        "redis://h:99999": "expected HOST:PORT",
        "redis://a,b": "expected one HOST:PORT",
        "redis://h/x": "number of a database",
        "redis://h/1/2": "number of a database",
        "redis+sentinel://a,b": "expected the name of the sentinels' service",
        "redis+sentinel://a/mine/x": "number of a database",
        "redis+cluster://a/1": "a cluster has only one",
        "redis+cluster://a, b": "expected HOST:PORT",
        "redis+ring://a": "expected embedded",
    }.items(),
)
def test_what_is_no_address_says_what_was_expected(text: str, wish: str) -> None:
    with pytest.raises(ValueError, match=wish):
        BrokerUrl.parse(text)
