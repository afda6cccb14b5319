"""How the properties are searched: without a clock, and in CI the same cases each time.

HYPOTHESIS_PROFILE=thorough searches for as long as it takes, quick shows the first that it finds.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "unit",
    deadline=None,
    max_examples=40,
    derandomize=bool(os.environ.get("CI")),
    # Not Phase.explain: of a whole machine it explains little, slowly.
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", settings.get_profile("unit"), max_examples=2000)
settings.register_profile(
    "quick", settings.get_profile("unit"), phases=[Phase.explicit, Phase.generate]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "unit"))
