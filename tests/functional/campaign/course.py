"""The course of a campaign: faults drawn by seed, one by one on each site, sites at once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from random import Random

from ovs_mcast.lab.namespace import patient
from tests.functional.campaign.fault import Fault
from tests.functional.campaign.faults import CATALOGUE, killed_meanwhile, two_at_once
from tests.functional.campaign.observer import Sections
from tests.functional.campaign.repairers import Repairer
from tests.functional.campaign.results import Campaign, Outcome
from tests.functional.campaign.site import Site, wait_until_as_before
from tests.functional.node import lost

DEADLINE = patient(20.0)  # seconds; far more than any repair takes, on a busy machine too
_COMBINED = 4  # of each sort of combination, for each round through the catalogue


def drawn(site: Site, rng: Random, only: str = "") -> Iterator[Fault]:
    """Faults without end: each kind that the site can have once, then each once again.

    ``only`` is in the names of those that are wanted.
    """
    kinds: dict[str, list[Fault]] = {}
    for fault in CATALOGUE:
        if only in fault.name and fault.on(site):
            kinds.setdefault(fault.name, []).append(fault)
    singles = list(kinds.values())
    while singles:
        one_of_each = [rng.choice(variants) for variants in singles]
        for _ in range(_COMBINED):
            first, second, third = (rng.choice(rng.choice(singles)) for _ in range(3))
            one_of_each += [two_at_once(first, second), killed_meanwhile(third)]
        rng.shuffle(one_of_each)
        yield from one_of_each


def run(
    campaign: Campaign,
    sites: Sequence[tuple[Site, Repairer]],
    number: int,
    *,
    at_once: int,
    only: str = "",
    effective: bool = False,
) -> None:
    """So many faults in all, spread over the sites, of which ``at_once`` are damaged at a time.

    A site with a fault that is not repaired takes no more. With ``effective`` it is to be seen,
    before anybody repairs, that a fault did damage.
    """
    shares = [number // len(sites) + (n < number % len(sites)) for n in range(len(sites))]

    def one(place: int) -> None:
        site, repairer = sites[place]
        rng = Random(f"{campaign.seed} {site.number}")
        before = site.look()
        failed = wait_until_as_before(site, before, DEADLINE, rng).left
        assert not failed, f"{site}, before any fault: {failed}"
        gone = lost(site.pristine, before)
        assert not gone, f"{site}, the overlay took what is not its own: {gone}"
        for count, fault in enumerate(islice(drawn(site, rng, only), shares[place]), 1):
            outcome = _suffered(site, repairer, before, (count, fault), rng, effective)
            campaign.outcomes.append(outcome)
            if outcome.left:
                return

    with ThreadPoolExecutor(max_workers=at_once) as threads:
        list(threads.map(one, range(len(sites))))


def _suffered(
    site: Site,
    repairer: Repairer,
    before: Sections,
    numbered: tuple[int, Fault],
    rng: Random,
    effective: bool,
) -> Outcome:
    number, fault = numbered
    fault.strike(site, rng)
    if effective and fault.visible and site.look() == before:
        return Outcome(str(site), number, str(fault), 0.0, ("it did no damage",))
    begun = time.monotonic()
    if fault.kills:
        repairer.kill(rng)
    wrong = repairer.repair(begun + DEADLINE)
    ended = wait_until_as_before(site, before, DEADLINE, rng)
    left = (*wrong, *ended.left, *(repairer.repair(begun + DEADLINE) if ended.left else ()))
    return Outcome(str(site), number, str(fault), time.monotonic() - begun, left)
