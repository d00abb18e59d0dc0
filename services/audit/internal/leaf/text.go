package leaf

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// cleanTo gives s as text that Postgres, JSON and a terminal take: valid UTF-8 without control characters, which become U+FFFD,
// and cut off after limit bytes. What is lost here is not lost to the log: the digest covers the event's data.
func cleanTo(limit int, s string) string {
	if len(s) <= limit && printable(s) {
		return s
	}
	var cleaned strings.Builder
	for _, r := range s {
		if unicode.IsControl(r) {
			r = utf8.RuneError
		}
		if cleaned.Len()+utf8.RuneLen(r) > limit {
			break
		}
		cleaned.WriteRune(r)
	}
	return cleaned.String()
}

// printable tells whether s is nothing but printable ASCII.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func clean(s string) string {
	return cleanTo(maxText, s)
}
