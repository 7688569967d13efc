"""What every HTTP face needs: who is calling, how errors look, event streams, headers that keep browsers honest."""
