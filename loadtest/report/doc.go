// Package report turns what a pull storm measured into something a person or a
// gate can judge: one HTML file, its JSON, a summary for the terminal, a progress
// line, and assertions.
//
//	                 ┌─> columns ──┬─> table, headline, summary
//	loadtest.Report ─┤             └─> ParseAssertion, Check
//	                 └─> charts ─────> WriteHTML
//
// Every number has one definition, its column, so that what the page shows is what
// an assertion judges. Where there are several rounds the median speaks, with the
// least and the greatest beside it; a ratio of two contenders is taken within each
// round first, because whatever else the machine did then hit both.
//
// What comes from outside (names, error texts, a file that somebody edited) may be
// anything: it is escaped, cut to a bound, and a value that is missing or absurd
// shows as a dash instead of stopping the page.
package report
