package main

import "log/slog"

func wire(c *config, log *slog.Logger) (*daemon, error) { return nil, nil }
