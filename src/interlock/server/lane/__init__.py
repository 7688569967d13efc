"""The fast lane: plain model calls between equal APIs, forwarded without a framework under the same admission."""
