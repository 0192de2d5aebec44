// Package nearest guesses which word was meant: for the error messages of files that
// people write, the configuration and the scenarios of load tests.
package nearest

// Word returns the one of words that key was probably meant to be, or "". Three
// letters away it is another word; so is one of which no more than the length is
// right. Of several as near the first counts.
func Word(key string, words []string) string {
	best, at := "", min(3, len(key))
	for _, w := range words {
		if d := distance(key, w); d < at {
			best, at = w, d
		}
	}
	return best
}

// distance is how many letters must be put in, taken out or changed to make b of a
// (Levenshtein's, by one row of the table).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
