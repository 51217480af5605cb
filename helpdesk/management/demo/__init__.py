"""Demo data: a small bicycle maker's help desk, its people, their questions and what came of them."""
