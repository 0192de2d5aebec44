package loadtest

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"hostlocal/loadtest/nearest"
)

// maxFile bounds a scenario's file, in bytes. The longest of ours is a fiftieth.
const maxFile = 64 << 10

// Parse reads a scenario's file; name is the file's, for messages, and without its
// folder and ending the scenario's where the file gives none. The error wraps
// ErrScenario and names every problem, with its line and what to type.
//
// The tree is walked by hand rather than decoded, because a decoder stops at its
// first error and forgets the lines.
func Parse(name string, data []byte) (Scenario, error) {
	base := path.Base(name)
	s := Scenario{Name: strings.TrimSuffix(base, path.Ext(base))}
	p := &problems{source: name, lines: map[string]int{}}
	if len(data) > maxFile {
		p.add("", "is larger than %d bytes; is it the right file?", maxFile)
		return Scenario{}, p
	}
	tree, err := parser.ParseBytes(data, 0)
	if err != nil {
		var syntax yaml.Error
		if errors.As(err, &syntax) && syntax.GetToken() != nil {
			p.at(syntax.GetToken().Position.Line, "%s", syntax.GetMessage())
		} else {
			p.at(0, "is not YAML: %v", err)
		}
		return Scenario{}, p
	}
	for i, doc := range tree.Docs {
		if i > 0 {
			p.at(line(doc.Body), "a second document starts here; a file holds one scenario")
			break
		}
		reader{p}.keys("", doc.Body, reflect.ValueOf(&s).Elem())
	}
	s.check(p)
	if err := p.err(); err != nil {
		return Scenario{}, err
	}
	return s, nil
}

// A reader walks one file's tree into the fields of a Scenario, which are found by
// their yaml tags.
type reader struct{ *problems }

// keys takes every key of n, which must be a mapping or nothing, into v, a struct.
func (r reader) keys(path string, n ast.Node, v reflect.Value) {
	var pairs []*ast.MappingValueNode
	switch n := n.(type) {
	case nil, *ast.NullNode:
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	default:
		if path == "" {
			r.at(line(n), "a scenario is keys with values, such as description: what it is about")
		} else {
			r.at(line(n), "%s holds keys of its own; write them indented below it", path)
		}
	}
	fields := fieldsOf(v)
	for _, pair := range pairs {
		key, ok := pair.Key.(*ast.StringNode)
		if !ok {
			r.at(line(pair.Key), "%q is not a plain key; write it out as a word", pair.Key.GetToken().Value)
			continue
		}
		name := join(path, key.Value)
		at := key.GetToken().Position.Line
		f, ok := fields[key.Value]
		if !ok {
			hint := "; here stand " + strings.Join(slices.Sorted(maps.Keys(fields)), ", ")
			if w := nearest.Word(key.Value, slices.Sorted(maps.Keys(fields))); w != "" {
				hint = fmt.Sprintf("; did you mean %q?", join(path, w))
			}
			r.at(at, "unknown key %q%s", name, hint)
			continue
		}
		if _, twice := r.lines[name]; twice {
			r.at(at, "%s stands twice; remove one", name)
			continue
		}
		r.lines[name] = at
		r.value(name, pair.Value, f)
	}
}

// value takes n into v, which may be of any type that a Scenario has.
func (r reader) value(name string, n ast.Node, v reflect.Value) {
	if n == nil {
		r.add(name, "is empty; write a value or remove the key")
		return
	}
	if _, known := r.lines[name]; !known {
		r.lines[name] = line(n)
	}
	switch v.Kind() {
	case reflect.Struct:
		r.keys(name, n, v)
	case reflect.Slice:
		seq, ok := n.(*ast.SequenceNode)
		if !ok {
			r.add(name, "is a list; write [a, b]")
			return
		}
		if len(seq.Values) > maxList {
			r.add(name, "has %d entries, more than %d", len(seq.Values), maxList)
			return
		}
		for i, item := range seq.Values {
			one := reflect.New(v.Type().Elem()).Elem()
			r.value(fmt.Sprintf("%s[%d]", name, i), item, one)
			v.Set(reflect.Append(v, one))
		}
	default:
		text, err := scalar(n)
		if err == nil {
			err = set(v, text)
		}
		if err != nil {
			r.add(name, "%v", err)
		}
	}
}

// maxList bounds a list in a scenario: more layers than any engine takes, more
// faults than anybody can follow.
const maxList = 1000

// set gives v, of a scalar type, the value that text says.
func set(v reflect.Value, text string) error {
	switch p := v.Addr().Interface().(type) {
	case *Size:
		n, err := ParseSize(text)
		*p = n
		return err
	case *time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is not a duration; write it with a unit, such as 2s or 150ms", text)
		}
		*p = d
		return nil
	}
	var err error
	kind := "a whole number"
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		kind = "true or false"
		var b bool
		if b, err = strconv.ParseBool(text); err == nil {
			v.SetBool(b)
		}
	case reflect.Int, reflect.Int64:
		var n int64
		if n, err = strconv.ParseInt(text, 10, 64); err == nil {
			v.SetInt(n)
		}
	case reflect.Uint64:
		kind = "a whole number that is not negative"
		var n uint64
		if n, err = strconv.ParseUint(text, 10, 64); err == nil {
			v.SetUint(n)
		}
	case reflect.Float64:
		kind = "a number"
		var f float64
		if f, err = strconv.ParseFloat(text, 64); err == nil {
			v.SetFloat(f)
		}
	default:
		panic("a Scenario has a field of a type that files cannot hold: " + v.Type().String())
	}
	if err != nil {
		return fmt.Errorf("%q is not %s", text, kind)
	}
	return nil
}

// fieldsOf returns v's fields by their keys, those of inlined structs among them.
func fieldsOf(v reflect.Value) map[string]reflect.Value {
	fields := map[string]reflect.Value{}
	for i := range v.NumField() {
		key, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		if options == "inline" {
			for key, f := range fieldsOf(v.Field(i)) {
				fields[key] = f
			}
			continue
		}
		fields[key] = v.Field(i)
	}
	return fields
}

// scalar returns the text of a node that should be one value.
func scalar(n ast.Node) (string, error) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, nil
	case *ast.LiteralNode:
		return strings.TrimSpace(n.Value.Value), nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, nil
	case *ast.NullNode:
		return "", errors.New("is empty; write a value or remove the key")
	case *ast.SequenceNode:
		return "", errors.New("takes one value, not a list")
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		return "", errors.New("YAML anchors, aliases and tags are not read here; write the value out")
	}
	return "", errors.New("takes a value, not keys of its own")
}

// line returns the line that n starts on, or 0.
func line(n ast.Node) int {
	if n == nil || n.GetToken() == nil {
		return 0
	}
	return n.GetToken().Position.Line
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
