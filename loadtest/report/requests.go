package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"hostlocal/loadtest"
)

// bounds on what the table of requests may grow to: kinds of a contender, and
// statuses of a kind.
const (
	maxRequestKinds = 12
	maxStatuses     = 8
)

// requestsTable says what the clients asked each contender for and what they were
// answered, in its typical round.
func requestsTable(cs []loadtest.Contender) table {
	t := table{Wide: true}
	for _, name := range []string{"requests", "bytes", "p50", "p99", "slowest", "answers"} {
		t.Heads = append(t.Heads, head{Name: name})
	}
	for _, c := range cs {
		m := typicalRound(c)
		if m == nil || len(m.Requests) == 0 {
			continue
		}
		g := group{Title: cut(c.Name, 40)}
		kinds := slices.SortedFunc(maps.Keys(m.Requests), func(a, b string) int {
			return cmp.Or(cmp.Compare(m.Requests[b].Count, m.Requests[a].Count), cmp.Compare(a, b))
		})
		for _, kind := range kinds[:min(len(kinds), maxRequestKinds)] {
			totals := m.Requests[kind]
			r := row{Title: cut(kind, 40)}
			for _, q := range []quantity{
				format(float64(totals.Count), count), format(float64(totals.Bytes), byteCount), latency(totals.Latency, "p50"), latency(totals.Latency, "p99"), latency(totals.Latency, "max"),
			} {
				r.Cells = append(r.Cells, cellOf(q))
			}
			r.Cells = append(r.Cells, cell{Text: statuses(totals.Codes)})
			g.Rows = append(g.Rows, r)
		}
		t.Groups = append(t.Groups, g)
	}
	return t
}

func latency(q loadtest.Quantiles, name string) quantity {
	if q.Count == 0 {
		return quantity{missing, ""}
	}
	return format(quantile(q, name).Seconds(), seconds)
}

// statuses are the answers by status, in order: "200: 490, 503: 10".
func statuses(codes map[string]int) string {
	var said []string
	for _, code := range slices.Sorted(maps.Keys(codes)) {
		name := cut(code, 20)
		if code == "0" {
			name = "no answer"
		}
		said = append(said, fmt.Sprintf("%s: %s", name, inCount(codes[code])))
	}
	if len(said) > maxStatuses {
		said = append(said[:maxStatuses], "…")
	}
	return strings.Join(said, ", ")
}
