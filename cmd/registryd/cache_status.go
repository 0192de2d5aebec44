package main

// cacheStatus is the cache's part of the status.
type cacheStatus struct {
	Bytes   int64 `json:"bytes"`
	Budget  int64 `json:"budget"`
	Evicted int64 `json:"evicted"`
}

func (c cacheStatus) show(line func(what, format string, args ...any)) {
	line("cache", "%s of %s, %s evicted since the start", bytesText(c.Bytes), bytesText(c.Budget), bytesText(c.Evicted))
}
