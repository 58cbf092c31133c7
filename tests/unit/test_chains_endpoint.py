"""What may be a key is struck out of a node's words, however it was written where we keep it."""

import pytest

from chains.endpoint import Endpoint
from chains.http import HttpEndpoint
from config.assets import Node

KEY = "hunter2hunter2"


@pytest.mark.parametrize(
    "node",
    [
        Node(url=f"https://a/v2/{KEY}"),
        Node(url=f"https://a/rpc?dkey={KEY}&network=x"),
        Node(url=f"https://a/rpc;key:{KEY}/"),
        Node(url=f"https://someone:{KEY}@a/"),
        Node(url="https://someone:hunter2%68unter2@a/"),
        Node(url="https://a/v2/hunter2%68unter2"),
        Node(url="https://a/", headers={"Authorization": f"Bearer {KEY}"}),
        Node(url="https://a/", headers={"X-Keys": f"one,{KEY}"}),
    ],
    ids=lambda node: node.url + "".join(node.headers),
)
@pytest.mark.parametrize("said", [f"bad key {KEY}.", f"project '{KEY.upper()}' is over its limit"])
def test_a_key_is_struck_out(node: Node, said: str) -> None:
    assert KEY not in Endpoint(node).struck(said).lower()


def test_the_basic_auth_that_is_made_of_a_password_is_struck_out() -> None:
    """A proxy that echoes the header it was sent."""
    endpoint = HttpEndpoint(Node(url=f"https://someone:{KEY}@a/"))
    assert "c29tZW9uZTpodW50ZXIyaHVudGVyMg" not in endpoint.struck("bad header: Basic c29tZW9uZTpodW50ZXIyaHVudGVyMg==")


def test_what_is_no_key_is_left() -> None:
    assert Endpoint(Node(url=f"https://a/v2/{KEY}")).struck("block range is too wide") == "block range is too wide"


def test_one_host_has_one_name() -> None:
    hosts = {
        Endpoint(Node(url=url)).host for url in ("https://a.example/x", "https://A.Example./y", "http://a.example:80")
    }
    assert hosts == {"a.example"}
