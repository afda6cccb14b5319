"""What a rule set of nftables does with a packet, as far as it shows. Pure.

The packet is taken through the base chains of its hooks, as nft(8) describes. What the rules decide
by something that is not known here (a named set, a mark, a limit, an extension of iptables) may go
either way: only what is dropped for certain is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

from netaddr import AddrFormatError, IPAddress, IPNetwork

Json = Mapping[str, Any]
Key = tuple[str, str, str]  # family, table, chain
_DEPTH = 16  # jumps, as the kernel limits them
_VERDICTS = {"accept", "drop", "reject", "queue", "return", "jump", "goto"}


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet, on its way through ``hooks`` of Netfilter.

    ``fields`` are its values by nft's names (`udp dport`, `meta iifname`). ``protocols`` are those
    whose headers it has: a match on another one never applies; on a field that is missing it may.
    """

    what: str
    hooks: tuple[str, ...]
    family: int
    device: str
    protocols: frozenset[str]
    fields: Mapping[str, str | int]


class _Outcome(NamedTuple):
    verdict: Literal["accept", "drop", "unknown", "end"]
    by: str = ""


@dataclass(frozen=True)
class RuleSet:
    """The rule set of `nft --json list ruleset`, by chain."""

    chains: Mapping[Key, Json] = field(default_factory=dict)
    rules: Mapping[Key, Sequence[Json]] = field(default_factory=dict)

    @classmethod
    def read(cls, document: object) -> RuleSet:
        """Return the rule set of the parsed document; empty if it is none."""
        chains: dict[Key, Json] = {}
        rules: dict[Key, list[Json]] = {}
        entries = document.get("nftables") if isinstance(document, dict) else None
        for entry in entries if isinstance(entries, list) else []:
            if chain := _member(entry, "chain", ("family", "table", "name")):
                chains[chain["family"], chain["table"], chain["name"]] = chain
            if rule := _member(entry, "rule", ("family", "table", "chain")):
                rules.setdefault((rule["family"], rule["table"], rule["chain"]), []).append(rule)
        return cls(chains, rules)

    def dropped_by(self, packet: Packet) -> str:
        """Return the rule or policy that drops the packet for certain; empty if none does."""
        for hook in packet.hooks:
            for key in sorted(self._base_chains(hook, packet), key=self._priority):
                outcome = self._chain(key, packet, _DEPTH)
                if outcome.verdict == "drop":
                    return outcome.by
                if outcome.verdict == "end" and self.chains[key].get("policy") == "drop":
                    return f"the policy of chain {_name(key)}"
        return ""

    def _base_chains(self, hook: str, packet: Packet) -> Iterator[Key]:
        families = {"inet", "ip" if packet.family == 4 else "ip6"}
        for key, chain in self.chains.items():
            if chain.get("hook") == hook:
                devices = chain.get("dev", [])
                on = [devices] if isinstance(devices, str) else devices
                if packet.device in on if hook == "ingress" else key[0] in families:
                    yield key

    def _priority(self, key: Key) -> int:
        priority = self.chains[key].get("prio", 0)
        return priority if isinstance(priority, int) else 0

    def _chain(self, key: Key, packet: Packet, depth: int) -> _Outcome:
        for rule in self.rules.get(key, ()) if depth else ():
            outcome = self._rule(key, rule, packet, depth)
            if outcome is not None:
                return outcome
        return _Outcome("end" if depth else "unknown")

    def _rule(self, key: Key, rule: Json, packet: Packet, depth: int) -> _Outcome | None:
        """Return the outcome of a rule; None where the next rule decides."""
        certain = True
        for statement in rule.get("expr", ()):
            [(kind, content)] = statement.items()
            if kind == "match":
                applies = _applies(content, packet)
                if applies is False:
                    return None
                certain = certain and applies is True
            elif kind == "limit" or (kind == "xt" and content.get("name") != "comment"):
                certain = False
            elif kind == "vmap":
                verdict = _mapped(content, packet)
                if verdict is None:
                    return _Outcome("unknown")
                if verdict:
                    [(kind, content)] = verdict.items()
            if kind in _VERDICTS:
                if not certain:
                    return _Outcome("unknown")
                return self._verdict(key, rule, kind, content, packet, depth)
        # An extension of iptables may have had the verdict.
        return None if certain or not _has_target(rule) else _Outcome("unknown")

    def _verdict(
        self, key: Key, rule: Json, kind: str, content: Any, packet: Packet, depth: int
    ) -> _Outcome | None:
        if kind == "accept":
            return _Outcome("accept")
        if kind in {"drop", "reject"}:
            return _Outcome("drop", f"rule {rule.get('handle')} of chain {_name(key)}")
        if kind == "return":
            return _Outcome("end")
        if kind in {"jump", "goto"}:
            outcome = self._chain((*key[:2], content["target"]), packet, depth - 1)
            return None if outcome.verdict == "end" and kind == "jump" else outcome
        return _Outcome("unknown")


