"""LiteLLM: reading and changing the teams, budgets, customers and keys that carry our mark."""
