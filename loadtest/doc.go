// Package loadtest re-enacts a pull storm, a fleet that starts a deploy at once,
// against one registry or many, and says what happened: how long clients waited,
// how many bytes the upstream sent for each byte wanted, what it cost.
//
// A Scenario says who pulls what, when, through what network. A Storm carries it
// out against targets that are there, and brings a Measurement. The packages below
// stand around it:
//
//	loadtest/images   image sets made from a seed: real layer sizes, no storage
//	loadtest/line     what lies between: rates, latency, faults at known times
//	loadtest/hub      the fake upstream that serves them, with limits and faults
//	loadtest/bucket   a proxy before an S3 server: counts calls, shapes the line
//	loadtest/target   starts the contenders and samples what they cost
//	loadtest/lab      a whole experiment: hub, bucket, targets, rounds; ladders
//	loadtest/report   HTML, JSON, the terminal, and assertions over them
//
//	Scenario ──> lab ──> hub, bucket, target ──> Storm ──> Measurement ──> report
//
// The load is open loop: a pull is due at a time that does not depend on how
// earlier ones fare, and its wait counts from then, so that a slow server cannot
// hide by slowing the load (Tene's "coordinated omission"). Every byte is hashed.
// Pacers, request results and their encoding are vegeta's, so its tools read what
// is written here; its attacker, which keeps bodies in memory and knows one request
// a hit, is not used.
package loadtest
