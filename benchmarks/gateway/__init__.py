"""What a request through the gateway costs, beside other gateways in the same run."""
