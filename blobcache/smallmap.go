package blobcache

// A fill of up to mapStep bytes has no map: there is nothing in its middle that would
// be worth one. But between the moment that its readers get their last byte and the
// moment that its name is durable lie two syncs, some milliseconds, and a kill just
// then would take from this host what its clients have, with whatever is still owed
// of it to others. So the bytes that have matched get their map before anybody gets
// the last of them: the next start finds all of the blob, hashes it and publishes it.
//
// It costs a new file and its renaming, no sync. One that cannot be written costs
// what it cost before: another fetch of a small blob after a kill.
func (f *fill) mapSmall() {
	if f.size > 0 && f.size <= mapStep {
		_ = f.part.startMap(mapHeader{Size: f.size, Origin: f.want.Origin}, spans{{0, f.size}})
	}
}
