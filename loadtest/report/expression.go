package report

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"hostlocal/loadtest"
)

// A dimension is the powers of time and of bytes in a quantity, so that a
// comparison of seconds with bytes, or with a bare 3, is an error and not a pass.
type dimension struct{ time, bytes int }

var (
	plain = dimension{}
	time1 = dimension{time: 1}
	byte1 = dimension{bytes: 1}
)

func (d dimension) String() string {
	switch d {
	case plain:
		return "a plain number"
	case time1:
		return "a time (write 3s, 250ms)"
	case byte1:
		return "a number of bytes (write 128MiB)"
	case dimension{bytes: 1, time: -1}:
		return "bytes a second"
	}
	return fmt.Sprintf("s^%d·B^%d", d.time, d.bytes)
}

func dimensionOf(k kind) dimension {
	switch k {
	case seconds:
		return time1
	case byteCount:
		return byte1
	case rate:
		return dimension{bytes: 1, time: -1}
	}
	return plain
}

// A round looks up a contender's measurement: "" is the one that is judged. It is
// nil where there is none.
type round func(contender string) *loadtest.Measurement

// An expression is one side of an assertion.
type expression struct {
	value      func(round) float64
	dimension  dimension
	contenders []string // that it names
}

// A parser reads
//
//	assertion  = expression ("<=" | ">=" | "==" | "!=" | "<" | ">") expression
//	expression = term { ("+" | "-") term }
//	term       = factor { ("*" | "/") factor }
//	factor     = number [unit] | "(" expression ")" | quantity
//	quantity   = quantile "(" ("pull" | "first_byte") ["," contender] ")"
//	           | column ["(" contender ")"]
//	quantile   = "p50" | "p90" | "p99" | "p999" | "max" | "mean"
//	column     = "wall" | "amplification" | "sources.disk" | ...
type parser struct{ lexer }

// assertion reads the whole text.
func (p *parser) assertion() (left, right expression, op string, err error) {
	if left, err = p.expression(); err != nil {
		return
	}
	op, ok := p.comparison()
	if !ok {
		return left, right, "", fmt.Errorf("%s is followed by %q where a comparison belongs: <=, >=, ==, !=, < or >", quoteStart(p.text[:p.at]), p.text[p.at:])
	}
	if right, err = p.expression(); err != nil {
		return
	}
	if !p.done() {
		return left, right, "", fmt.Errorf("it should end before %q", p.text[p.at:])
	}
	if left.dimension != right.dimension {
		return left, right, "", fmt.Errorf("the left side is %s, and the right side is %s", left.dimension, right.dimension)
	}
	return left, right, op, nil
}

func (p *parser) expression() (expression, error) {
	left, err := p.term()
	for err == nil {
		plus := p.take("+")
		if !plus && !p.take("-") {
			return left, nil
		}
		var right expression
		if right, err = p.term(); err != nil {
			break
		}
		if left.dimension != right.dimension {
			return left, fmt.Errorf("it adds %s and %s", left.dimension, right.dimension)
		}
		sign := -1.0
		if plus {
			sign = 1
		}
		left = combine(left, right, left.dimension, func(a, b float64) float64 { return a + sign*b })
	}
	return left, err
}

func (p *parser) term() (expression, error) {
	left, err := p.factor()
	for err == nil {
		by := p.take("*")
		if !by && !p.take("/") {
			return left, nil
		}
		var right expression
		if right, err = p.factor(); err != nil {
			break
		}
		l, r := left.dimension, right.dimension
		if by {
			left = combine(left, right, dimension{l.time + r.time, l.bytes + r.bytes}, func(a, b float64) float64 { return a * b })
		} else {
			left = combine(left, right, dimension{l.time - r.time, l.bytes - r.bytes}, func(a, b float64) float64 { return a / b })
		}
	}
	return left, err
}

func (p *parser) factor() (expression, error) {
	if p.take("(") {
		inner, err := p.expression()
		if err == nil && !p.take(")") {
			err = fmt.Errorf("a bracket is not closed before %q", p.text[p.at:])
		}
		return inner, err
	}
	v, d, ok, err := p.number()
	if err != nil {
		return expression{}, err
	}
	if ok {
		return expression{value: func(round) float64 { return v }, dimension: d}, nil
	}
	return p.quantity()
}

// quantity is a column, of the judged contender or of a named one.
func (p *parser) quantity() (expression, error) {
	name := p.name()
	var args []string
	if name != "" && p.take("(") {
		for {
			args = append(args, p.argument())
			if p.take(",") {
				continue
			}
			if !p.take(")") {
				return expression{}, fmt.Errorf("the bracket after %q is not closed", name)
			}
			break
		}
	}
	if slices.Contains(quantileNames, name) {
		if len(args) == 0 || args[0] != "pull" && args[0] != "first_byte" {
			return expression{}, fmt.Errorf("%s needs what it is of: %s(pull) or %s(first_byte)", name, name, name)
		}
		name, args = name+"("+args[0]+")", args[1:]
	}
	col, ok := columnNamed(name)
	switch {
	case !ok && name == "":
		return expression{}, fmt.Errorf("%q is where a number or one of these belongs: %s", p.text[p.at:], possible())
	case !ok:
		return expression{}, fmt.Errorf("there is no %q; possible are %s", name, possible())
	case len(args) > 1 || len(args) == 1 && args[0] == "":
		return expression{}, fmt.Errorf("%s takes the name of one contender, as in --compare, or nothing", col.name)
	}
	contender := strings.Join(args, "")
	e := expression{dimension: dimensionOf(col.kind), value: func(r round) float64 {
		m := r(contender)
		if m == nil {
			return math.NaN()
		}
		return col.of(m)
	}}
	if contender != "" {
		e.contenders = []string{contender}
	}
	return e, nil
}

func combine(l, r expression, d dimension, f func(a, b float64) float64) expression {
	return expression{
		value:      func(in round) float64 { return f(l.value(in), r.value(in)) },
		dimension:  d,
		contenders: slices.Concat(l.contenders, r.contenders),
	}
}

// possible lists what an assertion may name.
func possible() string {
	names := []string{"p50|p90|p99|p999|max|mean(pull|first_byte)"}
	for _, c := range columns {
		if !strings.Contains(c.name, "(") {
			names = append(names, c.name)
		}
	}
	return strings.Join(append(names, "sources.disk, sources.fill, sources.store, sources.upstream"), ", ")
}

// quoteStart names the beginning of an assertion in a message.
func quoteStart(s string) string {
	if s = strings.TrimSpace(s); s == "" {
		return "the beginning"
	}
	return fmt.Sprintf("%q", s)
}
