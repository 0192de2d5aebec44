package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"hostlocal/loadtest/nearest"
)

// maxFile bounds a configuration file, in bytes. The longest sensible one, with
// hundreds of upstreams, is a tenth of it; what is larger is some other file.
const maxFile = 1 << 20

// readFile puts what the file says into c, and what is wrong with it into p. The
// tree is walked by hand rather than decoded into structs, because a decoder stops
// at its first error and forgets the lines.
func (c *config) readFile(name string, p *problems) error {
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("reading the configuration: %w; leave --config and REGISTRYD_CONFIG out to run on the defaults", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return fmt.Errorf("reading the configuration: %w", err)
	}
	if len(text) > maxFile {
		return fmt.Errorf("%s is larger than %d bytes; is it the right file?", name, maxFile)
	}
	p.source = name
	tree, err := parser.ParseBytes(text, 0)
	if err != nil {
		var syntax yaml.Error
		if errors.As(err, &syntax) && syntax.GetToken() != nil {
			p.add(at(syntax.GetToken().Position.Line), "%s", syntax.GetMessage())
		} else {
			p.add("", "is not YAML: %v", err)
		}
		return nil
	}
	for i, doc := range tree.Docs {
		if i > 0 {
			p.add(at(line(doc.Body)), "a second document starts here; put all keys into one")
			break
		}
		r := reader{config: c, problems: p}
		r.mapping("", doc.Body, r.top)
	}
	return nil
}

// A reader walks one file's tree.
type reader struct {
	*config
	*problems
}

// mapping calls each for every key of n, which must be a mapping or nothing.
func (r reader) mapping(path string, n ast.Node, each func(key string, at int, v ast.Node)) {
	var pairs []*ast.MappingValueNode
	switch n := n.(type) {
	case nil, *ast.NullNode:
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	default:
		if path == "" {
			r.add(at(line(n)), "a configuration is keys with values, such as listen: 127.0.0.1:5000")
		} else {
			r.add(at(line(n)), "%s holds keys of its own; write them indented below it", path)
		}
	}
	for _, pair := range pairs {
		key, ok := pair.Key.(*ast.StringNode)
		if !ok {
			r.add(at(line(pair.Key)), "%q is not a plain key; write it out as a word", pair.Key.GetToken().Value)
			continue
		}
		each(key.Value, key.GetToken().Position.Line, pair.Value)
	}
}

// top takes a key of the file's first level.
func (r reader) top(key string, line int, v ast.Node) {
	switch key {
	case "upstreams":
		r.upstreams(key, line, v)
	case "webhooks":
		r.config.origin[key] = at(line)
		r.config.webhooks = r.webhooks(key, v)
	default:
		r.key(r.config.fields(), "", []string{"upstreams", "webhooks"}, r.config.origin)(key, line, v)
	}
}

// upstreams reads the mapping of upstreams by name.
func (r reader) upstreams(key string, line int, v ast.Node) {
	r.config.origin[key] = at(line)
	r.config.upstreams = nil // the file's list takes the place of the default one
	r.mapping(key, v, func(name string, line int, v ast.Node) {
		u := newUpstream(name)
		u.line = line
		path := "upstreams." + name + "."
		one := r.key(u.fields(), path, []string{"tags"}, nil)
		r.mapping(strings.TrimSuffix(path, "."), v, func(key string, line int, v ast.Node) {
			if key == "tags" {
				u.tags = r.tags(path+key, v)
				return
			}
			one(key, line, v)
		})
		if u.tags == nil {
			u.tags = []tagConfig{newTag()}
		}
		r.config.upstreams = append(r.config.upstreams, u)
	})
}

// tags reads an upstream's list of rules.
func (r reader) tags(path string, n ast.Node) (rules []tagConfig) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		r.add(at(line(n)), `%s is a list of rules; write [{match: "*", policy: ttl, ttl: 1m}]`, path)
		return nil
	}
	for i, item := range seq.Values {
		t := newTag()
		path := fmt.Sprintf("%s[%d]", path, i)
		r.mapping(path, item, r.key(t.fields(), path+".", nil, nil))
		rules = append(rules, t)
	}
	return rules
}

