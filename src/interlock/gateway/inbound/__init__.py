"""How clients of each API write requests and read answers: one file a wire, each with the symbol `plugin`."""
