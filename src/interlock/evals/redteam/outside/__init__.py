"""Other people's red-teaming tools, each in an environment of its own, against an address of ours."""
