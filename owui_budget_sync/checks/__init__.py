"""What `owui-budget check` looks at: settings, database, both programs and the way between them, groups.

Each room returns findings: what is wrong, why it matters, and the exact change that mends it.
"""
