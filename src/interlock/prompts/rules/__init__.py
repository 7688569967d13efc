"""Rules that prompts are looked over by: one file each, with a `plugin`. The file's name is the rule's."""
