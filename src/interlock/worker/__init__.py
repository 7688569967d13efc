"""The worker: takes durable jobs from the queue and runs their flows."""
