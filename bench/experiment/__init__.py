"""From a suite to records: cells, keys, victims, what a worker does, and the one evaluator."""
