"""What holds for every test."""

import os

from hypothesis import HealthCheck, settings

from tests.doubles import quiet

quiet.configure()

# other examples at each run on a developer's machine, the same ones where a change is judged
settings.register_profile(
    "house", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("house")