// webhooks reads the list of endpoints.
func (r reader) webhooks(path string, n ast.Node) (hooks []webhookConfig) {
	if _, none := n.(*ast.NullNode); none {
		return nil
	}
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		r.add(at(line(n)), "%s is a list; write - {name: ci, url: https://ci.corp/registry} below it", path)
		return nil
	}
	for i, item := range seq.Values {
		h := newWebhook(i)
		h.line = line(item)
		one := r.key(h.fields(), h.path()+".", []string{"headers"}, nil)
		r.mapping(h.path(), item, func(key string, at int, v ast.Node) {
			h.line = min(h.line, at) // a mapping's own token may be further down
			if key == "headers" {
				h.headers = r.headers(h.path()+"."+key, v)
				return
			}
			one(key, at, v)
		})
		hooks = append(hooks, *h)
	}
	return hooks
}

// headers reads a mapping of any keys to values.
func (r reader) headers(path string, n ast.Node) map[string]string {
	headers := map[string]string{}
	r.mapping(path, n, func(name string, line int, v ast.Node) {
		value, err := scalar(text{}, v)
		if err != nil {
			r.add(at(line), "%s.%s: %v", path, name, err)
			return
		}
		headers[name] = value
	})
	return headers
}

// key returns the function that takes one key of fields: it sets the value, goes
// down into what has keys of its own, and says what a wrong key may have meant.
// path is how messages name the place and others are keys that the caller knows
// beside fields. Where a value was said goes to origin, unless that is nil.
func (r reader) key(fields []field, path string, others []string, origin map[string]string) func(string, int, ast.Node) {
	var take func(prefix string) func(string, int, ast.Node)
	take = func(prefix string) func(string, int, ast.Node) {
		return func(key string, line int, v ast.Node) {
			key = prefix + key
			if f := lookup(fields, key); f != nil {
				text, err := scalar(f.value, v)
				if err == nil {
					err = f.value.Set(text)
				}
				if err != nil {
					r.add(at(line), "%s: %v", path+key, err)
				} else if origin != nil {
					origin[key] = at(line)
				}
				return
			}
			for _, f := range fields {
				if strings.HasPrefix(f.key, key+".") {
					r.mapping(path+key, v, take(key+"."))
					return
				}
			}
			r.unknown(fields, path, key, others, line)
		}
	}
	return take("")
}

// unknown reports a key that nobody knows.
func (r reader) unknown(fields []field, path, key string, others []string, line int) {
	words := others
	for _, f := range fields {
		words = append(words, f.key)
	}
	hint := "; see the configuration reference in README.md"
	if w := nearest.Word(key, words); w != "" {
		hint = fmt.Sprintf("; did you mean %q?", path+w)
	}
	r.add(at(line), "unknown key %q%s", path+key, hint)
}

// scalar returns the text of a node that should be one value, or a sequence of
// them where v is a list.
func scalar(v value, n ast.Node) (string, error) {
	_, many := v.(list)
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, nil
	case *ast.LiteralNode:
		return n.Value.Value, nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, nil
	case *ast.NullNode:
		if many {
			return "", nil
		}
		return "", errors.New("is empty; write a value or remove the key")
	case *ast.SequenceNode:
		if !many {
			return "", errors.New("takes one value, not a list")
		}
		var words []string
		for _, item := range n.Values {
			word, err := scalar(text{}, item)
			if err != nil {
				return "", err
			}
			words = append(words, word)
		}
		return strings.Join(words, ","), nil
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		return "", errors.New("YAML anchors, aliases and tags are not read here; write the value out")
	}
	return "", errors.New("takes a value, not keys of its own")
}

// at is how messages name a line.
func at(line int) string {
	if line == 0 {
		return ""
	}
	return fmt.Sprintf("line %d", line)
}

// line returns the line that n starts on, or 0.
func line(n ast.Node) int {
	if n == nil || n.GetToken() == nil {
		return 0
	}
	return n.GetToken().Position.Line
}
