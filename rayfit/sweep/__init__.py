"""Ray: preparing, worker groups, Tune's trials, evaluators, and the driver that holds them together."""
