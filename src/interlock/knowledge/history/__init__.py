"""What a collection was: passages kept with their vectors, snapshots to compare and go back to, erasures."""
