"""Long random runs that kill and check. `make chaos` runs them; CI runs a short form.

`CHAOS_SECONDS`: how long each random run goes on. `CHAOS_SEED`: repeats one; it is printed by each.
"""

import os
import random
from dataclasses import dataclass

import pytest


@dataclass
class Chaos:
    seconds: float
    seed: int
    random: random.Random


@pytest.fixture
def chaos() -> Chaos:
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(1_000_000))
    print(f"CHAOS_SEED={seed}")
    return Chaos(float(os.environ.get("CHAOS_SECONDS") or 20), seed, random.Random(seed))
