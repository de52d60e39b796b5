"""The whole system, run for real: its promises as a user, an operator and an attacker meet them."""
