"""Results to pictures; no computation happens here."""
