"""Configurations of other gateways, read as settings of ours."""
