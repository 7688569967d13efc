"""Cases made from documents: how they are asked for, varied, checked, and put before people."""
