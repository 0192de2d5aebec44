// Package manifest is the vocabulary of images that every other package speaks:
// Digest, Reference, Descriptor and Platform, the manifests and indexes that
// are made of them, and Walk over the graph that they form.
//
//	Reference ──tag──> index ──platform──> manifest ──> config
//	                     └─ digest, size ─┘        └──> layers
//
// Everything here holds one invariant: a value in hand is valid. What strangers
// send becomes a value of this package only by parsing, and parsing refuses
// what is malformed, too large or too deep. The package imports none of its
// siblings and does no I/O.
package manifest
