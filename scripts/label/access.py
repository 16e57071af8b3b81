"""Who is answered: those who know the token, where there is one, and no web page of another site."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from scripts.errors import InputError
from scripts.label.values import shown

__all__ = ["Access", "is_loopback", "make_access"]

_SHORTEST = 8
_READS = ("GET", "HEAD")


@dataclass(frozen=True)
class Access:
    """Who is answered.

    Attributes:
        hosts: names of this server, in small letters, as requests give them.
        addresses: whether any address that is no name does, too.
        token: that clients have to know; None: they are not asked.
    """

    hosts: frozenset[str]
    addresses: bool = False
    token: str | None = None

    def knows_host(self, header: str) -> bool:
        """Return whether a request is for this server: a web page can give its own name this machine's address.

        Args:
            header: ``Host`` of the request, with or without a port.
        """
        host = _host(f"//{header}")
        if host is None:
            return False
        return host in self.hosts or (self.addresses and _address(host) is not None)

    def is_own_origin(self, method: str, origin: str | None, site: str | None, header: str) -> bool:
        """Return whether no web page of another site has sent what changes something.

        Args:
            method: of the request.
            origin: its header ``Origin``.
            site: its header ``Sec-Fetch-Site``.
            header: its header ``Host``.
        """
        if method in _READS:
            return True
        if site not in (None, "same-origin", "none"):
            return False
        return origin is None or origin.lower() in (f"http://{header}".lower(), f"https://{header}".lower())

    def knows_token(self, header: str | None) -> bool:
        """Return whether a request may pass.

        Args:
            header: its ``Authorization``: ``Bearer`` with the token, or ``Basic`` with it as the password of anybody.
        """
        if self.token is None:
            return True
        kind, _, value = (header or "").partition(" ")
        if kind.lower() == "basic":
            try:
                value = base64.b64decode(value, validate=True).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError, ValueError):
                return False
        elif kind.lower() != "bearer":
            return False
        return self.is_token(value)

    def is_token(self, given: str) -> bool:
        """Return whether a text is the token; takes as long for any."""
        return self.token is not None and hmac.compare_digest(given.strip().encode(), self.token.encode())


def is_loopback(host: str) -> bool:
    """Return whether an address is reached from this machine alone."""
    address = _address(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


def make_access(host: str, token: str | None, allowed_hosts: Sequence[str] = ()) -> Access:
    """Return who is answered by a server.

    Args:
        host: address that it listens at.
        token: that clients have to know; None: one is made where other machines reach the server.
        allowed_hosts: further names that it is reached by.

    Raises:
        InputError: a token that no header can hold, or that is soon guessed; an unreadable name.
    """
    if token is not None and not (
        len(token) >= _SHORTEST and token.isascii() and token.isprintable() and " " not in token
    ):
        raise InputError(f"--token is too short or odd: give {_SHORTEST} or more letters and digits")
    names = {"localhost", "127.0.0.1", "::1", host.strip("[]").lower()}
    for given in allowed_hosts:
        name = _host(f"//{given}")
        if name is None:
            raise InputError(
                f"--allowed_hosts {shown(given)} is no name of a machine: give those in use, joined by commas"
            )
        names.add(name)
    if is_loopback(host):
        return Access(frozenset(names), token=token)
    names |= {socket.gethostname().lower()}
    return Access(frozenset(names), addresses=True, token=token or secrets.token_urlsafe(24))


def _host(address: str) -> str | None:
    """Return the name in an address, in small letters and without port, None if there is none."""
    try:
        split = urlsplit(address)
        _ = split.port
    except ValueError:
        return None
    if split.username is not None or split.path or split.query or split.fragment or not split.hostname:
        return None
    return split.hostname.rstrip(".")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
