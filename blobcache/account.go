package blobcache

// Account counts n more bytes of allocated blocks against the budget, or fewer if n
// is negative: those of a file that somebody else keeps in the folder. One that was
// there at the start and has not changed since is counted without being told of.
func (c *Cache) Account(n int64) { c.ledger.addFixed(n) }