def _member(entry: object, kind: str, names: Sequence[str]) -> Json:
    """Return the object of this kind in an entry; empty unless it has these names as text."""
    found = entry.get(kind) if isinstance(entry, dict) else None
    if isinstance(found, dict) and all(isinstance(found.get(name), str) for name in names):
        return found
    return {}


def _name(key: Key) -> str:
    family, table, chain = key
    return f"{chain} in table {family} {table}"


def _has_target(rule: Json) -> bool:
    extensions = (statement.get("xt", {}) for statement in rule.get("expr", ()))
    return any(extension.get("type") == "target" for extension in extensions)


def _applies(content: Json, packet: Packet) -> bool | None:
    """Return whether a match applies; None if that is unknown."""
    name, protocol = _field(content["left"])
    if protocol and protocol not in packet.protocols:
        return False
    value = packet.fields.get(name)
    if value is None:
        return None
    within = _within(value, content["right"])
    if content["op"] in {"==", "in"}:
        return within
    return not within if content["op"] == "!=" and within is not None else None


def _field(left: Any) -> tuple[str, str]:
    """Return the name of what a match compares, and the protocol of the header that has it.

    `th` is whatever the transport header is; no header has what `meta` and `ct` name.
    """
    [(kind, content)] = left.items() if isinstance(left, dict) else [("", {})]
    if not isinstance(content, dict):
        return "", ""
    if kind == "payload" and "protocol" in content:
        protocol = str(content["protocol"])
        return f"{protocol} {content.get('field')}", "" if protocol == "th" else protocol
    return f"{kind} {content.get('key')}", ""


def _within(value: str | int, right: Any) -> bool | None:
    """Return whether the value is, or is among, what the right side of a match names."""
    if isinstance(right, dict) and "set" in right:
        right = right["set"]
    if isinstance(right, list):
        seen = [_within(value, each) for each in right]
        return True if True in seen else None if None in seen else False
    if isinstance(right, dict):
        return _in_interval(value, right)
    if isinstance(right, str) and isinstance(value, str) and not right.startswith("@"):
        return fnmatchcase(value, right) if right.endswith("*") else value == right
    return value == right if isinstance(right, int) and isinstance(value, int) else None


def _in_interval(value: str | int, right: Json) -> bool | None:
    try:
        if "prefix" in right:
            prefix = right["prefix"]
            return IPAddress(value) in IPNetwork(f"{prefix['addr']}/{prefix['len']}")
        low, high = right["range"]
        if isinstance(value, int):
            return bool(low <= value <= high)
        return bool(IPAddress(low) <= IPAddress(value) <= IPAddress(high))
    except (AddrFormatError, KeyError, TypeError, ValueError):
        return None


def _mapped(content: Json, packet: Packet) -> Json | None:
    """Return the verdict of a map: {} if it has none for the packet, None if that is unknown."""
    data = content.get("data")
    entries = data.get("set", []) if isinstance(data, dict) else [[{}, {}]]
    for entry, verdict in entries:
        match = {"op": "==", "left": content.get("key"), "right": entry}
        applies = _applies(match, packet)
        if applies is not False:
            return dict(verdict) if applies else None
    return {}
