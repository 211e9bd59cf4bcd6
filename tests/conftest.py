"""What holds for every test."""

from hypothesis import HealthCheck, settings

from tests.doubles import quiet

quiet.configure()

settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")
