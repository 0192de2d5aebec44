package upstream

import "strings"

// A challenge is one way in that a 401 offers.
type challenge struct {
	scheme string // lower case: bearer, basic
	params map[string]string
}

// parseChallenges reads WWW-Authenticate headers (RFC 9110, section 11.6.1): each may
// hold several challenges, whose parameters are tokens or quoted strings. What
// does not parse ends the header that it stands in.
func parseChallenges(headers []string) []challenge {
	var out []challenge
	for _, h := range headers {
		s := scanner(h)
		for {
			s.skip(" \t,")
			scheme := s.token()
			if scheme == "" {
				break
			}
			ch := challenge{strings.ToLower(scheme), map[string]string{}}
			for {
				before := s
				s.skip(" \t,")
				key := s.token()
				s.skip(" \t")
				if key == "" || !s.eat('=') {
					s = before // the next challenge, or the end
					break
				}
				s.skip(" \t")
				value, ok := s.value()
				if !ok {
					s = ""
					break
				}
				ch.params[strings.ToLower(key)] = value
			}
			out = append(out, ch)
		}
	}
	return out
}

// scanner is what is left to read of a header.
type scanner string

func (s *scanner) skip(chars string) { *s = scanner(strings.TrimLeft(string(*s), chars)) }

func (s *scanner) eat(c byte) bool {
	if len(*s) == 0 || (*s)[0] != c {
		return false
	}
	*s = (*s)[1:]
	return true
}

func (s *scanner) token() string {
	i := 0
	for i < len(*s) && isToken((*s)[i]) {
		i++
	}
	t := (*s)[:i]
	*s = (*s)[i:]
	return string(t)
}

func isToken(c byte) bool {
	return c > ' ' && c < 0x7f && !strings.ContainsRune(`()<>@,;:\"/[]?={}`, rune(c))
}

func (s *scanner) value() (string, bool) {
	if !s.eat('"') {
		// Some write URLs and scopes without quotes.
		i := strings.IndexAny(string(*s), " \t,")
		if i < 0 {
			i = len(*s)
		}
		v := string((*s)[:i])
		*s = (*s)[i:]
		return v, v != ""
	}
	var b strings.Builder
	for i := 0; i < len(*s); i++ {
		switch c := (*s)[i]; {
		case c == '"':
			*s = (*s)[i+1:]
			return b.String(), true
		case c == '\\' && i+1 < len(*s):
			i++
			b.WriteByte((*s)[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}
