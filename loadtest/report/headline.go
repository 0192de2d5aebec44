package report

import (
	"fmt"
	"math"
	"strings"

	"hostlocal/loadtest"
)

// headline says what came out in a few plain sentences, the most important first.
// There is always one.
func headline(r loadtest.Report) []string {
	var said []string
	if mostRounds(r.Contenders) == 0 {
		if r.Ladder != nil {
			said = ladderHeadline(*r.Ladder)
		}
		if len(said) == 0 {
			said = []string{"Nothing was measured."}
		}
		return said
	}
	for i, c := range r.Contenders[:min(len(r.Contenders), maxDrawn)] {
		if i == 0 {
			said = append(said, firstSentence(c, r)+"; "+upstreamSentence(c)+".")
			continue
		}
		said = append(said, otherSentence(r.Contenders[0], c))
	}
	return said
}

// firstSentence: "registryd served 100 clients in 3.20 s".
func firstSentence(c loadtest.Contender, r loadtest.Report) string {
	m := typicalRound(c)
	name := cut(c.Name, 40)
	if m == nil {
		return name + " has no round"
	}
	wall := overRounds(c, mustColumn("wall"))
	left := leftPulls(m)
	failed, pulls := failedPulls(m), len(m.Pulls)-left
	took := ""
	if finite(wall.median) {
		took = " in " + format(wall.median, seconds).String()
	}
	switch {
	case pulls == 0:
		return name + " had no pull that came to an end"
	case failed == pulls:
		return fmt.Sprintf("%s served none of %s (%s)", name, plural(pulls, "client", "clients"), commonFailure(m))
	case failed > 0:
		return fmt.Sprintf("%s served %s of %s%s; %s failed, mostly with %s", name, inCount(pulls-failed), plural(pulls, "client", "clients"), took, inCount(failed), commonFailure(m))
	case r.Ended != "" && pulls < r.Scenario.Clients.Count:
		return fmt.Sprintf("%s had served %s of %s%s when it ended early", name, inCount(pulls), plural(r.Scenario.Clients.Count, "client", "clients"), strings.Replace(took, " in ", " after ", 1))
	}
	if left > 0 {
		took += fmt.Sprintf(", not counting %s that hung up as they were told", inCount(left))
	}
	return fmt.Sprintf("%s served %s%s", name, plural(pulls, "client", "clients"), took)
}

// upstreamSentence: "the upstream sent 1.00 bytes for each byte wanted".
func upstreamSentence(c loadtest.Contender) string {
	amplification := overRounds(c, mustColumn("amplification"))
	switch {
	case amplification.rounds == 0:
		return "what the upstream sent was not measured"
	case amplification.high == 0:
		return "the upstream sent nothing"
	}
	return fmt.Sprintf("the upstream sent %s bytes for each byte wanted", twoDecimals(amplification.median))
}

// otherSentence: "distribution: 41.2 s (12.9×), 98.6 bytes from the upstream for each wanted."
func otherSentence(base, c loadtest.Contender) string {
	m := typicalRound(c)
	if m == nil {
		return cut(c.Name, 40) + ": no round."
	}
	parts := []string{}
	if wall := overRounds(c, mustColumn("wall")); wall.rounds > 0 {
		part := format(wall.median, seconds).String()
		if ratio := ratioTo(base, c, mustColumn("wall")); ratio.rounds > 0 {
			part += " (" + times(ratio.median)
			if ratio.aroundOne() {
				part += ", within the noise"
			}
			part += ")"
		}
		parts = append(parts, part)
	}
	if a := overRounds(c, mustColumn("amplification")); a.rounds > 0 && a.high > 0 {
		parts = append(parts, twoDecimals(a.median)+" bytes from the upstream for each wanted")
	}
	if n := failedPulls(m); n > 0 {
		parts = append(parts, fmt.Sprintf("%s of %s failed", inCount(n), plural(len(m.Pulls), "pull", "pulls")))
	}
	if len(parts) == 0 {
		parts = append(parts, "no pull that came to an end")
	}
	return cut(c.Name, 40) + ": " + strings.Join(parts, ", ") + "."
}

// commonFailure is the kind that most failed pulls name.
func commonFailure(m *loadtest.Measurement) string {
	kinds := map[string]int{}
	most := ""
	for _, p := range m.Pulls {
		if p.Failure == "" {
			continue
		}
		kinds[p.Failure]++
		if kinds[p.Failure] > kinds[most] || kinds[p.Failure] == kinds[most] && p.Failure < most {
			most = p.Failure
		}
	}
	return cut(most, 80)
}

// ladderHeadline compares the first and the last step of each contender.
func ladderHeadline(l loadtest.Ladder) []string {
	var said []string
	for _, t := range ladderTracks(l, mustColumn("wall")) {
		a, b := t.points[0], t.points[len(t.points)-1]
		said = append(said, fmt.Sprintf("%s: from %s to %s the wait went from %s to %s (%s for %s).",
			cut(t.name, 40), stepShort(l, int64(a.x)), stepName(l, int64(b.x)), format(a.y, seconds), format(b.y, seconds), times(b.y/a.y), times(b.x/a.x)))
	}
	worst := math.Inf(-1)
	for i := range l.Steps {
		if a := l.Steps[i].Measurement.Amplification(); finite(a) && l.Steps[i].Contender == l.Steps[0].Contender {
			worst = max(worst, a)
		}
	}
	if finite(worst) && worst > 0 {
		said = append(said, fmt.Sprintf("At no step did the upstream send more than %s bytes for each byte wanted.", twoDecimals(worst)))
	}
	return said
}
