//! fixtures/openfold3/rng.py: torch CPU generator.
