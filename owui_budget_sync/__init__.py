"""The sync job and the command line: carries limits from Open WebUI to the policy store and to LiteLLM."""
