package report

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"hostlocal/loadtest"
)

// A fact is one line of what was run and on what.
type fact struct {
	Name, Value string
	Code        bool
}

func facts(r loadtest.Report) []fact {
	fs := []fact{
		{Name: "Command", Value: cut(strings.Join(r.Command, " "), 2000), Code: true},
		{Name: "Version", Value: cut(r.Version, 200)},
		{Name: "Started", Value: r.Started.UTC().Format("2 January 2006, 15:04:05 UTC")},
		{Name: "Took", Value: inSeconds(r.Wall)},
		{Name: "Machine", Value: machine(r.Machine)},
		{Name: "System", Value: cut(strings.Join(nonEmpty(r.Machine.OS, r.Machine.Go), ", "), 400)},
		{Name: "The tool itself", Value: calibration(r.Tool)},
	}
	if r.Wall <= 0 {
		fs = slices.DeleteFunc(fs, func(f fact) bool { return f.Name == "Took" })
	}
	if r.Started.IsZero() {
		fs = slices.DeleteFunc(fs, func(f fact) bool { return f.Name == "Started" })
	}
	return slices.DeleteFunc(fs, func(f fact) bool { return f.Value == "" })
}

func machine(m loadtest.Machine) string {
	var parts []string
	if m.Host != "" {
		parts = append(parts, m.Host)
	}
	if m.CPU != "" {
		parts = append(parts, m.CPU)
	}
	if m.Cores > 0 {
		parts = append(parts, plural(m.Cores, "core", "cores"))
	}
	if m.Memory > 0 {
		parts = append(parts, inBytes(m.Memory)+" of memory")
	}
	return cut(strings.Join(parts, ", "), 400)
}

func calibration(t loadtest.Calibration) string {
	var parts []string
	if t.PullsPerSecond > 0 {
		parts = append(parts, threeDigits(t.PullsPerSecond)+" pulls a second")
	}
	if t.RequestsPerSecond > 0 {
		parts = append(parts, threeDigits(t.RequestsPerSecond)+" requests a second")
	}
	if t.BytesPerSecond > 0 {
		parts = append(parts, format(t.BytesPerSecond, rate).String()+" hashed")
	}
	if t.Clients > 0 {
		parts = append(parts, plural(t.Clients, "client", "clients")+" at once")
	}
	if len(parts) == 0 {
		return ""
	}
	return "can do " + strings.Join(parts, ", ") + " here, against a server that costs next to nothing"
}

func nonEmpty(s ...string) []string {
	return slices.DeleteFunc(s, func(s string) bool { return s == "" })
}

// scenarioText is the scenario in its file's form, without what is not set, bounded
// to what a page can show.
func scenarioText(s loadtest.Scenario) string {
	var b strings.Builder
	s.Description = "" // stands above, in words
	writeYAML(&b, reflect.ValueOf(s), 0)
	return cut(strings.TrimSuffix(b.String(), "\n"), 6000)
}

// writeYAML writes the fields of a struct that are set. It knows the kinds that a
// Scenario is made of.
func writeYAML(b *strings.Builder, v reflect.Value, depth int) {
	indent := strings.Repeat("  ", depth)
	for field, value := range v.Fields() {
		key, option, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		switch {
		case value.IsZero():
		case option == "inline":
			writeYAML(b, value, depth)
		case value.Kind() == reflect.Struct:
			fmt.Fprintf(b, "%s%s:\n", indent, key)
			writeYAML(b, value, depth+1)
		case value.Kind() == reflect.Slice && value.Type().Elem().Kind() == reflect.Struct:
			fmt.Fprintf(b, "%s%s:\n", indent, key)
			for i := range min(value.Len(), 50) {
				var item strings.Builder
				writeYAML(&item, value.Index(i), depth+2)
				fmt.Fprintf(b, "%s  - %s", indent, strings.TrimLeft(item.String(), " "))
			}
		case value.Kind() == reflect.Slice:
			var items []string
			for i := range min(value.Len(), 50) {
				items = append(items, yamlScalar(value.Index(i)))
			}
			if value.Len() > 50 {
				items = append(items, "…")
			}
			fmt.Fprintf(b, "%s%s: [%s]\n", indent, key, strings.Join(items, ", "))
		default:
			fmt.Fprintf(b, "%s%s: %s\n", indent, key, yamlScalar(value))
		}
	}
}

func yamlScalar(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Duration:
		return x.String()
	case loadtest.Size:
		if x%(1<<10) != 0 {
			return fmt.Sprint(int64(x))
		}
		q := format(float64(x), byteCount)
		return trimZeros(strings.ReplaceAll(q.Number, ",", "")) + q.Unit
	case float64:
		if !finite(x) {
			return missing
		}
		return strconv.FormatFloat(x, 'g', 6, 64)
	case string:
		if strings.ContainsAny(x, ":#[]{},\n\"'&*!|>%@`") {
			return fmt.Sprintf("%q", x)
		}
		return cmp.Or(x, `""`)
	}
	return fmt.Sprint(v.Interface())
}
