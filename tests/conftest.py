"""What holds for every test."""

from tests.doubles import quiet

quiet.configure()
