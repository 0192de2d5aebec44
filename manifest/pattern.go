package manifest

// MatchPattern reports whether s matches p, in which '*' stands for any bytes,
// '/' among them, so that team/* claims all that lies below team/, and '?' for one.
// It takes at most len(p)*len(s) steps.
func MatchPattern(p, s string) bool {
	star, from := -1, 0
	i, j := 0, 0
	for j < len(s) {
		switch {
		case i < len(p) && p[i] == '*':
			star, from = i, j
			i++
		case i < len(p) && (p[i] == '?' || p[i] == s[j]):
			i++
			j++
		case star >= 0:
			from++
			i, j = star+1, from
		default:
			return false
		}
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}
