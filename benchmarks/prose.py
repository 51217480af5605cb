"""Texts as people write them to a help desk, as far as a database can tell: few words often, many words seldom."""

import itertools
import random

# From frequent to rare: the n-th is used about 1/n as often as the first, as in every natural language.
SUBJECTS = [
    "invoice",
    "password",
    "delivery",
    "login",
    "printer",
    "refund",
    "account",
    "order",
    "email",
    "subscription",
    "payment",
    "website",
    "network",
    "phone",
    "report",
    "licence",
    "export",
    "calendar",
    "backup",
    "laptop",
    "discount",
    "address",
    "contract",
    "firewall",
    "scanner",
    "headset",
    "translation",
]
COMPLAINTS = (
    "The {} does not work since this morning",
    "I cannot find my {}",
    "Question about the {}",
    "My {} is wrong",
    "Please cancel the {}",
    "Error message when I open the {}",
    "The {} is much too slow",
    "How do I change the {}?",
    "Somebody else has access to my {}",
    "The {} was charged twice",
)
COMMON = [
    "the",
    "I",
    "to",
    "and",
    "a",
    "is",
    "it",
    "not",
    "my",
    "we",
    "in",
    "of",
    "have",
    "you",
    "for",
    "that",
    "this",
    "with",
    "on",
    "was",
    "but",
    "please",
    "can",
    "be",
    "when",
    "our",
    "your",
    "are",
    "still",
    "again",
    "after",
    "since",
    "page",
    "nothing",
    "happens",
    "tried",
    "team",
    "customer",
    "today",
    "yesterday",
    "screen",
    "button",
    "screenshot",
    "thanks",
]
_SYLLABLES = [
    "ba",
    "ce",
    "di",
    "fo",
    "gu",
    "ka",
    "le",
    "mi",
    "no",
    "pu",
    "ra",
    "se",
    "ti",
    "vo",
    "zu",
    "bran",
    "dek",
    "fil",
    "gor",
    "han",
    "jut",
    "kel",
    "lom",
    "mer",
    "nap",
]
SEVERAL_PARAGRAPHS = 0.15
"""The share of descriptions that tell the whole story."""


class Prose:
    """Makes texts; the same ones again after `random` has been given the same seed."""

    def __init__(self) -> None:
        self.random = random.Random()
        rare = ["".join(syllables) for syllables in itertools.product(_SYLLABLES, repeat=3)]
        random.Random(0).shuffle(rare)
        words = [*COMMON, *SUBJECTS, *rare[:8000]]
        weights = list(itertools.accumulate(1 / rank for rank in range(1, len(words) + 1)))
        drawn = random.Random(1)
        # Sentences are drawn from a stock, which costs a tenth of drawing words and keeps their frequencies.
        self._sentences = [
            " ".join(drawn.choices(words, cum_weights=weights, k=drawn.randint(5, 18))).capitalize() + "."
            for _ in range(6000)
        ]
        self._subjects = list(itertools.accumulate(1 / rank for rank in range(1, len(SUBJECTS) + 1)))

    def title(self) -> str:
        [subject] = self.random.choices(SUBJECTS, cum_weights=self._subjects)
        return self.random.choice(COMPLAINTS).format(subject)

    def text(self) -> str:
        """One to five sentences, now and then three times as much."""
        count = self.random.randint(1, 5) * (3 if self.random.random() < SEVERAL_PARAGRAPHS else 1)
        return " ".join(self.random.choices(self._sentences, k=count))
