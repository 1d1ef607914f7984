"""What LiteLLM loads: the only code that knows LiteLLM's dictionaries."""
